"""Sessions: from a developer's git, through this process, to a builder.

::

    socket → PROXY header → key exchange → whose key? → which app? may they? → the builder's session, joined

What is refused is refused with a sentence on standard error, exit status 128 as git itself fails, and an event.

What must not enter: what a command line or a key means (``commands``, ``people``); any log of a client's bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncssh

from drycc_proxy.http.client_address import client_key
from drycc_proxy.listeners.proxy_header import BadHeader, read
from drycc_proxy.routing.definitions import Address
from drycc_proxy.ssh.accounts import People
from drycc_proxy.ssh.commands import Command, CommandRefused, parse, protocol_version
from drycc_proxy.ssh.config import Directory, Person, Told
from drycc_proxy.ssh.receive_pack import Pushed

__all__ = ["Event", "GitServer"]

log = logging.getLogger(__name__)

Event = dict[str, Any]
"""What one session or refusal came to, as plain data for the audit log."""

POST_QUANTUM_KEX: Final = ("mlkem768x25519-sha256",)
KEX: Final = (*POST_QUANTUM_KEX, "curve25519-sha256", "curve25519-sha256@libssh.org")
"""X25519 alone is for clients without ML-KEM, which OpenSSH has since 9.9 (2024). What earlier ones have against
quantum computers, sntrup761, needs a library that neither PyPI nor Debian 12 has."""
CIPHERS: Final = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
SIGNATURES: Final = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Of users' keys: no SHA-1, no DSA."""

LOGIN_SECONDS: Final = 30.0
"""From the connection to a proven key."""
MAX_KEYS: Final = 6
"""Keys that a client may offer."""
MAX_STRANGERS: Final = 128
"""Connections that have not proven a key yet; beyond it the oldest one of the client with the most of them is closed:
who comes alone is in nobody's crowd, however long the key exchange takes."""
SILENCE_SECONDS: Final = 2.0
"""How long a client's first word is waited for before SSH begins without it. Nearly all speak at once; to set SSH up
for a stranger who only holds a connection costs milliseconds, of which a flood would make seconds for everybody."""
MAX_SESSIONS: Final = 10
"""Sessions on one connection."""
PIECE: Final = 64 * 1024
CERTIFICATE_SECONDS: Final = 300
BUILDER_SECONDS: Final = 20.0
"""Longest wait for a session on a builder, key exchange included."""
GIT_FAILS: Final = 128
USER: Final = "git"


@dataclass(slots=True)
class _Count:
    """What passed in one session."""

    received: int = 0
    sent: int = 0
    pushed: Pushed | None = None
    """What a push asks for."""

    def take(self, data: bytes) -> None:
        """A client said something."""
        self.received += len(data)
        if self.pushed is not None and not self.pushed.over:
            self.pushed.read(data)

    def give(self, data: bytes) -> None:
        """A client was told something."""
        self.sent += len(data)


class GitServer:
    """Accepts from a listening socket until it is closed. ``report`` is given every event; it must not block."""

    def __init__(self, directory: Directory, report: Callable[[Event], None]) -> None:
        self._directory = directory
        self._report = report
        self._people = People()
        self._builders: list[Address] = []
        self._connect_timeout = 10.0
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[_Session, None] = {}
        """In the order in which they came."""
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._sessions = 0
        """Under way now."""
        self._idle = asyncio.Event()
        self._idle.set()

    def serve_from(self, builders: list[Address], connect_timeout: float) -> None:
        """Where sessions that begin from now on go."""
        self._builders = builders
        self._connect_timeout = connect_timeout

    async def listen(self, listening: socket.socket) -> None:
        """Accept for ever."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        while True:
            try:
                sock, peer = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("no connection could be accepted: %s", error.strerror)
                await asyncio.sleep(0.5)
                continue
            task = asyncio.create_task(self._welcome(sock, peer[0]), name="git client")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def over(self) -> None:
        """Until no session is under way."""
        await self._idle.wait()

    async def close(self, seconds: float) -> None:
        """Break everything off; sessions have ``seconds`` to say that they were."""
        for connection in list(self._connections):
            connection.abort()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d sessions did not end", self._sessions)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._people.close()

    # ── connections ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _welcome(self, sock: socket.socket, peer: str) -> None:
        """From a socket to a connection that may have sessions."""
        loop = asyncio.get_running_loop()
        session = _Session(self, peer)
        session.task = asyncio.current_task()
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                data = b""
                while (header := read(data)) is None:
                    # Byte by byte near its end, so that none of the client's own is taken.
                    piece = await loop.sock_recv(sock, 1 if len(data) >= 12 else 12 - len(data))
                    if not piece:
                        raise BadHeader("it broke off")
                    data += piece
                if not header.size:
                    raise BadHeader("only the router speaks to this port")
                if header.source is not None:
                    session.client = header.source[0]
                self._make_room()
                self._strangers[session] = None
                await _first_word(sock)
                told = self._directory.now()
                session.told = told
                connection = await asyncssh.run_server(sock, config=None, options=_options(session, told))
            self._connections.add(connection)
            self._strangers.pop(session, None)
            await connection.wait_closed()
            self._connections.discard(connection)
        except (OSError, asyncssh.Error, BadHeader, TimeoutError):
            sock.close()  # whoever it was never proved a key
        except asyncio.CancelledError:
            sock.close()
            raise
        finally:
            self._strangers.pop(session, None)

    def _make_room(self) -> None:
        """Turn strangers away where there are too many to take another."""
        while len(self._strangers) >= MAX_STRANGERS:
            crowds = Counter(client_key(each.client) for each in self._strangers)
            crowd = crowds.most_common(1)[0][0]
            oldest = next(each for each in self._strangers if client_key(each.client) == crowd)
            del self._strangers[oldest]
            oldest.turn_away()
            self.tell("denied", reason="too_many_strangers", client=oldest.client)

    async def whose(self, key: asyncssh.SSHKey, told: Told) -> Person | None:
        """See :class:`~drycc_proxy.ssh.accounts.People`."""
        return await self._people.whose(key, told)

    def tell(self, event: str, **facts: object) -> None:
        """Report something."""
        self._report({"event": event, **facts})

    # ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(
        self, session: _Session, person: Person, fingerprint: str, process: asyncssh.SSHServerProcess[bytes]
    ) -> None:
        """One session, to its exit status."""
        self._sessions += 1
        self._idle.clear()
        try:
            await self._serve(session, person, fingerprint, process)
        finally:
            self._sessions -= 1
            if not self._sessions:
                self._idle.set()

    async def _serve(
        self, session: _Session, person: Person, fingerprint: str, process: asyncssh.SSHServerProcess[bytes]
    ) -> None:
        began = time.monotonic()
        count = _Count()
        facts: dict[str, object] = {"client": session.client, "user": person.name, "fingerprint": fingerprint}
        status = GIT_FAILS
        try:
            if process.subsystem is not None:
                raise CommandRefused("bad_command", "Only git push, fetch and clone of one app are served here.")
            command = parse(process.command)
            facts |= {"service": command.service, "app": command.app}
            count.pushed = Pushed() if command.is_push else None
            told = self._directory.now()
            if told.maintenance and command.is_push:
                raise CommandRefused("maintenance", told.maintenance)
            if not person.may(command.app):
                message = f"{person.name} has no app called {command.app}, or may not push to it."
                raise CommandRefused("not_your_app", message)
            status = await self._join(told, command, person, fingerprint, session, process, count)
            outcome = "ok" if status == 0 else "failed"
        except CommandRefused as refused:
            outcome = refused.reason
            _say(process, str(refused))
        except (asyncssh.Error, OSError):
            outcome = "broken_off"
            _say(process, "The connection to the builder broke off.")
        except asyncio.CancelledError:
            self._tell_session(facts, "broken_off", GIT_FAILS, count, began)
            raise
        self._tell_session(facts, outcome, status, count, began)
        process.exit(status)

    def _tell_session(
        self, facts: Mapping[str, object], outcome: str, status: int, count: _Count, began: float
    ) -> None:
        took = round((time.monotonic() - began) * 1e3, 3)
        self.tell(
            "session",
            **facts,
            **(count.pushed.facts() if count.pushed else {}),
            outcome=outcome,
            exit_status=status,
            bytes_in=count.received,
            bytes_out=count.sent,
            duration_ms=took,
        )

    async def _join(
        self,
        told: Told,
        command: Command,
        person: Person,
        fingerprint: str,
        session: _Session,
        process: asyncssh.SSHServerProcess[bytes],
        count: _Count,
    ) -> int:
        """Let the client's session and one on a builder speak to each other; returns the exit status."""
        builder = await self._connect(told, command.app, person, fingerprint)
        async with builder:
            environment = {"DRYCC_USER": person.name, "DRYCC_FINGERPRINT": fingerprint, "DRYCC_CLIENT": session.client}
            version = protocol_version(dict(process.env))
            if version:
                environment["GIT_PROTOCOL"] = version
            theirs = await builder.create_process(str(command), encoding=None, env=environment)

            async def to_client(source: asyncssh.SSHReader[bytes], target: asyncssh.SSHWriter[bytes]) -> None:
                if not await _pump(source, target, count.give):
                    raise ConnectionResetError("the client is gone")

            async def to_builder() -> None:
                """Until the client has said everything; it is told the end with the exit status, not by an end of file:
                that of standard error would be that of standard output, too."""
                if await _pump(process.stdin, theirs.stdin, count.take) and theirs.stdin.can_write_eof():
                    theirs.stdin.write_eof()

            def gone(task: asyncio.Task[None]) -> None:
                if not task.cancelled() and task.exception() is not None:
                    builder.abort()  # nobody is there any more to hear how it ends

            asked = asyncio.create_task(to_builder(), name="to builder")
            asked.add_done_callback(gone)
            answered = [
                asyncio.create_task(to_client(theirs.stdout, process.stdout), name="to client"),
                asyncio.create_task(to_client(theirs.stderr, process.stderr), name="to client"),
            ]
            try:
                await asyncio.gather(*answered)
                await theirs.wait_closed()
                if asked.done():
                    asked.result()  # raises what made an end of it
            except (asyncssh.Error, OSError):
                builder.abort()
                raise
            finally:
                for task in (asked, *answered):
                    task.cancel()
                await asyncio.gather(asked, *answered, return_exceptions=True)
            status = theirs.exit_status
        return GIT_FAILS if status is None or status < 0 else status

    async def _connect(self, told: Told, app: str, person: Person, fingerprint: str) -> asyncssh.SSHClientConnection:
        """A connection to the app's own builder, or to one of the endpoints of everybody's. Raises
        :class:`CommandRefused`."""
        keys: list[Any] = []
        if told.client_key is not None:
            keys.append(told.client_key)
        elif told.user_ca is not None:
            keys.append(_certified(told.user_ca, told.builder_user, person, fingerprint))
        known = None if told.known_hosts is None else asyncssh.import_known_hosts(told.known_hosts.decode())
        builders = [told.builders[app]] if app in told.builders else self._builders
        for _ in range(min(3, len(builders))):
            self._turn += 1
            host, port = builders[self._turn % len(builders)]
            try:
                async with asyncio.timeout(BUILDER_SECONDS):
                    return await asyncssh.connect(
                        host,
                        port,
                        config=None,
                        username=told.builder_user,
                        client_keys=keys,
                        agent_path=None,
                        known_hosts=known,
                        connect_timeout=self._connect_timeout,
                        keepalive_interval=60,
                        preferred_auth="publickey",
                        encryption_algs=CIPHERS,  # AES-GCM first, which is one call for each packet
                    )
            except (asyncssh.Error, OSError, TimeoutError) as error:
                log.warning("builder %s port %d: %s", host, port, type(error).__name__)
        raise CommandRefused("builder_unavailable", "The builder is not available. Try again in a minute.")


class _Session(asyncssh.SSHServer):
    """One client's connection."""

    def __init__(self, server: GitServer, client: str) -> None:
        self._server = server
        self.client = client
        self.task: asyncio.Task[None] | None = None
        """Who takes it from a socket to a connection."""
        self.told: Told | None = None
        self._connection: asyncssh.SSHServerConnection | None = None
        self._person: Person | None = None
        self._fingerprint = ""
        self._offered: set[str] = set()
        self._warned = False
        self._open = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def turn_away(self) -> None:
        """Make room for somebody else."""
        if self._connection is not None:
            self._connection.abort()
        elif self.task is not None:
            self.task.cancel()

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is somebody's; that the client has it is proven afterwards. The last one asked for counts."""
        self._person = None
        fingerprint = key.get_fingerprint()
        self._offered.add(fingerprint)
        if len(self._offered) > MAX_KEYS:
            self._refuse("too_many_keys", f"More than {MAX_KEYS} keys were offered; let ssh offer the right one only.")
            return False
        if username != USER:
            self._refuse("bad_user", f"Only the user {USER} is known here: ssh://{USER}@…")
            return False
        try:
            assert self.told is not None  # noqa: S101 -- set before the key exchange begins
            person = await self._server.whose(key, self.told)
        except CommandRefused as refused:
            self._refuse(refused.reason, str(refused))
            return False
        if person is None:
            self._refuse(
                "unknown_key", f"Nobody on the platform has the key {fingerprint}; add it with drycc keys:add."
            )
            return False
        self._person, self._fingerprint = person, fingerprint
        return True

    def _refuse(self, reason: str, sentence: str) -> None:
        """Say why, once: who has several keys may have the right one among the next."""
        if not self._warned and self._connection is not None:
            self._warned = True
            self._connection.send_auth_banner(f"drycc: {sentence}\n")
            self._server.tell("denied", reason=reason, client=self.client)

    async def process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """A session has begun."""
        if self._person is None or self._open >= MAX_SESSIONS:
            process.exit(GIT_FAILS)
            return
        self._open += 1
        try:
            await self._server.serve(self, self._person, self._fingerprint, process)
        finally:
            self._open -= 1


async def _first_word(sock: socket.socket) -> None:
    """Until a client has said something, for a while; a client may also wait for the server to speak."""
    loop = asyncio.get_running_loop()
    spoken = asyncio.Event()
    loop.add_reader(sock, spoken.set)
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            await spoken.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(sock)


def _options(session: _Session, told: Told) -> asyncssh.SSHServerConnectionOptions:
    """What is offered to a client, and what is not."""
    pairs = asyncssh.load_keypairs(list(told.host_keys))
    for pair in pairs:  # one of RSA would be offered with SHA-1, too
        pair.host_key_algorithms = [each for each in pair.host_key_algorithms if each.decode() in SIGNATURES]
    return asyncssh.SSHServerConnectionOptions(
        config=None,
        server_factory=lambda: session,
        server_host_keys=pairs,
        server_version="drycc",
        process_factory=session.process,
        encoding=None,
        kex_algs=POST_QUANTUM_KEX if told.post_quantum_only else KEX,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=("none",),
        signature_algs=SIGNATURES,
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        allow_pty=False,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_scp=False,
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=60,
        keepalive_count_max=5,
    )


def _certified(ca: asyncssh.SSHKey, user: str, person: Person, fingerprint: str) -> tuple[asyncssh.SSHKey, object]:
    """A key for this session, and a certificate that says for whom it is, good for a few minutes."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    now = int(time.time())
    certificate = ca.generate_user_certificate(
        key,
        key_id=f"{person.name} {fingerprint}",
        principals=[user],
        valid_after=now - 60,
        valid_before=now + CERTIFICATE_SECONDS,
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_port_forwarding=False,
        permit_pty=False,
        permit_user_rc=False,
    )
    return key, certificate


def _say(process: asyncssh.SSHServerProcess[bytes], sentence: str) -> None:
    """On the developer's terminal, if that is still there."""
    try:
        process.stderr.write(f"drycc: {sentence}\n".encode())
    except (asyncssh.Error, OSError):
        pass  # whoever would have read it is gone


async def _pump(
    source: asyncssh.SSHReader[bytes], target: asyncssh.SSHWriter[bytes], passed: Callable[[bytes], None]
) -> bool:
    """Everything from one side to the other, no faster than it is taken. False: the other takes no more.

    Raises what the source's connection ended with.
    """
    while data := await source.read(PIECE):
        passed(data)
        try:
            target.write(data)
            await target.drain()
        except (asyncssh.Error, OSError):
            return False
    return True
