"""Write the pages of ``docs/`` that are made from code, so that they cannot say anything else than the code does.

Run as ``make docs``; a test fails where a committed page differs from what is made here. What must not enter: prose
that is not about one row of a table in the code. Such prose has its own page, written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from proxy.errors import Failure, Retry, Side

ERRORS_INTRODUCTION: Final = """\
<!-- Made by `make docs` from proxy/errors.py. Edit that, not this. -->

# Errors the router answers with

Every answer that comes from the router and not from an app carries its machine name in the response header
`X-Router-Error`. The same word stands in the access log (`error_reason`) and in the metric
`router_errors_total{app,reason}`. An error answer without that header
came from the app itself.

What to do about each: [Troubleshooting](operations.md#troubleshooting-by-x-router-error).
"""

ERRORS_FOOTNOTE: Final = """
—: the head of the app's answer was already on its way, or nobody was left to read one; the connection is broken off,
and only the log and the metric can tell.
"""

SIDES: Final[Mapping[Side, str]] = {
    Side.CLIENT: "The client's doing: the request, or the way it was sent",
    Side.POLICY: "Routing and policy: what the app's owner or the operator said",
    Side.UPSTREAM: "The app's doing: it did not answer as it should",
    Side.ROUTER: "The router's own state",
}

RETRIES: Final[Mapping[Retry, str]] = {
    Retry.NEVER: "no",
    Retry.ANOTHER_ENDPOINT: "on another endpoint",
    Retry.IF_REUSED: "if the connection was a reused one and the request may be repeated",
}


def errors_page() -> str:
    """Return ``docs/errors.md``: one table per side, in the order of ``proxy.errors.Failure``."""
    parts = [ERRORS_INTRODUCTION]
    for side, heading in SIDES.items():
        parts.append(f"\n## {heading}\n")
        parts.append("\n| `X-Router-Error` | status | what the client reads | tried again |\n|---|--:|---|---|\n")
        parts += (
            f"| `{failure.value}` | {failure.status or '—'} | {failure.sentence} | {RETRIES[failure.retry]} |\n"
            for failure in Failure
            if failure.side is side
        )
    return "".join([*parts, ERRORS_FOOTNOTE])


PAGES: Final[Mapping[str, Callable[[], str]]] = {"errors.md": errors_page}
"""File name under ``docs/`` → what it must hold."""


def main() -> int:
    """Write every page whose text changed; name each on standard error."""
    for name, page in PAGES.items():
        path, text = Path(__file__).with_name(name), page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stderr.write(f"{path}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
