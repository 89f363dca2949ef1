"""A Kubernetes API server for tests: the part of the real one that the router uses, and every way it can fail.

In process::

    async with FakeApiServer(tls=True) as server:
        server.put(service("shop", "web", domains="shop.example"))
        server.kubeconfig(directory / "kubeconfig")
        server.drop_watches("rst")

or as a program of its own: ``python -m tests.fakes.apiserver`` (see ``__main__.py``). What it keeps of the Kubernetes
API concepts, and where it knowingly does less, is told in ``docs/testing.md``.

Here is the wire: connections, answers, watches, faults carried out. What is true is the store's business.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import secrets
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError

from examples.authority import Authority
from tests.fakes.apiserver import watches
from tests.fakes.apiserver.audit import Audit, Record
from tests.fakes.apiserver.calls import Call, read_call
from tests.fakes.apiserver.churn import Churn
from tests.fakes.apiserver.faults import Action, Fault, Faults
from tests.fakes.apiserver.kinds import KINDS, NAMESPACES, kind_of
from tests.fakes.apiserver.objects import apps
from tests.fakes.apiserver.patches import APPLY, MERGING, merged
from tests.fakes.apiserver.refusals import Refused, bad_request, expired, forbidden, invalid
from tests.fakes.apiserver.rights import Rights, ServiceAccount
from tests.fakes.apiserver.store import Document, Store, Stored, watch_line
from tests.fakes.apiserver.validation import check, check_change
from tests.fakes.apiserver.watches import Watch

__all__ = ["FakeApiServer"]

JSON = "application/json"
REQUEST_LIMIT = 3 * 1024 * 1024
"""Bytes of a request's body; the real server takes no more either."""
COMPRESSED_FROM = 128 * 1024
"""Bytes from which an answer is compressed for a client that can take it; watches never are."""
BEFORE_TIMEOUT = 2.0
"""Seconds before the end of a watch at which a last bookmark is sent."""
HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
VERSION = b'{"major":"1","minor":"34","gitVersion":"v1.34.0+fake","platform":"linux/amd64"}'
WEB_PAGE = b"<!doctype html><title>Sign in</title><p>Please sign in to this network."
NOT_AN_OBJECT = b'{"spec":{}}'
RST = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: the next close sends RST."""


class FakeApiServer:
    """One server on a free port of loopback. All methods are to be called on its loop.

    Arguments:
        tls: serve https with an authority of its own.
        rights: what the one ServiceAccount may do; None: everything.
        bookmarks_every: seconds between bookmarks of a watch that asked for them; the real server takes about 60.
        watch_timeout: seconds after which a watch without ``timeoutSeconds`` ends; the real one takes 1,800 to 3,600.
        history: how many writes of a kind a watch can be resumed over.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        rights: Rights | None = None,
        account: ServiceAccount | None = None,
        bookmarks_every: float = 60.0,
        watch_timeout: float = 1800.0,
        history: int = 20_000,
        port: int = 0,
    ) -> None:
        self.store = Store(history=history)
        self.audit = Audit()
        self.faults = Faults()
        self.rights = rights
        self.account = account or ServiceAccount()
        self.token = secrets.token_urlsafe()
        self.gone_as = "event"
        """How a watch is told that its version is too old: ``event`` (200 and an ERROR event) or ``status`` (410)."""
        self.churning: Churn | None = None
        self._bookmarks_every = bookmarks_every
        self._watch_timeout = watch_timeout
        self._authority = Authority("Fake Kubernetes authority") if tls else None
        self._context = self._tls_context()
        self._token_files: set[Path] = set()
        self._watches: set[Watch] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._socket = _bound(port)
        self._port: int = self._socket.getsockname()[1]
        self._listening: asyncio.Server | None = None
        self._web = web.Server(
            self._answer, handler_cancellation=True, access_log=None, keepalive_timeout=3600.0, max_line_size=64 * 1024
        )
        self._churn_task: asyncio.Task[None] | None = None
        self._bookmarking: asyncio.TimerHandle | None = None

    # Life

    async def __aenter__(self) -> Self:
        await self.up()
        loop = asyncio.get_running_loop()
        self._bookmarking = loop.call_later(self._bookmarks_every, self._bookmark_regularly)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bookmarking is not None:
            self._bookmarking.cancel()
        await self.stop_churn()
        await self.down()
        self._socket.close()
        await self._web.shutdown(0)

    @property
    def url(self) -> str:
        return f"{'https' if self._authority else 'http'}://127.0.0.1:{self._port}"

    @property
    def down_now(self) -> bool:
        return self._listening is None

    async def down(self, how: str = "fin") -> None:
        """Refuse connections and end the open ones; the port stays ours. ``how`` as for ``drop_watches``."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        # The server closed its socket: hold the port with one that does not listen, which refuses as well.
        self._socket = _bound(self._port)
        for connection in self._web.connections:
            if connection.transport is not None:
                _break_off(connection.transport, how)

    async def up(self) -> None:
        """Listen (again), on the same port and with the same objects."""
        if self._listening is None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(self._web, sock=self._socket, ssl=self._context, backlog=1024)

    # Objects

    def put(self, document: Mapping[str, Any]) -> Stored:
        """Create or replace an object of any kind that the fake serves, with its namespace, asking nobody."""
        return self.store.put(kind_of(document), dict(document))

    def remove(self, document: Mapping[str, Any]) -> None:
        """Delete the object that ``document`` names."""
        metadata = document["metadata"]
        self.store.delete(kind_of(document), metadata.get("namespace", ""), metadata["name"])

    def load(self, count: int, *, start: int = 0, address: str = "10.1.0.1", port: int = 5000) -> None:
        """Put ``count`` apps, each a Service and a slice in a namespace of its own (``objects.apps``)."""
        for document in apps(count, start=start, address=address, port=port):
            self.put(document)

    def churn(self, rate: float, noop_share: float = 0.9, seconds: float | None = None) -> None:
        """Begin to update Services, ``rate`` a second, and go on for ``seconds`` or until ``stop_churn``."""
        if self._churn_task is not None and not self._churn_task.done():
            raise RuntimeError("there is churn already: stop it first")
        self.churning = Churn(self.store, rate, noop_share)
        self._churn_task = asyncio.get_running_loop().create_task(self.churning.run(seconds), name="churn")

    async def stop_churn(self) -> None:
        """End the churn, and raise what it died of, if it did."""
        task, self._churn_task = self._churn_task, None
        if task is not None:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass  # ours, as asked

    # Faults

    def fault(self, action: str, **details: Any) -> None:
        """Lay a fault, e.g. ``fault("status", code=429, retry_after=1, verb="list", resource="services", times=2)``."""
        self.faults.lay(Fault(Action(action), **details))

    def clear_faults(self) -> None:
        self.faults.clear()

    def drop_watches(self, how: str = "fin", resource: str = "") -> int:
        """End open watches, of one ``resource`` or of all; the result is how many.

        ``how``: ``end`` in order, as at the end of its time; ``truncated`` in the middle of a line; ``fin`` the
        connection without a word, over TLS without close_notify; ``alert`` the same with close_notify; ``rst`` a reset.
        """
        dropped = [watch for watch in self._watches if resource in ("", watch.call.kind.plural)]
        for watch in dropped:
            if how == "truncated":
                watch.send(b'{"type":"MODIFIED","object":{"kind":"')
            if how in ("end", "truncated"):
                watch.end()
            else:
                _break_off(watch.transport, how)
        return len(dropped)

    def send_to_watches(self, text: str, resource: str = "") -> None:
        """Send ``text`` as a line to open watches, whatever it is."""
        for watch in self._watches:
            if resource in ("", watch.call.kind.plural):
                watch.send(text.encode() + b"\n")

    def bookmark(self) -> None:
        """Send a bookmark to every watch that asked for them, now."""
        for watch in self._watches:
            self._send_bookmark(watch)

    def compact(self) -> None:
        """Forget the past: a watch from an older version gets 410, as ``gone_as`` says."""
        self.store.compact()

    def expire_continue(self) -> None:
        """Forget the lists that are being read page by page: their next page gets 410."""
        self.store.expire_pages()

    def answer_gone_as(self, form: str) -> None:
        """``event`` or ``status``: see ``gone_as``."""
        if form not in ("event", "status"):
            raise ValueError(f"event or status, not {form!r}")
        self.gone_as = form

    def stall(self) -> None:
        """Take connections and requests, and send nothing on any of them, watches included."""
        self._flowing.clear()

    def resume(self) -> None:
        """Send what waited."""
        self._flowing.set()

    # Credentials

    @property
    def authority(self) -> bytes | None:
        """What clients have to trust, PEM; None without TLS."""
        return self._authority.certificate if self._authority else None

    def rotate_token(self, *, write: bool = True) -> None:
        """From now on only a new token is good. ``write=False``: the files get it with the next ``write_token``."""
        self.token = secrets.token_urlsafe()
        if write:
            self.write_token()

    def write_token(self) -> None:
        """Write the token that is good now into every token file that was handed out."""
        for path in self._token_files:
            _write_private(path, self.token)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for this server; its token stands in a file beside it, ``NAME.token``."""
        token = path.with_name(path.name + ".token")
        self._token_files.add(token)
        self.write_token()
        cluster: dict[str, str] = {"server": self.url}
        if self.authority is not None:
            cluster["certificate-authority-data"] = base64.b64encode(self.authority).decode()
        context = {"cluster": "fake", "user": "router", "namespace": self.account.namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "router", "user": {"tokenFile": str(token)}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        _write_private(path, yaml.safe_dump(config))
        return path

    def service_account(self, directory: Path) -> dict[str, str]:
        """Write ``token``, ``ca.crt`` and ``namespace`` as a pod finds them; the result is its environment."""
        self._token_files.add(directory / "token")
        self.write_token()
        (directory / "ca.crt").write_bytes(self.authority or b"")
        (directory / "namespace").write_text(self.account.namespace)
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._port)}

    def _tls_context(self) -> ssl.SSLContext | None:
        if self._authority is None:
            return None
        pair = self._authority.issue("127.0.0.1", "localhost", "kubernetes.default.svc")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = os.memfd_create("pair")  # OpenSSL reads pairs from files only; this one is never on a disk
        try:
            os.write(file, pair.key + pair.chain)
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context

    # Reports

    def report(self) -> dict[str, object]:
        """What there is now: the version, objects by kind, open watches, faults."""
        return {
            "version": self.store.version,
            "objects": {kind.qualified: self.store.count(kind) for kind in KINDS},
            "watches": [
                {"resource": watch.call.kind.plural, "namespace": watch.call.namespace, "name": watch.call.name}
                for watch in self._watches
            ],
            "faults": len(self.faults),
            "down": self.down_now,
            "stalled": not self._flowing.is_set(),
            "requests": len(self.audit.records),
            "churned": self.churning.made if self.churning else 0,
        }

    def open_watches(self, resource: str = "") -> int:
        return sum(resource in ("", watch.call.kind.plural) for watch in self._watches)

    # Answers

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._flowing.wait()
        if request.path in HEALTH:
            return web.Response(text="ok")
        if request.path == "/version":
            return web.Response(body=VERSION, content_type=JSON)
        record = Record("", "", "", "", "", request.headers.get("User-Agent", ""), request.query_string)
        self.audit.records.append(record)
        try:
            call = read_call(request.method, request.path, request.query)
            record.verb, record.group, record.resource = call.verb, call.kind.group, call.kind.plural
            record.namespace, record.name = call.namespace, call.name
            self._authenticate(request)
            fault = self.faults.take(call.verb, call.kind.plural, call.namespace, call.name)
            self._authorize(call.verb, call)
            _negotiate(request)
            if fault is not None and fault.action is Action.STATUS:
                raise Refused(fault.code, f"fault laid by a test: {fault.code}", retry_after=fault.retry_after)
            if call.verb == "watch":
                return await self._watch(request, call, fault, record)
            code, body = await self._carry_out(request, call, fault)
        except Refused as refusal:
            record.code = refusal.code
            headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
            return web.Response(status=refusal.code, body=refusal.body, content_type=JSON, headers=headers)
        record.code = code
        if fault is not None:
            return await self._spoil(request, body, fault)
        if len(body) >= COMPRESSED_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = await asyncio.to_thread(gzip.compress, body, 1)
            return web.Response(status=code, body=body, content_type=JSON, headers={"Content-Encoding": "gzip"})
        return web.Response(status=code, body=body, content_type=JSON)

    def _authenticate(self, request: web.BaseRequest) -> None:
        if not secrets.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self.token}"):
            raise Refused(401, "Unauthorized")

    def _authorize(self, verb: str, call: Call) -> None:
        # A name in the body of a creation is not known yet when rights are judged.
        name = "" if verb == "create" else call.name
        if self.rights is not None and not self.rights.allow(
            verb, call.kind.group, call.kind.plural, call.namespace, name
        ):
            raise forbidden(self.account.user, verb, call.kind, call.namespace, name)

    async def _carry_out(self, request: web.BaseRequest, call: Call, fault: Fault | None) -> tuple[int, bytes]:
        """Do everything but a watch; the result is a status and the JSON of the answer."""
        kind, store = call.kind, self.store
        match call.verb:
            case "list":
                return 200, self._list(call, fault)
            case "get":
                return 200, store.get(kind, call.namespace, call.name).whole
            case "create":
                document = _addressed(call, await _read_document(request))
                if document["metadata"].get("resourceVersion"):
                    raise Refused(500, "resourceVersion should not be set on objects to be created")
                check(kind, document)
                return 201, store.create(kind, document).whole
            case "update":
                document = _addressed(call, await _read_document(request))
                check_change(kind, store.get(kind, call.namespace, call.name).document, document)
                return 200, store.update(kind, document).whole
            case "patch":
                return self._patch(call, request, await _read_patch(request))
            case _:
                options = await _read_document(request) if request.can_read_body else {}
                gone = store.delete(kind, call.namespace, call.name, options.get("preconditions"))
                details = {"name": gone.name, "kind": kind.plural, "uid": gone.document["metadata"]["uid"]}
                status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
                return 200, json.dumps(status).encode()

    def _patch(self, call: Call, request: web.BaseRequest, patch: Document) -> tuple[int, bytes]:
        kind, store = call.kind, self.store
        applied = request.content_type == APPLY
        if applied and not request.query.get("fieldManager"):
            raise invalid(kind, call.name, [("fieldManager", "Required value: is required for apply patch")])
        try:
            old = store.get(kind, call.namespace, call.name).document
        except Refused:
            if not applied:
                raise
            # Applying what is not there creates it, for which another right is needed.
            self._authorize("create", call)
            document = _addressed(call, patch)
            check(kind, document)
            return 201, store.create(kind, document).whole
        document = _addressed(call, merged(old, patch))
        check_change(kind, old, document)
        return 200, store.update(kind, document).whole

    def _list(self, call: Call, fault: Fault | None) -> bytes:
        """ "Retrieving large results sets in chunks" and "Semantics for get and list".

        Version ``0`` is answered whole, whatever the limit, as the real server's watch cache does.
        """
        if not call.page:
            self._not_from_the_future(call)
        limit = 0 if call.version == "0" else call.limit
        version, after = _read_page_token(call.page) if call.page else (int(call.version) if call.exact else None, "")
        try:
            page = self.store.page(call.kind, call.selection, limit, version, after)
        except Refused as refusal:
            # With this token the client may go on from where it was, with objects as they are by then.
            raise expired(str(refusal), _page_token(-1, after) if after else "") from None
        items = [stored.raw for stored in page.items]
        if fault is not None and fault.action is Action.EMPTY:
            items = []
        if fault is not None and fault.action is Action.NO_METADATA:
            items = [NOT_AN_OBJECT, *items]
        metadata: dict[str, object] = {"resourceVersion": str(page.version)}
        if page.rest:
            metadata["continue"] = _page_token(page.version, page.following)
            if not (call.selection.labels or call.selection.fields):
                metadata["remainingItemCount"] = page.rest
        head = {"kind": f"{call.kind.name}List", "apiVersion": call.kind.api_version, "metadata": metadata}
        return b'%b,"items":[%b]}\n' % (json.dumps(head, separators=(",", ":")).encode()[:-1], b",".join(items))

    def _not_from_the_future(self, call: Call) -> None:
        if call.version and int(call.version) > self.store.version:
            raise Refused(
                504, f"Too large resource version: {call.version}, current: {self.store.version}", retry_after=1
            )

    # Watches

    async def _watch(
        self, request: web.BaseRequest, call: Call, fault: Fault | None, record: Record
    ) -> web.StreamResponse:
        """Stream what happens, from a state to which nothing is missing: it is read and joined within one step."""
        action = fault.action if fault is not None else None
        assert request.transport is not None
        watch = Watch(call, request.transport)
        try:
            if action is Action.GONE_EVENT:
                raise expired("fault laid by a test: too old resource version")
            watch.lines += self._beginning(call, empty=action is Action.EMPTY)
        except Refused as refusal:
            if self.gone_as == "status" and action is not Action.GONE_EVENT:
                raise
            watch.send(watches.error(refusal))
            watch.end()
        if action is Action.NO_METADATA:
            watch.lines.insert(0, watch_line("MODIFIED", call.kind.head + NOT_AN_OBJECT[1:]))
        record.code = 200
        if action in (Action.HTML, Action.RESET, Action.STALL):
            assert fault is not None
            return await self._spoil(request, b"", fault)
        response = web.StreamResponse(headers={"Content-Type": "text/plain" if action is Action.TEXT_TYPE else JSON})
        response.enable_chunked_encoding()
        forget = self.store.listen(call.kind, watch.tell)
        self._watches.add(watch)
        timers = self._timers(watch)
        try:
            await response.prepare(request)
            if action is Action.SILENT:
                await asyncio.Event().wait()
            await self._stream(response, watch, fault)
        except ClientConnectionResetError:
            pass  # the client went, or a test broke it off
        finally:
            forget()
            self._watches.discard(watch)
            for timer in timers:
                timer.cancel()
        return response

    def _beginning(self, call: Call, *, empty: bool) -> list[bytes]:
        """What a watch is told at once: "Semantics for watch" and "Streaming lists".

        Without a version, or with ``0``, that is everything there is; with one, every write since.
        """
        if call.version in ("", "0") or call.initial_events:
            self._not_from_the_future(call)
            begin = [] if empty else watches.added(self.store.selected(call.kind, call.selection))
            if call.initial_events and call.bookmarks:
                begin.append(watches.bookmark(call, self.store.version, initial_events_end=True))
            return begin
        lines = (revision.line(call.selection) for revision in self.store.since(call.kind, int(call.version)))
        return [line for line in lines if line is not None]

    async def _stream(self, response: web.StreamResponse, watch: Watch, fault: Fault | None) -> None:
        """Write lines as they come, those that wait together in one chunk, until the watch ends."""
        action = fault.action if fault is not None else None
        while data := await watch.wait():
            await self._flowing.wait()
            if action in (Action.TRUNCATED, Action.CUT):
                await response.write(data[: data.index(b"\n") // 2])
                if action is Action.CUT:
                    _break_off(watch.transport, "fin")
                return
            if action is Action.DRIP:
                assert fault is not None
                await _drip(response, data, fault.seconds)
            else:
                await response.write(data)
        await self._flowing.wait()

    def _timers(self, watch: Watch) -> list[asyncio.TimerHandle]:
        """The end of a watch's time and the bookmark shortly before it."""
        loop = asyncio.get_running_loop()
        seconds = watch.call.timeout or self._watch_timeout
        timers = [loop.call_later(seconds, watch.end)]
        if seconds > BEFORE_TIMEOUT:
            timers.append(loop.call_later(seconds - BEFORE_TIMEOUT, self._send_bookmark, watch))
        return timers

    def _send_bookmark(self, watch: Watch) -> None:
        if watch.call.bookmarks:
            watch.send(watches.bookmark(watch.call, self.store.version))

    def _bookmark_regularly(self) -> None:
        """One clock for all watches: bookmarks are sent "at the server's discretion"."""
        self.bookmark()
        self._bookmarking = asyncio.get_running_loop().call_later(self._bookmarks_every, self._bookmark_regularly)

    async def _spoil(self, request: web.BaseRequest, body: bytes, fault: Fault) -> web.StreamResponse:
        """Carry out a fault on an answer that would have been ``body``."""
        match fault.action:
            case Action.HTML:
                return web.Response(body=WEB_PAGE, content_type="text/html")
            case Action.TEXT_TYPE:
                return web.Response(body=body, content_type="text/plain")
            case Action.TRUNCATED:
                return web.Response(body=body[: len(body) // 2], content_type=JSON)
            case Action.STALL:
                await asyncio.Event().wait()
            case Action.RESET:
                assert request.transport is not None
                _break_off(request.transport, "rst")
                return web.Response()
            case Action.CUT | Action.SILENT | Action.DRIP:
                return await self._send_badly(request, body, fault)
        return web.Response(body=body, content_type=JSON)

    async def _send_badly(self, request: web.BaseRequest, body: bytes, fault: Fault) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.content_length = len(body)
        await response.prepare(request)
        match fault.action:
            case Action.DRIP:
                await _drip(response, body, fault.seconds)
            case Action.CUT:
                await response.write(body[: len(body) // 2])
                assert request.transport is not None
                _break_off(request.transport, "fin")
            case _:
                await asyncio.Event().wait()
        return response


def _bound(port: int) -> socket.socket:
    """A socket that holds a port of loopback and refuses, until somebody listens on it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _break_off(transport: asyncio.BaseTransport, how: str) -> None:
    """End a connection now: ``fin``, ``alert`` (over TLS: close_notify, then FIN) or ``rst``."""
    assert isinstance(transport, asyncio.Transport)
    match how:
        case "alert":
            transport.close()
            return
        case "rst":
            # A copy of the descriptor: what a transport offers of its socket differs from loop to loop.
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        case "fin":
            pass
        case _:
            raise ValueError(f"fin, alert or rst, not {how!r}")
    transport.abort()


async def _drip(response: web.StreamResponse, data: bytes, seconds: float) -> None:
    for at in range(len(data)):
        await response.write(data[at : at + 1])
        await asyncio.sleep(seconds)


def _negotiate(request: web.BaseRequest) -> None:
    """JSON is all there is: whoever takes it besides protobuf or tables gets it ("Alternate representations").

    Raises:
        Refused: 406, the client takes no JSON.
    """
    accepted = [part.split(";")[0].strip() for part in request.headers.get("Accept", "*/*").split(",")]
    if not {JSON, "application/*", "*/*"} & set(accepted):
        raise Refused(406, f"only the following media types are accepted: {JSON}")


async def _read_document(request: web.BaseRequest) -> Document:
    """The JSON object in a request's body.

    Raises:
        Refused: 400, 413, 415.
    """
    if request.content_type not in (JSON, "application/octet-stream"):  # the latter: none was said
        raise Refused(415, f"the body of the request was in an unknown format - accepted media types include: {JSON}")
    return _object(await _read_body(request), json.loads)


async def _read_patch(request: web.BaseRequest) -> Document:
    if request.content_type not in MERGING:
        listed = ", ".join(sorted(MERGING))
        raise Refused(415, f"the body of the request was in an unknown format - accepted media types include: {listed}")
    return _object(await _read_body(request), yaml.safe_load if request.content_type == APPLY else json.loads)


async def _read_body(request: web.BaseRequest) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > REQUEST_LIMIT:
            raise Refused(413, f"Request entity too large: limit is {REQUEST_LIMIT}")
    return bytes(body)


def _object(body: bytes, read: Any) -> Document:
    try:
        document = read(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {type(error).__name__}") from None
    if not isinstance(document, dict) or not isinstance(document.get("metadata", {}), dict):
        raise bad_request("couldn't get version/kind; json parse error: an object is expected")
    return document


def _addressed(call: Call, document: Document) -> Document:
    """``document`` with the namespace and name of its address, which it must not contradict.

    Raises:
        Refused: 400, it does; 422, nobody names it.
    """
    kind = call.kind
    said = (document.get("apiVersion", kind.api_version), document.get("kind", kind.name))
    if said != (kind.api_version, kind.name):
        raise bad_request(f"{said[1]} of {said[0]} does not match the expected {kind.name} of {kind.api_version}")
    metadata: Document = dict(document.get("metadata") or {})
    if kind.namespaced:
        if metadata.setdefault("namespace", call.namespace) != call.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    elif kind != NAMESPACES:
        metadata.pop("namespace", None)
    if call.name and metadata.setdefault("name", call.name) != call.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
        )
    if not metadata.get("name"):
        if not metadata.get("generateName"):
            raise invalid(kind, "", [("metadata.name", "Required value: name or generateName is required")])
        metadata["name"] = metadata["generateName"] + secrets.token_hex(4)[:5]
    return {**document, "metadata": metadata}


def _page_token(version: int, after: str) -> str:
    """What ``continue`` holds: clients must not look into it, so any form will do."""
    return base64.urlsafe_b64encode(json.dumps([version, after]).encode()).decode()


def _read_page_token(token: str) -> tuple[int | None, str]:
    """Version and last key; None: the newest state, after a 410."""
    try:
        version, after = json.loads(base64.urlsafe_b64decode(token))
        return (None if version < 0 else int(version)), str(after)
    except (ValueError, TypeError):
        raise bad_request("continue key is not valid") from None


def _write_private(path: Path, text: str) -> None:
    """Replace a file as Kubernetes replaces projected tokens: whole, and never readable by others."""
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
