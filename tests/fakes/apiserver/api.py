"""What a call does to the store and what it is answered: the verbs of the API, without HTTP.

Section names in quotes are those of the Kubernetes API concepts and conventions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from tests.fakes.apiserver.bodies import addressed
from tests.fakes.apiserver.calls import Call
from tests.fakes.apiserver.patches import merged
from tests.fakes.apiserver.refusals import Refused, bad_request, expired, from_the_future
from tests.fakes.apiserver.store import Document, Store
from tests.fakes.apiserver.validation import check, check_change
from tests.fakes.apiserver.watches import added, bookmark

__all__ = ["Api", "Items"]

Items = list[bytes]
"""JSON documents as they stand in a list."""


def untouched(items: Items) -> Items:
    return items


class Api:
    """The verbs over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, call: Call) -> bytes:
        if call.subresource and not call.kind.has_status:
            raise Refused(404, "the server could not find the requested resource")
        return self._store.get(call.kind, call.home, call.name).whole

    def create(self, call: Call, document: Document) -> bytes:
        document = addressed(call, document)
        if document["metadata"].get("resourceVersion"):
            raise Refused(500, "resourceVersion should not be set on objects to be created")
        check(call.kind, document)
        if call.kind.has_status:
            document = {**document, "status": _no_status(call)}
        return self._store.create(call.kind, document).whole

    def update(self, call: Call, document: Document) -> bytes:
        """Replace the object ("Concurrency control and consistency")."""
        document = addressed(call, document)
        old = self._store.get(call.kind, call.home, call.name).document
        document = _what_may_change(call, old, document)
        check_change(call.kind, old, document)
        return self._store.update(call.kind, document).whole

    def patch(self, call: Call, patch: Document) -> bytes:
        """Merge ``patch`` into the object; a ``resourceVersion`` in it has to be the stored one."""
        old = self._store.get(call.kind, call.home, call.name).document
        document = _what_may_change(call, old, addressed(call, merged(old, patch)))
        check_change(call.kind, old, document)
        return self._store.update(call.kind, document).whole

    def exists(self, call: Call) -> bool:
        try:
            self._store.get(call.kind, call.home, call.name)
        except Refused:
            return False
        return True

    def delete(self, call: Call, options: Document) -> bytes:
        """Remove the object, if the preconditions of its DeleteOptions hold; the answer is a ``Status``."""
        gone = self._store.delete(call.kind, call.home, call.name, options.get("preconditions"))
        details = {"name": gone.name, "kind": call.kind.plural, "uid": gone.document["metadata"]["uid"]}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return json.dumps(status).encode()

    def list(self, call: Call, spoil: Callable[[Items], Items] = untouched) -> bytes:
        """A list, or one page of it ("Retrieving large results sets in chunks", "Semantics for get and list").

        Version ``0`` is answered whole, whatever the limit, as the real server's watch cache does. ``spoil`` may put
        other items in place of the right ones.

        Raises:
            Refused: 410, the page token is too old; 504, the version asked for has not been yet.
        """
        if not call.page:
            self._not_from_the_future(call)
        limit = 0 if call.version == "0" else call.limit
        version, after = _read_page_token(call.page) if call.page else (int(call.version) if call.exact else None, "")
        try:
            page = self._store.page(call.kind, call.selection, limit, version, after)
        except Refused as refusal:
            # With this token the client may go on from where it was, with objects as they are by then.
            raise expired(str(refusal), _page_token(-1, after) if after else "") from None
        items = spoil([stored.raw for stored in page.items])
        metadata: dict[str, object] = {"resourceVersion": str(page.version)}
        if page.rest:
            metadata["continue"] = _page_token(page.version, page.following)
            if not (call.selection.labels or call.selection.fields):
                metadata["remainingItemCount"] = page.rest
        head = {"kind": f"{call.kind.name}List", "apiVersion": call.kind.api_version, "metadata": metadata}
        return b'%b,"items":[%b]}\n' % (json.dumps(head, separators=(",", ":")).encode()[:-1], b",".join(items))

    def beginning(self, call: Call) -> Items:
        """The lines a watch is told at once ("Semantics for watch", "Streaming lists").

        Without a version, or with ``0``, that is everything there is; with one, every write since.

        Raises:
            Refused: 410, that past is gone; 504, the version asked for has not been yet.
        """
        if call.version in ("", "0") or call.initial_events:
            self._not_from_the_future(call)
            begin = added(self._store.selected(call.kind, call.selection))
            if call.initial_events and call.bookmarks:
                begin.append(bookmark(call, self._store.version, initial_events_end=True))
            return begin
        lines = (revision.line(call.selection) for revision in self._store.since(call.kind, int(call.version)))
        return [line for line in lines if line is not None]

    def _not_from_the_future(self, call: Call) -> None:
        current = self._store.version
        if call.version and int(call.version) > current:
            raise from_the_future(call.version, current)


def _no_status(call: Call) -> Document:
    """What the status of a new object is, whatever its author says."""
    return {"loadBalancer": {}} if call.kind.name in ("Service", "Ingress") else {}


def _what_may_change(call: Call, old: Document, new: Document) -> Document:
    """Through ``…/status`` the status and the metadata, through the object all but the status (API conventions)."""
    if call.subresource and not call.kind.has_status:
        raise Refused(404, "the server could not find the requested resource")
    if not call.kind.has_status:
        return new
    kept, changed = (old, new) if call.subresource else (new, old)
    document = {**kept, "metadata": new["metadata"]}
    document.pop("status", None)
    return {**document, "status": changed["status"]} if "status" in changed else document


def _page_token(version: int, after: str) -> str:
    """What ``continue`` holds: clients must not look into it, so any form will do."""
    return base64.urlsafe_b64encode(json.dumps([version, after]).encode()).decode()


def _read_page_token(token: str) -> tuple[int | None, str]:
    """Version and last key; None: the newest state, after a 410."""
    try:
        version, after = json.loads(base64.urlsafe_b64decode(token))
        return (None if version < 0 else int(version)), str(after)
    except (ValueError, TypeError):
        shown = f"invalid character '\\u{_first_byte(token):04x}' looking for beginning of value"
        raise bad_request(f"invalid continue token: continue key is not valid: {shown}") from None


def _first_byte(token: str) -> int:
    try:
        return base64.urlsafe_b64decode(token)[0]
    except (ValueError, IndexError):
        return 0
