"""What is told of objects: how many Problems each has, and when certificates expire.

Owners may make as many objects as they like, so there is a budget of series here as well, with the same rule as for
apps (``admin.app_series``): who was first has a series of its own for as long as there is room, and keeps it; who
comes later is counted as ``other``. ``/problems`` and ``/certificates`` have all of them.

Snapshots come more often than somebody reads this, and most of what they say is what the one before said. So lines are
kept, and what is new is found by which objects are the same ones: a snapshot's are never changed.

What must not enter: counters, which must never go back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from drycc_router.admin.exposition import Family, escaped, number
from drycc_router.compile.revision import CertificateReport
from drycc_router.model.problems import Problem

__all__ = ["CertificateSeries", "ProblemSeries"]

OTHER: Final = "other"

_Key: TypeAlias = tuple[str, str, str]
"""Namespace, name, and the reason or the subject."""


class ProblemSeries:
    """Problems by object and reason. One that is gone is shown once more, as 0, so that alerts resolve at once.

    For one thread at a time.
    """

    def __init__(self, series: int) -> None:
        self._series = series
        self._problems: Sequence[Problem] = ()
        """What was told last."""
        self._own: Counter[_Key] = Counter()
        """Of those that have series of their own, how many Problems there are."""
        self._others: Counter[_Key] = Counter()
        self._rest: Counter[_Key] = Counter()
        """Those together, by reason, as they are shown."""
        self._lines: dict[_Key, bytes] = {}
        self._ended: set[_Key] = set()
        """Those of which there are none: they go when they have been shown."""
        self.folded = 0
        """Those that ever were counted as ``other``."""

    def write(self, problems: Sequence[Problem]) -> None:
        """Bring the lines up to date: all there are now, a snapshot's, notes included."""
        for key in self._follow(problems):
            count = self._rest[key] if key in self._rest else self._own[key]
            self._lines[key] = _line("router_route_invalid", _KEYS, key, count)
            if count:
                self._ended.discard(key)
            else:
                self._ended.add(key)

    def family(self) -> Family:
        """All series, as they were written last."""
        help_text = "Problems of one object with one reason; see /problems."
        family = Family("gauge", "router_route_invalid", help_text, list(self._lines.values()))
        for key in self._ended:
            for shown in (self._own, self._rest, self._lines):
                shown.pop(key, None)
        self._ended.clear()
        return family

    def _follow(self, problems: Sequence[Problem]) -> set[_Key]:
        """Count what came and what went; returns the series that differ."""
        known, self._problems = self._problems, problems
        if known is problems:
            return set()
        before, now = set(map(id, known)), set(map(id, problems))
        came = [self._count(each, 1) for each in problems if id(each) not in before and not each.is_note]
        went = [self._count(each, -1) for each in known if id(each) not in now and not each.is_note]
        return {*came, *went}

    def _count(self, problem: Problem, step: int) -> _Key:
        key = (problem.object.namespace, problem.object.name, problem.reason.value)
        if key not in self._others and (key in self._own or len(self._own) < self._series):
            self._own[key] += step
            return key
        self.folded += key not in self._others
        self._others[key] += step
        if not self._others[key]:
            del self._others[key]
        shown = ("", OTHER, problem.reason.value)
        self._rest[shown] += step
        return shown


class CertificateSeries:
    """When certificates expire; of those without series of their own, the first one to do so."""

    def __init__(self, series: int) -> None:
        self._series = series
        self._served: Mapping[str, CertificateReport] = {}
        """What was told last."""
        self._own: set[_Key] = set()
        self._others: set[_Key] = set()
        self._lines: list[bytes] = []
        self.folded = 0
        """Those that ever were counted as ``other``."""

    def family(self, served: Mapping[str, CertificateReport]) -> Family:
        """All that are in use: a snapshot's. For one thread at a time."""
        if served is not self._served:
            self._served = served
            self._write(
                {
                    (
                        report.namespace,
                        report.secret,
                        report.certificate.subject,
                    ): report.certificate.not_after.timestamp()
                    for report in served.values()
                }
            )
        name = "router_tls_cert_not_after_timestamp_seconds"
        return Family("gauge", name, "When a certificate in use expires, Unix time.", self._lines)

    def _write(self, expiry: Mapping[_Key, float]) -> None:
        self._own &= expiry.keys()
        self._others &= expiry.keys()
        for key in expiry.keys() - self._own - self._others:
            if len(self._own) < self._series:
                self._own.add(key)
            else:
                self._others.add(key)
                self.folded += 1
        shown = {key: end for key, end in expiry.items() if key in self._own}
        if self._others:
            shown["", OTHER, ""] = min(expiry[key] for key in self._others)
        name = "router_tls_cert_not_after_timestamp_seconds"
        self._lines = [_line(name, _SECRETS, key, end) for key, end in shown.items()]


_KEYS: Final = 'name="{1}",namespace="{0}",reason="{2}"'
_SECRETS: Final = 'cn="{2}",namespace="{0}",secret="{1}"'


def _line(name: str, labels: str, key: _Key, value: float) -> bytes:
    return f"{name}{{{labels.format(*map(escaped, key))}}} {number(value)}\n".encode()
