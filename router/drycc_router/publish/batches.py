"""A change as parts, each small enough to be read and made current between two requests, and parts as a change.

The parts of a table keep what a table promises (``routing.definitions.TableChange``): whatever a host rule names
exists, after every part. So routes come before hosts, and hosts go before routes. A change of up to :data:`PART`
entries, which is every change of a working day, stays whole and is seen whole or not at all.

What must not enter: channels, loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import islice
from typing import Any, Final, TypeVar

from drycc_proxy.routing.definitions import Edge, Route, StreamRoute, TableChange
from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy
from drycc_tls.update import CertificateChange

__all__ = ["PART", "Known", "certificate_parts", "table_parts", "whole_of"]

PART: Final = 256
"""Entries of one part of a table: some milliseconds of work."""
PAIRS: Final = 32
"""Certificates in one part."""

_GONE: Final = "gone_"
_FIELDS: Final = frozenset(each.name for each in fields(TableChange))
_TABLES: Final = tuple(sorted(name for name in _FIELDS if _GONE + name in _FIELDS))
"""Fields of a table's change that have names, and beside them a set of names that are gone."""

K = TypeVar("K")
V = TypeVar("V")


def table_parts(change: TableChange) -> Iterator[TableChange]:
    """The change in parts to be applied in this order; at least one."""
    entries = sum(len(getattr(change, name)) + len(getattr(change, _GONE + name)) for name in _TABLES)
    if entries <= PART:
        yield change
        return
    generation = change.generation
    for routes in _slices(change.routes, PART):
        yield TableChange(generation, routes=routes)
    for hosts in _slices(change.hosts, PART):
        yield TableChange(generation, hosts=hosts)
    if change.gone_hosts:
        yield TableChange(generation, gone_hosts=change.gone_hosts)
    yield replace(change, routes={}, hosts={}, gone_hosts=frozenset())


def certificate_parts(change: CertificateChange) -> Iterator[CertificateChange]:
    """The change in parts, at least one; :func:`whole_of` makes it of them again."""
    for pairs in _slices(change.certificates, PAIRS):
        yield CertificateChange(change.generation, certificates=pairs, default=change.default)
    yield replace(change, certificates={})


def whole_of(parts: Sequence[CertificateChange]) -> CertificateChange:
    """The change that these are the parts of, in their order. Costs what it is large, however many they are."""
    certificates = {ident: certificate for part in parts for ident, certificate in part.certificates.items()}
    return replace(parts[-1], certificates=certificates)


def _slices(mapping: Mapping[K, V], size: int) -> Iterator[dict[K, V]]:
    entries = iter(mapping.items())
    while part := dict(islice(entries, size)):
        yield part


class Known:
    """What is current in this process, as definitions; to note a change costs what the change is large.

    A worker makes of a whole table the difference that it is here: a new control process knows nothing of what the one
    before it sent, so it sends everything, and what is the same already must not be touched again. Control sends
    everything to a worker that is new.
    """

    def __init__(self) -> None:
        self._table: dict[str, dict[Any, Any]] = {name: {} for name in _TABLES}
        self._edge: Edge | None = None
        self._certificates: dict[str, Certificate] = {}
        self._names: dict[str, str] = {}
        self._default: str | None = None
        self._policy: TlsPolicy | None = None

    @property
    def routes(self) -> Mapping[str, Route]:
        """The routes that are current."""
        return self._table["routes"]

    @property
    def streams(self) -> Mapping[str, StreamRoute]:
        """The stream routes that are current."""
        return self._table["streams"]

    def of_certificates(self, idents: Iterable[str]) -> frozenset[str]:
        """Those ids that are of current certificates."""
        return frozenset(ident for ident in idents if ident in self._certificates)

    def table(self, generation: int) -> TableChange:
        """All of the table, as a change to nothing."""
        whole: dict[str, Any] = {name: dict(known) for name, known in self._table.items()}
        return TableChange(generation, edge=self._edge, **whole)

    def certificates(self, generation: int) -> CertificateChange:
        """All certificates, as a change to nothing."""
        return CertificateChange(
            generation,
            certificates=dict(self._certificates),
            names=dict(self._names),
            default=self._default,
            policy=self._policy,
        )

    def note_table(self, change: TableChange) -> None:
        """This change is current now."""
        for name in _TABLES:
            known = self._table[name]
            for gone in getattr(change, _GONE + name):
                known.pop(gone, None)
            known.update(getattr(change, name))
        self._edge = self._edge if change.edge is None else change.edge

    def note_certificates(self, change: CertificateChange) -> None:
        """This change is current now."""
        for ident in change.gone:
            self._certificates.pop(ident, None)
        for host in change.gone_names:
            self._names.pop(host, None)
        self._certificates.update(change.certificates)
        self._names.update(change.names)
        self._default = change.default
        self._policy = self._policy if change.policy is None else change.policy

    def news_in_table(self, part: TableChange) -> TableChange:
        """A part of a whole table without what is current already."""
        different: dict[str, Any] = {name: _news(getattr(part, name), self._table[name]) for name in _TABLES}
        return replace(part, **different, edge=None if part.edge == self._edge else part.edge)

    def gone_from_table(self, parts: list[TableChange], generation: int) -> TableChange:
        """What is current and in none of the parts of a whole table."""
        gone: dict[str, Any] = {
            _GONE + name: frozenset(self._table[name]).difference(*(getattr(part, name) for part in parts))
            for name in _TABLES
        }
        return replace(TableChange(generation), **gone)

    def news_in_certificates(self, whole: CertificateChange) -> CertificateChange:
        """What the change to everything in ``whole`` is here."""
        return replace(
            whole,
            certificates=_news(whole.certificates, self._certificates),
            gone=frozenset(self._certificates.keys() - whole.certificates.keys()),
            names=_news(whole.names, self._names),
            gone_names=frozenset(self._names.keys() - whole.names.keys()),
        )


def _news(said: Mapping[K, V], known: Mapping[K, V]) -> dict[K, V]:
    return {name: value for name, value in said.items() if known.get(name) != value}
