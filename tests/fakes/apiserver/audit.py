"""Who read and wrote what: one record per request, as the audit log of a real server has.

It is how the suite shows that no foreign Secret was ever read. It holds names, never contents or tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

__all__ = ["Audit", "Record"]

READS = frozenset({"get", "list", "watch"})


@dataclass(slots=True)
class Record:
    """One request. ``code`` is 0 until the head of the answer is decided."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    user_agent: str
    query: str
    code: int = 0

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class Audit:
    """All requests since the start or the last ``clear``, in the order they came."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def clear(self) -> None:
        self.records.clear()

    def of(self, verb: str = "", resource: str = "", namespace: str = "", name: str = "") -> list[Record]:
        """Records that fit everything that is given."""
        wanted = {"verb": verb, "resource": resource, "namespace": namespace, "name": name}
        return [
            record
            for record in self.records
            if all(getattr(record, field) == value for field, value in wanted.items() if value)
        ]

    def foreign_secret_reads(self, allowed: Collection[tuple[str, str]]) -> list[Record]:
        """Answered reads of Secrets other than the ``allowed`` pairs of namespace and name.

        A list or watch that is not narrowed to one name by its field selector reads everything it covers, so it is
        always foreign. A refused request read nothing.
        """
        return [
            record
            for record in self.records
            if record.resource == "secrets"
            and record.verb in READS
            and record.code < 400
            and (not record.namespace or (record.namespace, record.name) not in allowed)
        ]
