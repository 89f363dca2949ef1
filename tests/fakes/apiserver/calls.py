"""What a request asks for: address and query read into one frozen Call, as "Resource URIs" and the verbs define it.

Only reading: whether it may, and what it gets, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.fakes.apiserver.kinds import KINDS, NAMESPACES, Kind
from tests.fakes.apiserver.refusals import Refused, bad_request, invalid
from tests.fakes.apiserver.selectors import fields_of, labels_of
from tests.fakes.apiserver.store import EVERYTHING, Selection

__all__ = ["Call", "read_call"]

_BY_ADDRESS = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
_VERBS_OF_COLLECTION = {"GET": "list", "POST": "create"}
_VERBS_OF_OBJECT = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request in the words of the API."""

    verb: str
    """``get list watch create update patch delete``: the words of roles and audits."""
    kind: Kind
    namespace: str
    name: str
    """Of the object; for a list or watch, the one its field selector narrows it to, as the authorizer sees it."""
    subresource: str = ""
    """``status``, or the object itself."""
    selection: Selection = EVERYTHING
    limit: int = 0
    page: str = ""
    """The ``continue`` token."""
    version: str = ""
    """``resourceVersion``: empty is the newest state, ``0`` any, otherwise not older than."""
    exact: bool = False
    """A list of exactly that version."""
    bookmarks: bool = False
    initial_events: bool = False
    timeout: float | None = None
    """Seconds after which the server ends a watch."""

    @property
    def resource(self) -> str:
        """As rules of roles name it."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    @property
    def home(self) -> str:
        """Where the object is kept: rights to a Namespace are judged in it, and yet it lies in none."""
        return self.namespace if self.kind.namespaced else ""


def read_call(method: str, path: str, query: Mapping[str, str]) -> Call:
    """Read a request line.

    Raises:
        Refused: 404, no such address; 405, no such method there; 400 or 422, a query that contradicts itself.
    """
    whole = path.removesuffix("/status")
    subresource = "status" if whole != path and len(whole.strip("/").split("/")) > 3 else ""
    kind, namespace, name = _address(whole if subresource else path)
    verbs = _VERBS_OF_OBJECT if name else _VERBS_OF_COLLECTION
    if method not in verbs or (subresource and (not name or method == "DELETE")):
        raise Refused(405, "the server does not allow this method on the requested resource")
    verb = verbs[method]
    if verb == "create" and kind.namespaced and not namespace:
        raise Refused(405, "the server does not allow this method on the requested resource")
    if verb != "list":
        return Call(verb, kind, namespace, name, subresource)
    selection = Selection(
        namespace, labels_of(query.get("labelSelector", "")), fields_of(query.get("fieldSelector", ""), kind)
    )
    watch = _truth(query, "watch")
    call = Call(
        "watch" if watch else "list",
        kind,
        namespace,
        _only_name(selection),
        selection=selection,
        limit=_number(query, "limit") or 0,
        page=query.get("continue", ""),
        version=query.get("resourceVersion", ""),
        exact=query.get("resourceVersionMatch") == "Exact",
        bookmarks=_truth(query, "allowWatchBookmarks"),
        initial_events=_truth(query, "sendInitialEvents"),
        timeout=_number(query, "timeoutSeconds") or None,
    )
    _check(call, query)
    return call


def _address(path: str) -> tuple[Kind, str, str]:
    """Kind, namespace and name from ``/api/v1/…`` or ``/apis/GROUP/VERSION/…``."""
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise Refused(404, "the server could not find the requested resource")
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        _, namespace, *rest = rest
    plural, name = rest if len(rest) == 2 else (*rest, "") if len(rest) == 1 else ("", "")
    kind = _BY_ADDRESS.get((group, version, plural))
    if kind is None or (namespace and not kind.namespaced) or (name and kind.namespaced and not namespace):
        raise Refused(404, "the server could not find the requested resource")
    return kind, name if kind == NAMESPACES else namespace, name


def _only_name(selection: Selection) -> str:
    for term in selection.fields:
        if term.key == "metadata.name" and not term.negated and term.values is not None:
            return next(iter(term.values))
    return ""


def _check(call: Call, query: Mapping[str, str]) -> None:
    """The rules of ListOptions that clients get wrong."""
    match = query.get("resourceVersionMatch", "")
    watch = call.verb == "watch"
    faults = []
    if match and match not in ("Exact", "NotOlderThan"):
        faults.append(
            ("resourceVersionMatch", f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"')
        )
    if watch and call.initial_events and match != "NotOlderThan":
        faults.append(("resourceVersionMatch", "Forbidden: sendInitialEvents requires NotOlderThan"))
    if watch and match and not call.initial_events:
        faults.append(
            (
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        )
    if not watch and call.initial_events:
        faults.append(("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"))
    if not watch and match and (not call.version or call.page):
        faults.append(
            ("resourceVersionMatch", "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")
        )
    if call.exact and call.version == "0":
        faults.append(("resourceVersionMatch", 'Forbidden: "Exact" is forbidden for resourceVersion "0"'))
    if call.version and not call.version.isdecimal():
        said = f'resourceVersion: Invalid value: "{call.version}": strconv.ParseUint: parsing "{call.version}"'
        raise Refused(500, f"{said}: invalid syntax", reason=None)
    if call.page and call.version not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    if faults:
        raise invalid(call.kind, "", faults)


def _truth(query: Mapping[str, str], key: str) -> bool:
    """A query parameter is true unless it is absent, ``0`` or ``false``."""
    return key in query and query[key].lower() not in ("0", "false")


def _number(query: Mapping[str, str], key: str) -> int | None:
    text = query.get(key, "")
    if not text:
        return None
    if not text.isdecimal():
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)
