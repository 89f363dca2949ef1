"""The smallest client of an API server that serves us: one object, one page, one watch, one write; raw JSON.

``kubernetes_asyncio`` tells who we are (kubeconfig with all its ways to log in, a Pod's token and authority); the
requests are ours, because its models would take seconds and gigabytes for ten thousand Services, and because everything
here has a bound: time, bytes of a page, bytes of a line, silence.

Credentials are read again when the server no longer takes them (a Pod's token also once a minute), and the TLS context
is made anew when the files behind it differ. Nothing here tries again but for that: when to do so is for ``watch``.

What must not enter: what objects mean, waiting, and any log line or error text with a token or an object in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import socket
import ssl
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit  # noqa: TID251 -- of the URL that credentials name, not of what a client sends

import aiohttp
import msgspec

from drycc_router import __version__
from drycc_router.kubernetes import credentials
from drycc_router.kubernetes.credentials import ConfigException, Configuration
from drycc_router.kubernetes.errors import (
    ApiError,
    BadAnswer,
    CredentialsError,
    Refused,
    Silent,
    Unauthorized,
    Unexpected,
    Unreachable,
    Untrusted,
    refusal,
)
from drycc_router.kubernetes.resources import Resource

__all__ = ["WATCH_SECONDS", "Api", "Listed", "RawObject", "WatchEvent"]

log = logging.getLogger(__name__)

RawObject = Mapping[str, Any]
"""A JSON object as the API server wrote it."""

CONNECT_SECONDS: Final = 5.0
LOOK_UP_SECONDS: Final = 2.0
"""For the server's name, where it is known by one."""
ANSWER_SECONDS: Final = 15.0
"""For one whole answer that is not a watch."""
HEAD_SECONDS: Final = 10.0
"""For a watch to begin."""
WATCH_SECONDS: Final = 45.0
"""How long a watch is asked to last. The server says goodbye then, with a bookmark just before: so every watch hears
something within a minute even where nothing happens, and whoever does not is cut off (hardening R-07)."""
GRACE_SECONDS: Final = 8.0
"""Silence beyond that which a slow server is granted."""
MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of one answer: a page of :data:`PAGE` objects of a hundred kilobytes each."""
MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of one watch event; etcd stores at most 1.5 MiB of an object."""
PAGE: Final = 500
"""Objects on a page of a list."""
IN_THREAD: Final = 64 * 1024
"""Bytes of JSON from which on it is parsed in a thread, so that the loop can turn meanwhile."""
MAX_MESSAGE: Final = 200
"""Characters of the server's own words that go into an error."""
MAX_FAULTS: Final = 20
"""Kinds of unexpected exceptions that are logged with their trace, once each."""
_READ: Final = 256 * 1024
_EVENTS: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


@dataclass(frozen=True, slots=True)
class Listed:
    """One page. ``version``: the resource version of the whole list, the same on every page."""

    items: tuple[RawObject, ...]
    version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK. An ERROR event is raised, never returned."""

    type: str
    object: RawObject


class Api:
    """Speaks with one API server. Made by :meth:`connect`, which does not ask it anything yet."""

    def __init__(self, kubeconfig: Path | None, configuration: Configuration) -> None:
        self._kubeconfig = kubeconfig
        self._configuration = configuration
        self._files = _files(configuration)
        self._session = _session(configuration)
        self._faults: set[str] = set()
        """Unexpected exceptions that were logged, by type and place."""

    def __repr__(self) -> str:
        return f"<Api {self._configuration.host}>"

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> Api:
        """Read who we are: from a kubeconfig, or (None) from what Kubernetes puts into a Pod.

        Raises:
            CredentialsError: it cannot be read, or does not say where the server is.
        """
        return cls(kubeconfig, await credentials.read(kubeconfig))

    @property
    def host(self) -> str:
        """The server's URL."""
        return str(self._configuration.host)

    async def addresses(self) -> list[tuple[str, int]]:
        """Where the server is by its URL: (address, port). A name is looked up; none: it cannot be, or not soon."""
        url = urlsplit(self.host)
        host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            log.warning("the address of %s is not known: %s", host, str(error) or "no answer")
            return []
        return [(str(address[0]), port) for *_, address in found]

    async def close(self) -> None:
        """Break off whatever is under way."""
        await self._session.close()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def reach(self) -> None:
        """Ask for something that everybody may ask for.

        Raises:
            Unreachable: there is no server, or it does not answer. Any answer at all is good news.
        """
        try:
            await self._ask("GET", "/version")
        except (Refused, BadAnswer):
            pass

    async def get(self, resource: Resource, namespace: str, name: str) -> RawObject:
        """One object. Raises ApiError (NotFound: there is none)."""
        return await self._ask("GET", resource.path(namespace, name))

    async def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = "", limit: int = PAGE
    ) -> AsyncGenerator[Listed, None]:
        """A complete list, page by page, all of the same moment.

        Raises ApiError; Gone when the moment is too long ago to tell the rest of it. What came before is then worth
        nothing.
        """
        query = _query(labels, fields, limit=str(limit))
        while True:
            document = await self._ask("GET", resource.path(namespace), query)
            metadata = document.get("metadata")
            items = document.get("items")
            if not isinstance(metadata, dict) or not (items is None or isinstance(items, list)):
                raise BadAnswer(f"expected a list of {resource}")
            version = metadata.get("resourceVersion")
            if not isinstance(version, str) or not version:
                raise BadAnswer(f"expected a list of {resource} with a resourceVersion")
            yield Listed(tuple(items or ()), version)
            following = metadata.get("continue")
            if not following:
                return
            query["continue"] = str(following)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        version: str | None = None,
        seconds: float = WATCH_SECONDS,
    ) -> AsyncGenerator[list[WatchEvent], None]:
        """What happens from ``version`` on (None: what is there now as ADDED, then what happens), in order.

        Yields what arrived together, first an empty list when the watch has begun. Ends when the server ends it, after
        about ``seconds``.

        Raises:
            Gone: the version is forgotten.
            Silent: nothing came for longer than that.
            ApiError: anything else.
        """
        seconds *= 0.9 + random.random() / 5.0  # noqa: S311 -- so that watches do not all end at once
        query = _query(
            labels, fields, watch="true", allowWatchBookmarks="true", timeoutSeconds=str(max(1, round(seconds)))
        )
        if version is not None:
            query["resourceVersion"] = version
        async with self._stream(resource.path(namespace), query, seconds + GRACE_SECONDS) as response:
            yield []
            rest = b""
            async for chunk in response.content.iter_chunked(_READ):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                if len(rest) > MAX_LINE:
                    raise BadAnswer(f"expected events of at most {MAX_LINE} bytes")
                events = [_event(line) for line in lines if line.strip()]
                if events:
                    yield events
            if rest.strip():
                raise BadAnswer("expected a whole event at the end of the watch")

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, resource: Resource, namespace: str, document: RawObject) -> RawObject:
        """A new object. Raises ApiError (Conflict: there is one)."""
        return await self._ask("POST", resource.path(namespace), body=document)

    async def put(self, resource: Resource, namespace: str, name: str, document: RawObject) -> RawObject:
        """Replace an object. Raises ApiError (Conflict: it is no longer the version that ``document`` names)."""
        return await self._ask("PUT", resource.path(namespace, name), body=document)

    async def patch(self, resource: Resource, namespace: str, name: str, document: RawObject) -> RawObject:
        """Merge into an object (RFC 7386). Raises ApiError."""
        path = resource.path(namespace, name)
        return await self._ask("PATCH", path, body=document, content_type="application/merge-patch+json")

    # ── one request ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: RawObject | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        # Without the context manager that a watch has: there may be thousands of these at a start.
        try:
            response = await self._send(method, path, query, body, content_type)
            try:
                data = await _read(response)
            finally:
                response.release()
        except ApiError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            raise await self._failure(error) from error
        document = await asyncio.to_thread(_json, data) if len(data) > IN_THREAD else _json(data)
        if not isinstance(document, dict):
            raise BadAnswer("expected a JSON object")
        return document

    @asynccontextmanager
    async def _stream(
        self, path: str, query: Mapping[str, str], silence: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is a success and goes on, with at most ``silence`` seconds between two words of it.

        Every way in which the connection fails, while the answer is read too, comes out as an ApiError.
        """
        try:
            response = await self._send("GET", path, query, silence=silence)
            try:
                yield response
            finally:
                response.close()  # it is never read to its end by choice, and what is left would have to be drained
        except ApiError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            raise await self._failure(error) from error

    async def _failure(self, error: Exception | asyncio.CancelledError) -> ApiError:
        """The one error that stands for an exception; where TLS may be why, the credentials are read again.

        Raises CancelledError, if that is it and the task was cancelled.
        """
        match error:
            case asyncio.CancelledError():
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise error
                # aiohttp cancels what waits for a name to be resolved when the session under it is closed.
                return Unreachable("the connection was given up")
            case TimeoutError():
                return Silent("nothing came for too long")
            case ssl.SSLError() | aiohttp.ClientSSLError():
                return await self._distrust(error)
            case aiohttp.ClientPayloadError():
                return Unreachable("the connection broke in the middle of an answer")
            case aiohttp.ClientError() | OSError():
                return Unreachable(_words(error))
            case _:
                self._log_fault(error)
                return Unexpected(f"unexpected {type(error).__name__} while asking")

    async def _distrust(self, error: Exception) -> ApiError:
        """TLS failed: the authority or our own pair may be another one by now."""
        # aiohttp's own exceptions are SSLErrors without the attributes of one; the one inside has them.
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        also = ""
        try:
            await self._refresh()
        except Unreachable as failed:
            also = f"; {failed}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            authority = self._configuration.ssl_ca_cert or "the system's authorities"
            why = getattr(cause, "verify_message", "") or "for a reason that OpenSSL does not tell"
            return Untrusted(f"certificate verify failed: {why} ({self.host} against {authority}){also}")
        return Unreachable(f"TLS: {getattr(cause, 'reason', None) or type(cause).__name__}{also}")

    def _log_fault(self, error: Exception) -> None:
        """With its trace, once for each place: whoever asked tries again, and again."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{type(error).__name__} {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
        if place not in self._faults and len(self._faults) < MAX_FAULTS:
            self._faults.add(place)
            log.error("a request to the API server failed in an unexpected way; it is tried again", exc_info=error)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: RawObject | None = None,
        content_type: str = "application/json",
        silence: float = 0.0,
    ) -> aiohttp.ClientResponse:
        """The head of a success; once more with fresh credentials when they are not taken. ``silence``: see
        :meth:`_stream`; 0: the whole answer has :data:`ANSWER_SECONDS`. Raises Refused and more."""
        for attempt in (1, 2):
            headers = await self._authorization()
            if body is not None:
                headers["Content-Type"] = content_type
            options: dict[str, Any] = {}
            if silence:
                headers["Accept-Encoding"] = "identity"  # each event is small, and none may wait for a fuller block
                options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
            request = self._session.request(
                method,
                self.host + path,
                params=query,
                data=None if body is None else json.dumps(body),
                headers=headers,
                server_hostname=self._configuration.tls_server_name or None,
                proxy=self._configuration.proxy or None,
                allow_redirects=False,  # whoever answers with one is no API server
                **options,
            )
            if silence:
                async with asyncio.timeout(HEAD_SECONDS):
                    response = await request
            else:
                response = await request
            if 200 <= response.status < 300:
                if "json" not in response.content_type:
                    response.close()
                    raise BadAnswer("expected JSON")
                return response
            try:
                await _refuse(response)
            except Unauthorized:
                if attempt == 2:
                    raise
                await self._refresh()
        raise AssertionError  # pragma: no cover -- the loop returns or raises

    async def _authorization(self) -> dict[str, str]:
        """Headers that say who we are. A Pod's token is read again here once a minute."""
        try:
            words = await self._configuration.auth_settings()
        except (ConfigException, OSError, ValueError) as error:
            raise Unreachable(f"the credentials cannot be read ({type(error).__name__})") from error
        token = words["BearerToken"]["value"] if "BearerToken" in words else None
        return {"Authorization": token.strip()} if token else {}

    async def _refresh(self) -> None:
        """Read the credentials again; with other files behind TLS, connections are made anew."""
        try:
            configuration = await credentials.read(self._kubeconfig)
            files = _files(configuration)
            fresh = _session(configuration) if files != self._files else None
        except CredentialsError as error:
            raise Unreachable(str(error)) from error
        self._configuration = configuration
        if fresh is not None:
            before, self._session, self._files = self._session, fresh, files
            await before.close()  # watches over it begin again, with what is good now


def _files(configuration: Configuration) -> bytes:
    """A digest of what TLS is made of, to tell when it differs. Raises CredentialsError."""
    digest = hashlib.sha256()
    for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        try:
            digest.update(b"\x00" if not path else Path(path).read_bytes())
        except OSError as error:
            raise CredentialsError(f"{path}: expected a file that can be read ({error.strerror})") from error
    return digest.digest()


def _session(configuration: Configuration) -> aiohttp.ClientSession:
    """Connections to the server. Raises CredentialsError."""
    context: ssl.SSLContext | bool = True
    if str(configuration.host).startswith("https"):
        try:
            context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
            if configuration.cert_file:
                context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise CredentialsError(f"{configuration.host}: expected a certificate that can be loaded") from error
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    connector = aiohttp.TCPConnector(limit=0, ssl=context, socket_factory=_socket, keepalive_timeout=30.0)
    return aiohttp.ClientSession(
        connector=connector,
        headers={"Accept": "application/json", "User-Agent": f"drycc-router/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=2**17,
        auto_decompress=True,
    )


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices within a minute that its peer vanished without a word (hardening R-07)."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        option = getattr(socket, name, None)  # not every system has them all
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, if it is not too large."""
    length = response.content_length
    if length is not None:
        if length > MAX_ANSWER:
            raise BadAnswer(f"expected an answer of at most {MAX_ANSWER} bytes")
        if "Content-Encoding" not in response.headers:  # else it may become any size
            return await response.read()
    data = bytearray()
    async for chunk in response.content.iter_chunked(_READ):
        data += chunk
        if len(data) > MAX_ANSWER:
            raise BadAnswer(f"expected an answer of at most {MAX_ANSWER} bytes")
    return bytes(data)


async def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raise what a status that is no success stands for."""
    message = response.reason or ""
    said: Mapping[str, Any] = {}
    try:
        document = _json(await _read(response)) if "json" in response.content_type else None
        if isinstance(document, dict):
            said = document
    except (ApiError, aiohttp.ClientError):
        pass  # the status is what matters
    finally:
        response.close()
    if response.status == 404 and said.get("kind") != "Status":
        # "There is no such object" opens doors that the object keeps shut, so only an API server may say it.
        raise BadAnswer("404 from something that is no API server")
    if isinstance(said.get("message"), str):
        message = said["message"]
    asked = _seconds(response.headers.get("Retry-After"))
    raise refusal(response.status, _shortened(message), asked, is_future=_is_future(said))


def _event(line: bytes) -> WatchEvent:
    document = _json(line)
    if not isinstance(document, dict):
        raise BadAnswer("expected watch events")
    kind, told = document.get("type"), document.get("object")
    if not isinstance(told, dict):
        raise BadAnswer("expected watch events with an object")
    if kind == "ERROR":
        code = told.get("code")
        message = told.get("message")
        raise refusal(
            code if isinstance(code, int) else 500,
            _shortened(message if isinstance(message, str) else ""),
            _retry_after(told),
            is_future=_is_future(told),
        )
    if not isinstance(kind, str) or kind not in _EVENTS:
        raise BadAnswer("expected watch events of a known type")
    return WatchEvent(kind, told)


def _details(status: Mapping[str, Any]) -> Mapping[str, Any]:
    details = status.get("details")
    return details if isinstance(details, dict) else {}


def _retry_after(status: Mapping[str, Any]) -> float:
    """Seconds that a ``Status`` inside a watch asks to wait; 0: it does not."""
    seconds = _details(status).get("retryAfterSeconds")
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else 0.0


def _is_future(status: Mapping[str, Any]) -> bool:
    """Whether a ``Status`` says that the version asked for has not been yet."""
    if status.get("code") != 504:
        return False
    causes, message = _details(status).get("causes"), status.get("message")
    named = [cause.get("reason") for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    if "ResourceVersionTooLarge" in named:
        return True
    return isinstance(message, str) and "Too large resource version" in message  # before there was a cause


def _json(data: bytes) -> object:
    """Quickly; what the quick way does not take, in the tolerant one: half a surrogate pair in one annotation must not
    stop a watch of everybody's."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # the error's own words would quote what stood there
        pass
    raise BadAnswer("expected JSON")


def _query(labels: str, fields: str, **others: str) -> dict[str, str]:
    query = dict(others)
    if labels:
        query["labelSelector"] = labels
    if fields:
        query["fieldSelector"] = fields
    return query


def _seconds(text: str | None) -> float:
    """``Retry-After`` in seconds; the form with a date is not used by API servers."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def _shortened(message: str) -> str:
    kept = "".join(letter if letter.isprintable() else " " for letter in message[:MAX_MESSAGE])
    return kept if len(message) <= MAX_MESSAGE else kept + "…"


def _words(error: Exception) -> str:
    """What happened, without what was sent."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
