"""What can go wrong with an answer, and for which requests it shall.

Faults are laid out by tests and taken by requests. Nothing here sends anything: `server.py` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Action", "Fault", "Faults"]


class Action(StrEnum):
    """What happens to a request instead of, or to, its answer."""

    STATUS = "status"
    """Answer with ``code`` and a ``Status`` document; with ``Retry-After`` where ``retry_after`` says so."""
    GONE_EVENT = "gone-event"
    """Watch: 200, and a single ERROR event with 410. (As HTTP status it is ``STATUS`` with ``code`` 410.)"""
    FUTURE_EVENT = "future-event"
    """Watch: 200, and a single ERROR event with 504 *Too large resource version*, as behind an etcd that is too old."""
    CROWD = "crowd"
    """429 as priority and fairness says it: plain text, and ``Retry-After: 1``."""
    EMPTY = "empty"
    """List: 200 with no items at the current version, whatever there is. A watch begins with nothing, and goes on."""
    NO_METADATA = "no-metadata"
    """List: one more item in front, without ``metadata``. Watch: such an event in front."""
    TRUNCATED = "truncated"
    """Sound HTTP around half of the JSON; a watch ends after half of its first line."""
    CUT = "cut"
    """Half of the answer, then FIN: HTTP itself is broken off."""
    RESET = "reset"
    """RST instead of an answer."""
    HTML = "html"
    """200 with a web page, as a proxy in between would do."""
    TEXT_TYPE = "text-type"
    """The right answer as ``text/plain``."""
    STALL = "stall"
    """Nothing at all, until the client gives up."""
    SILENT = "silent"
    """The head of the answer, then nothing more and no end: a peer that vanished."""
    DRIP = "drip"
    """The right answer byte by byte, ``seconds`` apart."""


@dataclass(slots=True)
class Fault:
    """One action, and which requests meet it: those that fit everything that is given here.

    ``times``: how many requests meet it before it is over; None: all, until the faults are cleared.
    """

    action: Action
    verb: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    times: int | None = None
    code: int = 500
    retry_after: int | None = None
    seconds: float = 0.01

    def fits(self, verb: str, resource: str, namespace: str, name: str) -> bool:
        return (
            self.verb in ("", verb)
            and self.resource in ("", resource)
            and self.namespace in ("", namespace)
            and self.name in ("", name)
        )


class Faults:
    """The faults that are laid out, oldest first; a request takes the first that fits it."""

    def __init__(self) -> None:
        self._laid: list[Fault] = []

    def __len__(self) -> int:
        return len(self._laid)

    def lay(self, fault: Fault) -> None:
        self._laid.append(fault)

    def clear(self) -> None:
        self._laid.clear()

    def take(self, verb: str, resource: str, namespace: str, name: str) -> Fault | None:
        for fault in self._laid:
            if fault.fits(verb, resource, namespace, name):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._laid.remove(fault)
                return fault
        return None
