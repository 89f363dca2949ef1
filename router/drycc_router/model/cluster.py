"""The picture of the objects the router reads: views by key, slices by their Service.

``apply`` notes one Change and says which objects a reader of the picture has to look at again. An object that cannot be
read leaves the view it had, if any, and a Problem; it touches no other object.

What must not enter: what any of it means (``compile``), where Changes come from (``sources``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, Final, TypeVar

from drycc_router.model.objects import (
    Change,
    ConfigMap,
    Deployment,
    EndpointSlice,
    ObjectError,
    ObjectKey,
    Secret,
    Service,
    parse_config_map,
    parse_deployment,
    parse_endpoint_slice,
    parse_secret,
    parse_service,
)
from drycc_router.model.problems import Problem, Reason
from drycc_router.model.quotas import ANNOTATION_BYTES

__all__ = ["Cluster"]

View = Service | EndpointSlice | Secret | ConfigMap | Deployment
V = TypeVar("V", Service, EndpointSlice, Secret, ConfigMap, Deployment)

_PARSERS: Final[Mapping[str, Callable[[ObjectKey, Mapping[str, Any]], View]]] = {
    "Service": parse_service,
    "EndpointSlice": parse_endpoint_slice,
    "Secret": parse_secret,
    "ConfigMap": parse_config_map,
    "Deployment": parse_deployment,
}


class Cluster:
    """What every object says now, as far as the router reads it. One writer."""

    __slots__ = ("_slices", "_uids", "_views", "unreadable")

    def __init__(self) -> None:
        self._views: dict[ObjectKey, View] = {}
        self._slices: dict[ObjectKey, dict[ObjectKey, EndpointSlice]] = {}
        self._uids: dict[ObjectKey, str] = {}
        """Of objects whose views do not say it, as far as somebody may want to know."""
        self.unreadable: dict[ObjectKey, Problem] = {}
        """Objects whose last version could not be read."""

    def __repr__(self) -> str:
        return f"<Cluster of {len(self._views)} objects, {len(self.unreadable)} unreadable>"

    def apply(self, change: Change) -> Set[ObjectKey]:
        """Note a change. Returns the objects to look at again, none if nothing we read differs: the object itself, for
        a slice also its Service, before and after."""
        key = change.key
        parse = _PARSERS.get(key.kind)
        if parse is None:
            return frozenset()
        before = self._views.get(key)
        problem = None
        after: View | None
        try:
            after = None if change.object is None else parse(key, change.object)
        except ObjectError as error:
            after = before
            problem = Problem(Reason.BAD_OBJECT, key, error.path, "", f"expected {error.expected}")
        if isinstance(after, Service) and after is not before and _is_too_long(after.annotations):
            after = before
            message = f"expected at most {ANNOTATION_BYTES >> 10} KiB under our prefixes"
            problem = Problem(Reason.OVER_QUOTA, key, "metadata.annotations", "", message)
        self._note_uid(change, after)
        touched: set[ObjectKey] = set()
        if problem != self.unreadable.get(key):
            touched.add(key)
            if isinstance(before, EndpointSlice):
                touched.add(_owner(before))
            if problem is None:
                del self.unreadable[key]
            else:
                self.unreadable[key] = problem
        if after != before:
            touched.add(key)
            self._replace(key, before, after, touched)
        return touched

    def _replace(self, key: ObjectKey, before: View | None, after: View | None, touched: set[ObjectKey]) -> None:
        """Put ``after`` in the place of ``before``; the Services whose slices these are, are ``touched``."""
        if after is None:
            del self._views[key]
        else:
            self._views[key] = after
        if isinstance(before, EndpointSlice):
            owner = _owner(before)
            touched.add(owner)
            del self._slices[owner][key]
            if not self._slices[owner]:
                del self._slices[owner]
        if isinstance(after, EndpointSlice):
            owner = _owner(after)
            touched.add(owner)
            self._slices.setdefault(owner, {})[key] = after

    def _note_uid(self, change: Change, view: View | None) -> None:
        if change.object is None:
            self._uids.pop(change.key, None)
        elif not isinstance(view, Service | EndpointSlice):
            metadata = change.object.get("metadata")
            uid = metadata.get("uid") if isinstance(metadata, Mapping) else None
            self._uids[change.key] = uid if isinstance(uid, str) else ""

    def uid(self, key: ObjectKey) -> str | None:
        """What tells an object from others of its name; "" if it does not say. None: there is no such object."""
        view = self._views.get(key)
        if isinstance(view, Service):
            return view.uid
        return self._uids.get(key, None if view is None else "")

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._views

    def get(self, kind: type[V], namespace: str, name: str) -> V | None:
        """The view of one object, or None."""
        view = self._views.get(ObjectKey(kind.__name__, namespace, name))
        return view if isinstance(view, kind) else None

    def slices(self, service: ObjectKey) -> list[EndpointSlice]:
        """The slices of a Service, by name."""
        slices = self._slices.get(service)
        if slices is None:
            return []
        return [slices[key] for key in sorted(slices)] if len(slices) > 1 else list(slices.values())

    def addresses(self, service: ObjectKey) -> Iterator[str]:
        """Every address in the slices of a Service, ready or not, as written."""
        for view in self._slices.get(service, {}).values():
            yield from view.addresses()


def _is_too_long(texts: Mapping[str, str]) -> bool:
    letters = 0
    for key, text in texts.items():
        letters += len(key) + len(text)
    if letters * 4 <= ANNOTATION_BYTES:  # no letter has more than four octets
        return False
    octets = sum(len(f"{key}{text}".encode(errors="surrogatepass")) for key, text in texts.items())
    return octets > ANNOTATION_BYTES


def _owner(view: EndpointSlice) -> ObjectKey:
    return ObjectKey("Service", view.key.namespace, view.service)
