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
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError

from tests.fakes.apiserver import watches
from tests.fakes.apiserver.api import Api, Items
from tests.fakes.apiserver.audit import Audit, Record
from tests.fakes.apiserver.bodies import JSON, negotiate, read_document, read_patch
from tests.fakes.apiserver.calls import Call, read_call
from tests.fakes.apiserver.churn import Churn
from tests.fakes.apiserver.credentials import Credentials
from tests.fakes.apiserver.faults import Action, Fault, Faults
from tests.fakes.apiserver.kinds import KINDS, kind_of
from tests.fakes.apiserver.objects import apps
from tests.fakes.apiserver.patches import APPLY
from tests.fakes.apiserver.refusals import Refused, expired, from_the_future, invalid
from tests.fakes.apiserver.rights import Rights, ServiceAccount
from tests.fakes.apiserver.store import Document, Revision, Store, Stored, watch_line
from tests.fakes.apiserver.watches import Watch
from tests.fakes.apiserver.wire import bound, break_off, drip

__all__ = ["FakeApiServer"]

COMPRESSED_FROM = 128 * 1024
"""Bytes from which an answer is compressed for a client that can take it; watches never are."""
BEFORE_TIMEOUT = 2.0
"""Seconds before the end of a watch at which a last bookmark is sent."""
HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
VERSION = b'{"major":"1","minor":"34","gitVersion":"v1.34.0+fake","platform":"linux/amd64"}'
CROWDED = "Too many requests, please try again later.\n"
WEB_PAGE = b"<!doctype html><title>Sign in</title><p>Please sign in to this network."
NOT_AN_OBJECT = b'{"spec":{}}'
SPOILED_LISTS: dict[Action, Callable[[Items], Items]] = {
    Action.EMPTY: lambda items: [],
    Action.NO_METADATA: lambda items: [NOT_AN_OBJECT, *items],
}


class FakeApiServer:
    """One server on a free port of loopback. All methods are to be called on its loop.

    Arguments:
        tls: serve https with an authority of its own.
        rights: what the one ServiceAccount may do; None: everything.
        bookmarks_every: seconds between bookmarks of a watch that asked for them; the real server takes about 60.
        watch_timeout: seconds after which a watch without ``timeoutSeconds`` ends; the real one takes 1,800 to 3,600.
        history: how many writes of a kind a watch can be resumed over.
        audited: at the end of the block, fail if the router read a Secret that nobody named. Not for tests of parts of
            the router that are told by the test itself what to read.
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
        audited: bool = True,
    ) -> None:
        self._audited = audited
        self.store = Store(history=history)
        self.credentials = Credentials(account or ServiceAccount(), rights, tls=tls)
        self.audit = Audit()
        self._secrets_named = {
            (self.credentials.account.namespace, f"{prefix}-router-platform-cert") for prefix in ("drycc", "deis")
        }
        self.store.listen(kind_of({"kind": "Service", "apiVersion": "v1"}), self._note_secrets_named)
        self.faults = Faults()
        self.gone_as = "event"
        """How a watch is told that its version is too old: ``event`` (200 and an ERROR event) or ``status`` (410)."""
        self.churning: Churn | None = None
        self._bookmarks_every = bookmarks_every
        self._watch_timeout = watch_timeout
        self._api = Api(self.store)
        self._context = self.credentials.tls_context()
        self._watches: set[Watch] = set()
        self._watches_changed = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._socket = bound(port)
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
        if kind is None and self._audited:
            assert not (foreign := self.foreign_secret_reads()), f"Secrets that nobody named were read: {foreign}"

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self._port}"

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
        self._socket = bound(self._port)
        for connection in self._web.connections:
            if connection.transport is not None:
                break_off(connection.transport, how)

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

    def load(
        self,
        count: int,
        *,
        start: int = 0,
        address: str = "10.1.0.1",
        port: int = 5000,
        certificates: int = 0,
        rsa: bool = False,
        spread: bool = False,
    ) -> None:
        """Put ``count`` apps, each a Service and a slice in a namespace of its own (``objects.apps``)."""
        for document in apps(
            count, start=start, address=address, port=port, certificates=certificates, rsa=rsa, spread=spread
        ):
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
                break_off(watch.transport, how)
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
    def token(self) -> str:
        """The one that is good now."""
        return self.credentials.token

    def rotate_token(self, *, write: bool = True) -> None:
        """From now on only a new token is good. ``write=False``: the files get it with the next ``write_token``."""
        self.credentials.rotate()
        if write:
            self.write_token()

    def write_token(self) -> None:
        """Write the token that is good now into every token file that was handed out."""
        self.credentials.write_token()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for this server; its token stands in a file beside it, ``NAME.token``."""
        self.credentials.kubeconfig(self.url, path)
        return path

    def service_account(self, directory: Path) -> dict[str, str]:
        """Write ``token``, ``ca.crt`` and ``namespace`` as a pod finds them; the result is its environment."""
        self.credentials.service_account(directory)
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._port)}

    # Reports

    def foreign_secret_reads(self) -> list[Record]:
        """Reads by the router of Secrets that no Service of their namespace ever named, nor the platform (hardening
        B-02, M-05). At the end of every test there may be none."""
        foreign = self.audit.foreign_secret_reads(self._secrets_named)
        return [record for record in foreign if record.user_agent.startswith("drycc-router")]

    def _note_secrets_named(self, revision: Revision) -> None:
        if revision.new is None:
            return
        metadata = revision.new.document["metadata"]
        for key, text in (metadata.get("annotations") or {}).items():
            if key.endswith("/certificates") and isinstance(text, str):
                for element in text.split(","):
                    name = element.rpartition(":")[2].strip()
                    for each in (f"{name}-cert", f"{name}-certificate", name):
                        self._secrets_named.add((metadata["namespace"], each))

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

    async def watches_are(self, count: int, resource: str = "") -> None:
        """Wait until so many watches are open."""
        while self.open_watches(resource) != count:
            self._watches_changed.clear()
            await self._watches_changed.wait()

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
            self.credentials.authenticate(request.headers.get("Authorization", ""))
            fault = self.faults.take(call.verb, call.kind.plural, call.namespace, call.name)
            self.credentials.authorize(call)
            negotiate(request)
            if fault is not None and fault.action is Action.CROWD:
                record.code = 429
                return web.Response(status=429, text=CROWDED, headers={"Retry-After": "1"})
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

    async def _carry_out(self, request: web.BaseRequest, call: Call, fault: Fault | None) -> tuple[int, bytes]:
        """Do everything but a watch; the result is a status and the JSON of the answer."""
        match call.verb:
            case "list":
                spoil = SPOILED_LISTS.get(fault.action) if fault is not None else None
                return 200, self._api.list(call, spoil) if spoil else self._api.list(call)
            case "get":
                return 200, self._api.get(call)
            case "create":
                return 201, self._api.create(call, await read_document(request))
            case "update":
                return 200, self._api.update(call, await read_document(request))
            case "patch":
                return self._patch(request, call, await read_patch(request))
            case _:
                return 200, self._api.delete(call, await read_document(request) if request.can_read_body else {})

    def _patch(self, request: web.BaseRequest, call: Call, patch: Document) -> tuple[int, bytes]:
        if request.content_type == APPLY:
            if not request.query.get("fieldManager"):
                raise invalid(call.kind, call.name, [("fieldManager", "Required value: is required for apply patch")])
            if not self._api.exists(call):
                # Applying what is not there creates it, for which another right is needed.
                self.credentials.authorize(call, "create")
                return 201, self._api.create(call, patch)
        return 200, self._api.patch(call, patch)

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
            if action is Action.FUTURE_EVENT:
                raise from_the_future(call.version, self.store.version)
            watch.lines += self._api.beginning(call) if action is not Action.EMPTY else []
        except Refused as refusal:
            if self.gone_as == "status" and action not in (Action.GONE_EVENT, Action.FUTURE_EVENT):
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
        self._watches_changed.set()
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
            self._watches_changed.set()
            for timer in timers:
                timer.cancel()
        return response

    async def _stream(self, response: web.StreamResponse, watch: Watch, fault: Fault | None) -> None:
        """Write lines as they come, those that wait together in one chunk, until the watch ends."""
        action = fault.action if fault is not None else None
        while data := await watch.wait():
            await self._flowing.wait()
            if action in (Action.TRUNCATED, Action.CUT):
                await response.write(data[: data.index(b"\n") // 2])
                if action is Action.CUT:
                    break_off(watch.transport, "fin")
                return
            if action is Action.DRIP:
                assert fault is not None
                await drip(response, data, fault.seconds)
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
        if watch.call.bookmarks and not watch.is_ahead_of(self.store.version):
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
                break_off(request.transport, "rst")
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
                await drip(response, body, fault.seconds)
            case Action.CUT:
                await response.write(body[: len(body) // 2])
                assert request.transport is not None
                break_off(request.transport, "fin")
            case _:
                await asyncio.Event().wait()
        return response
