"""What every process of ours sets up before it serves: limits, hooks, collection of garbage, the log.

What must not enter: what the process is for.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import socket
import sys
from pathlib import Path
from typing import Any, Final

from drycc_proxy.kernel.sandbox import harden
from drycc_proxy.kernel.sockets import descriptors, open_descriptors
from drycc_proxy.state.admission import for_clients
from drycc_proxy.telemetry.log_sink import LineSink
from drycc_router.process import gc_tuning
from drycc_router.settings import LogTo
from drycc_tls.sni import without_undecodable_names

__all__ = ["close_log", "log_unhandled", "open_log", "own_identity", "prepare", "warn_of_few_places"]

log = logging.getLogger(__name__)

FEW_PLACES: Final = 1000
"""Client connections that a worker should have room for."""
LOG_FLUSH_SECONDS: Final = 1.0
"""How long the end of a process waits for the reader of the access log."""


def prepare() -> None:
    """Limits and hooks that hold for everything in this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection is a descriptor, most are two
    harden()
    gc_tuning.begin()
    sys.setswitchinterval(0.001)  # seconds; a thread that parses manifests hands the loop its turn back sooner
    sys.unraisablehook = without_undecodable_names(sys.unraisablehook)


def warn_of_few_places() -> None:
    """Warn if the limit of open files leaves a worker few places for clients. Once, after :func:`prepare`."""
    files, used = descriptors(), open_descriptors()
    places = for_clients(files, used)
    if places < FEW_PLACES:
        enough = files
        while for_clients(enough, used) < FEW_PLACES:
            enough += 64
        log.warning(
            "a limit of %d open files leaves each worker %d places for clients: raise it to %d at least (ulimit -n, "
            "LimitNOFILE=)",
            files,
            places,
            enough,
        )


def log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught on the loop. Not by asyncio's own handler, which shows the text of the exception."""
    log.error("%s", context["message"], exc_info=context.get("exception"))


def own_identity() -> str:
    """What no other replica is called, where nobody said what this one is."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


def open_log(to: Path | LogTo) -> LineSink | None:
    """Where the access log goes; None: nowhere. Raises OSError."""
    match to:
        case LogTo.NOWHERE:
            return None
        case LogTo.STDOUT:
            return LineSink(sys.stdout.fileno())
        case Path():
            return LineSink(to)


def close_log(sink: LineSink | None) -> None:
    """Write what the access log still has to say, if somebody reads it."""
    if sink and not sink.close(LOG_FLUSH_SECONDS):
        log.warning("the access log's reader is not reading: its last lines are lost")
