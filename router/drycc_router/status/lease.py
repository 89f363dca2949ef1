"""A Lease (coordination.k8s.io/v1) as plain data: who holds it, for how long, and what to write into it.

Clocks of replicas differ, so nobody's times are believed. Who wants the lease watches whether it *changes*: one that
stayed the same for as long as it is good, by the watcher's own clock, has nobody behind it any more. The times that are
written down are for people.

What must not enter: asking, sleeping, and clocks; the present is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

__all__ = ["LONGEST", "SECONDS", "Leader", "Lease", "Observation", "claimed", "released"]

SECONDS: Final = 15
"""How long a lease is good after it was renewed (``leaseDurationSeconds``)."""
LONGEST: Final = 60
"""Seconds that are believed of a lease which somebody else wrote: nobody may be waited for much longer than that."""

Raw = Mapping[str, Any]


class Leader(Protocol):
    """What is asked of ``status.election.Election``."""

    @property
    def left(self) -> float:
        """Seconds for which this replica may write; 0: it may not."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a Lease says. Whatever does not have the shape Kubernetes gives it counts as not said."""

    holder: str = ""
    """"": nobody."""
    seconds: float = SECONDS
    renewed: str = ""
    transitions: int = 0

    @classmethod
    def read(cls, raw: Raw) -> Lease:
        """What stands in an object of the API."""
        spec = _spec(raw)
        holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        return cls(
            holder=holder if isinstance(holder, str) else "",
            seconds=float(min(max(seconds, 1), LONGEST)) if isinstance(seconds, int) else float(SECONDS),
            renewed=renewed if isinstance(renewed, str) else "",
            transitions=transitions if isinstance(transitions, int) and transitions > 0 else 0,
        )


class Observation:
    """What one replica has seen of the lease, by its own clock (monotonic seconds)."""

    __slots__ = ("_seen", "_since")

    def __init__(self) -> None:
        self._seen: Lease | None = None
        self._since = 0.0

    def see(self, lease: Lease, now: float) -> None:
        """Note what it says at ``now``."""
        if lease != self._seen:
            self._seen, self._since = lease, now

    def free_in(self, identity: str, now: float) -> float:
        """Seconds until ``identity`` may take it, if it does not change before; 0: at once."""
        seen = self._seen
        if seen is None or seen.holder in ("", identity):
            return 0.0
        return max(0.0, self._since + seen.seconds - now)


def claimed(raw: Raw, identity: str, now: datetime) -> dict[str, Any]:
    """The object with which ``identity`` takes the lease, or renews it. ``now`` is aware.

    It carries the version of ``raw``, so the server refuses it if anybody wrote in between.
    """
    before = Lease.read(raw)
    spec = {**_spec(raw), "holderIdentity": identity, "leaseDurationSeconds": SECONDS, "renewTime": _written(now)}
    if before.holder != identity:
        spec["acquireTime"] = _written(now)
        spec["leaseTransitions"] = before.transitions + 1
    return {**raw, "spec": spec}


def released(raw: Raw, now: datetime) -> dict[str, Any]:
    """The object with which its holder gives the lease up, so that nobody has to wait for it."""
    spec = {**_spec(raw), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _written(now)}
    return {**raw, "spec": spec}


def _spec(raw: Raw) -> Raw:
    spec = raw.get("spec")
    return spec if isinstance(spec, dict) else {}


def _written(now: datetime) -> str:
    """A MicroTime: the server decodes nothing but exactly six digits of fraction."""
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
