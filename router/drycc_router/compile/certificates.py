"""Secrets → certificates: read once per version, the last good pair kept, and what to say of each (contract 8).

What must not enter: which name presents which certificate (``compile``), and any byte of a Secret in a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import ObjectKey, Secret
from drycc_router.model.problems import Problem, Reason
from drycc_router.translate.references import candidates
from drycc_tls.certificate import Certificate
from drycc_tls.errors import BadCertificate
from drycc_tls.secret import read_pair

__all__ = ["KeyPairReader", "Pair", "Pairs", "judge", "next_judgement"]

SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a Secret gives: its certificate, or the last good one, or none; and the Problem with what stands there."""

    secret: Secret
    certificate: Certificate | None
    problem: Problem | None


class KeyPairReader(Protocol):
    """Who reads pairs, as ``secret`` does; ``roles.certificate_reader`` does it ahead of time."""

    def foresee(self, data: Mapping[str, bytes]) -> None:
        """A pair that will be asked for."""

    def catch_up(self) -> None:
        """Everything that was foreseen is about to be asked for."""

    def read(self, data: Mapping[str, bytes]) -> Certificate:
        """What it is. Raises BadCertificate."""


class ReadHere:
    """When it is asked for, by whoever asks."""

    def foresee(self, data: Mapping[str, bytes]) -> None:
        """Nothing comes of it."""

    def catch_up(self) -> None:
        """There is nothing to catch up with."""

    def read(self, data: Mapping[str, bytes]) -> Certificate:
        """What it is. Raises BadCertificate."""
        return read_pair(data)


class Pairs:
    """The pairs of those Secrets that somebody asked for. Reading one costs up to some milliseconds, so nobody else's
    is read."""

    __slots__ = ("_cluster", "_pairs", "_reader")

    def __init__(self, cluster: Cluster, reader: KeyPairReader | None = None) -> None:
        self._cluster = cluster
        self._reader = reader or ReadHere()
        self._pairs: dict[ObjectKey, Pair] = {}

    def foresee(self, key: ObjectKey) -> None:
        """A Secret that will be asked for before long: only Secrets that a Service names are ever heard of."""
        secret = self._cluster.get(Secret, key.namespace, key.name)
        if secret is not None:
            self._reader.foresee(secret.data)

    def catch_up(self) -> None:
        """Everything that was foreseen is about to be asked for."""
        self._reader.catch_up()

    def get(self, key: ObjectKey) -> Pair | None:
        """The pair of a Secret; None when there is no such Secret, and then its last good pair is forgotten too."""
        secret = self._cluster.get(Secret, key.namespace, key.name)
        if secret is None:
            self._pairs.pop(key, None)
            return None
        known = self._pairs.get(key)
        if known is not None and known.secret is secret:
            return known
        pair = self._read(secret, known.certificate if known else None)
        self._pairs[key] = pair
        return pair

    def _read(self, secret: Secret, last_good: Certificate | None) -> Pair:
        try:
            return Pair(secret, self._reader.read(secret.data), None)
        except BadCertificate as bad:
            kept = "; the previous pair stays in use" if last_good else ""
            problem = Problem(Reason.CERTIFICATE_BAD, secret.key, "", "", f"{bad.message}{kept}")
            return Pair(secret, last_good, problem)

    def forget(self, key: ObjectKey) -> None:
        """Nobody uses this Secret any more: its last good pair is not worth keeping."""
        self._pairs.pop(key, None)

    def chosen(self, namespace: str, name: str) -> ObjectKey | None:
        """The Secret that a mapping to ``name`` means in ``namespace``: the first one that is there."""
        for key in candidates(namespace, name):
            if key in self._cluster:
                return key
        return None


def judge(key: ObjectKey, certificate: Certificate, now: datetime) -> list[Problem]:
    """What the clock has to say about a certificate; it is served all the same."""
    start, end = certificate.not_before, certificate.not_after
    if now > end:
        return [_about(Reason.CERTIFICATE_EXPIRED, key, end, "expected one that is still valid; this one expired")]
    if now > end - SOON:
        message = "expected one that is valid for 14 more days; this one expires"
        return [_about(Reason.CERTIFICATE_EXPIRES_SOON, key, end, message)]
    if now < start:
        return [_about(Reason.CERTIFICATE_NOT_YET_VALID, key, start, "expected one that is valid now; this one begins")]
    return []


def next_judgement(certificate: Certificate, now: datetime) -> datetime | None:
    """When ``judge`` will next say something else; None: never again."""
    moments = (certificate.not_before, certificate.not_after - SOON, certificate.not_after)
    return min((moment for moment in moments if moment >= now), default=None)


def _about(reason: Reason, key: ObjectKey, moment: datetime, message: str) -> Problem:
    return Problem(reason, key, "tls.crt", "", f"{message} {moment:%Y-%m-%d %H:%M} UTC")
