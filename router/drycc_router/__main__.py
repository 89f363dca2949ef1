"""``python -m drycc_router``: the same as ``drycc-router``."""

from __future__ import annotations

import sys

from drycc_router.cli import main

if __name__ == "__main__":
    sys.exit(main())
