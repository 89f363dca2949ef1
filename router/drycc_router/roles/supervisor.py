"""The parent: it binds the sockets, starts control, the workers and the git gateway, and starts again whoever ends.

It is the one process that must not fail, so it does next to nothing: no loop of a library, no thread, no table, no
token, no byte from a client. It waits for children, signals and the next moment at which something is due.

**One listening socket, inherited by all.** Measured with two workers under 200 new connections a second, one of them
killed every half second: nothing lost with one inherited socket, nor with a reuse-port socket per worker that the
parent keeps open; but with the first, whoever is free takes the next connection, so the slowest of them waited 47 ms
instead of 77, and a worker that is stopped keeps nobody waiting who has not met it yet. Spread: of 64 connections at
once 41 and 23, of 64 one after the other 32 and 32 (libuv accepts one connection per turn of the loop).

What must not enter: anything that reads what somebody else wrote, apart from the few words of its children.
"""

from __future__ import annotations

import gc
import heapq
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import drycc_proxy
import drycc_router
import drycc_tls
from drycc_proxy.kernel.sandbox import die_with_parent, ignore_signals_to_all, name_process, own_files
from drycc_proxy.kernel.sockets import bind, set_inherited
from drycc_router import __version__
from drycc_router.git.process import END_SECONDS, END_SIGNAL, LONG_ENOUGH, GitProcess
from drycc_router.process import hot_restart, runtime
from drycc_router.process.cpu import allowed_cores
from drycc_router.process.logs import write_if_possible
from drycc_router.process.messages import (
    BadMessage,
    Drain,
    Draining,
    Estate,
    Hush,
    Link,
    Listen,
    Lost,
    Message,
    ReopenLog,
    Serving,
    Stopped,
    StreamPort,
    Tickets,
    Wish,
    decode_for_supervisor,
    encode,
)
from drycc_router.process.restart_policy import LAST, Respawn
from drycc_router.process.runtime import own_identity
from drycc_router.process.supervision import MAX_ORDER
from drycc_router.settings import Settings
from drycc_tls import tickets
from drycc_tls.self_signed import self_signed

__all__ = ["ControlStart", "Supervisor", "run"]

log = logging.getLogger(__name__)

SAY_AGAIN_SECONDS: Final = 0.5
"""Between two attempts to say that we listen to somebody who does not read."""
STALL_SECONDS: Final = 10.0
"""Without a sign of life, a child is stuck."""
START_SECONDS: Final = 60.0
"""The same for one that has just been started, and still imports."""
ABORT_SECONDS: Final = 2.0
"""How long a stuck child may take to write down its stack before it is killed."""
WATCH_SECONDS: Final = 1.0
"""Between two looks at the signs of life."""
TICKET_SECONDS: Final = 12 * 3600.0
"""How long a key of session tickets is used (hardening T-13: a day at most)."""
BIND_SECONDS: Final = 1.0
"""Until a port for streams that is in use is tried again."""
STOP_SECONDS: Final = 1.0
"""How long workers may take to stop accepting before the sockets are closed behind them."""
LATE_SECONDS: Final = 5.0
"""How much longer than its grace a worker may live before it is killed."""
SOFTWARE: Final = 70
UNUSABLE: Final = frozenset({64, 71})
"""Exit statuses of a control process that another start would not mend."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class ControlStart:
    """What a control process is born with."""

    settings: Settings
    workers: int
    end: socket.socket
    """Its end of the reins."""
    admin: socket.socket
    """The operator's port, which listens already."""
    ports: Mapping[str, int | None]
    estate: int | None
    """A file in memory: what the control process before this one left."""
    quiet: bool
    """Another router still answers on the operator's port: begin to when everything is ready."""
    git: GitProcess | None
    """The git gateway, if there is to be one."""


@dataclass(slots=True, eq=False)
class Child:
    """One living process."""

    role: str
    number: int
    pid: int
    end: socket.socket
    began: float
    """When it was started."""
    heard: float
    """When it gave the last sign of life."""
    alive: bool = False
    """It has given one."""
    served: bool = False
    """It has come to do its work."""
    stopped: bool = False
    """It accepts nothing any more."""
    aborted: float = field(default=0.0)
    """When it was told to abort, because it was stuck."""

    @property
    def name(self) -> str:
        """For people."""
        return {"worker": f"worker {self.number}", "git": "git gateway"}.get(self.role, self.role)


def run(settings: Settings, control: Callable[[ControlStart], int]) -> int:
    """Serve until a signal ends it. Returns the exit status. Raises OSError when a port or the log cannot be opened.

    ``control`` is what the control process does; it is imported there, not here.
    """
    runtime.prepare()
    runtime.warn_of_few_places()
    if isinstance(settings.access_log, Path):
        os.close(os.open(settings.access_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    taken = hot_restart.take(settings.handover) if settings.handover else None
    wanted = {"http": settings.http_port, "https": settings.https_port, "admin": settings.admin_port}
    try:
        sockets = {name: _socket(settings.bind, name, port, taken) for name, port in wanted.items()}
    except OSError:
        if taken:
            taken.close()
        raise
    return Supervisor(settings, sockets, control, taken).run()


def _socket(host: str, name: str, port: int, taken: hot_restart.Taken | None) -> socket.socket:
    """What is listened on: taken over, where that is the same address, else a new one."""
    known = taken.sockets.get(name) if taken else None
    if known is None:
        return bind(host, port)
    set_inherited(known)  # the version that bound it may have set less
    address, number = known.getsockname()[:2]
    return known if address == host and port in (0, number) else bind(host, port)


class Supervisor:
    """One per router. ``sockets`` listen already: ``http``, ``https`` and ``admin``."""

    def __init__(
        self,
        settings: Settings,
        sockets: dict[str, socket.socket],
        control: Callable[[ControlStart], int],
        taken: hot_restart.Taken | None = None,
    ) -> None:
        self._count = settings.workers if settings.workers is not None else allowed_cores()
        self._settings = replace(settings, identity=settings.identity or own_identity(), workers=self._count)
        self._sockets = sockets
        self._control = control
        self._ports: dict[str, int | None] = {"http": None, "https": None, "git": None, "admin": None}
        self._ports |= {name: each.getsockname()[1] for name, each in sockets.items()}
        self._fallback = self_signed(datetime.now(UTC))
        self._ticket_key: bytes | None = taken.ticket_key if taken else None
        self._taken = taken
        """What a router before this one gave, until it is told to go."""
        self._door: hot_restart.HandoverListener | None = None
        self._asking: deque[socket.socket] = deque()
        """Ways of those who knocked and have not proven themselves yet, the oldest first."""
        self._successor: socket.socket | None = None
        """The way on which a router after this one will say that it is ready."""
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._lives: dict[tuple[str, int], Respawn] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._estate: int | None = None
        self._wanted: set[int] = set()
        """Ports that streams are wanted on."""
        self._streams: dict[int, socket.socket] = {}
        self._unbound: dict[int, str] = {}
        """Those of them that could not be bound, and why."""
        self._tries_again = False
        self._told = False
        """Whether the line on stdout was written."""
        self._git = GitProcess.prepare() if settings.git_gateway else None
        self._phase = "serving"
        """``serving``, ``leaving`` (not ready any more, still accepting), ``draining``."""
        self._status = 0
        self._looked = 0.0

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────
    def run(self) -> int:
        """Serve to the end. Returns the exit status."""
        if tickets.works():
            if self._ticket_key is None:
                self._change_tickets()
            else:
                self._at(TICKET_SECONDS, self._change_tickets)
        else:
            self._ticket_key = None
            log.warning("this Python or OpenSSL takes no ticket keys: TLS sessions resume only at the same worker")
        near, far = socket.socketpair()
        for each in (near, far):
            each.setblocking(False)
        before = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        signals = [*_SIGNALS, *([signal.SIGHUP] if isinstance(self._settings.access_log, Path) else [])]
        handlers = {number: signal.signal(number, lambda *_: None) for number in signals}
        self._selector.register(near, selectors.EVENT_READ, None)
        try:
            if self._git is not None:
                self._start("git", 0)
            self._start("control", 0)
            # What control does first is import what speaks with the cluster, on another core if there is one.
            import drycc_router.roles.worker  # noqa: F401 -- for the workers, who are copies of this process

            gc.collect()
            gc.freeze()  # what is here now is in the memory of every worker, and shared as long as nobody touches it
            for number in range(self._count):
                self._start("worker", number)
            self._at(0.0, self._watch)
            while self._children or self._phase == "serving":
                self._turn(near)
        finally:
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._drop_successor()
            self._forget_all_asking()
            for end in (
                near,
                far,
                *self._sockets.values(),
                *self._streams.values(),
                *(child.end for child in self._children.values()),
            ):
                end.close()
            if self._git is not None:
                self._git.close()
            self._selector.close()
        return self._status

    def _turn(self, wakeups: socket.socket) -> None:
        now = time.monotonic()
        timeout = max(0.0, self._due[0][0] - now) if self._due else None
        ready = self._selector.select(timeout)
        for key, _ in ready:
            if isinstance(key.data, Child):
                self._hear(key.data)
            elif key.data is not None:
                key.data()
        for key, _ in ready:
            if key.data is None:
                for number in wakeups.recv(4096):
                    self._signalled(number)
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self._sequence += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._sequence, action))

    # ── children begin ────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, role: str, number: int) -> None:
        """Start a child, unless it is too late for that."""
        if self._phase == "draining":
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        parent = os.getpid()
        # A signal that came between the fork and the child's own handlers would be told to the parent by both.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            ours.close()  # or the child would hold the end whose closing tells it that the supervisor is gone
            self._be_born(role, number, theirs, parent, blocked)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        now = time.monotonic()
        child = Child(role, number, pid, ours, now, now)
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        self._introduce(child)
        if role == "control" and self._phase != "serving":
            self._say(child, Draining())
        if role == "worker":
            for port, bound in self._streams.items():
                self._say(child, StreamPort(port), bound.fileno())

    def _be_born(
        self, role: str, number: int, end: socket.socket, parent: int, blocked: set[int | signal.Signals]
    ) -> None:
        """In the child: leave the parent's things behind, and be what it is to be. Does not return."""
        status = SOFTWARE
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ignore_signals_to_all()  # from the first moment on, and in the program that the git gateway becomes
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for key in list(self._selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            self._selector.close()
            name_process(f"drycc-{role}-{number}" if role == "worker" else f"drycc-{role}")
            if self._taken is not None:
                self._taken.forget()
            if role == "git":
                self._be_git()
            elif die_with_parent(parent):
                status = self._be(role, number, end)
        except BaseException:  # nothing may come back into the parent's code above the fork
            log.critical("%s failed", role, exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

    def _be_git(self) -> None:
        """Not asked whether the parent lives: what waits for its end is the way, and pushes are not to end with it."""
        assert self._git is not None and self._settings.git_gateway is not None  # noqa: S101 -- why it is started
        self._git.become(self._settings.git_gateway)

    def _be(self, role: str, number: int, end: socket.socket) -> int:
        sockets = self._sockets
        for bound in self._streams.values():
            bound.close()
        if self._git is not None:
            self._git.far.close()
            if role == "worker":
                self._git.listening.close()
                self._git.near.close()
        if role == "control":
            for name in ("http", "https"):
                sockets[name].close()
            return self._control(
                ControlStart(
                    self._settings,
                    self._count,
                    end,
                    sockets["admin"],
                    self._ports,
                    self._estate,
                    self._taken is not None,
                    self._git,
                )
            )
        sockets["admin"].close()
        if self._estate is not None:
            os.close(self._estate)
        serving = {name: sockets[name] for name in ("http", "https")}
        from drycc_router.roles import worker  # which the parent imported before it started any, see run

        return worker.main(worker.Start(self._settings, number, end, serving, self._fallback, self._ticket_key))

    def _introduce(self, child: Child) -> None:
        """Give control and each worker a channel of their own, whoever of the two is new."""
        if child.role == "git":
            return
        others = [each for each in self._children.values() if each.role not in (child.role, "git")]
        for other in others:
            worker, control = (child, other) if child.role == "worker" else (other, child)
            one, two = socket.socketpair()
            self._say(worker, Link(worker.number, worker.pid), one.fileno())
            self._say(control, Link(worker.number, worker.pid), two.fileno())
            one.close()
            two.close()

    # ── children speak ────────────────────────────────────────────────────────────────────────────────────────────
    def _say(self, child: Child, message: Message, *descriptors: int) -> None:
        try:
            socket.send_fds(child.end, [encode(message)], list(descriptors))
        except OSError:
            pass  # it has ended, and we shall hear of it; or it is stuck, and the watchdog will see it

    def _hear(self, child: Child) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(child.end, MAX_ORDER, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._selector.unregister(child.end)
                child.end.close()
                return
            child.heard = time.monotonic()
            child.alive = True
            try:
                self._take(child, data, descriptors)
            except BadMessage:
                log.error("%s says what cannot be understood: it is replaced", child.name)
                os.kill(child.pid, signal.SIGKILL)
            for each in descriptors:
                os.close(each)

    def _take(self, child: Child, data: bytes, descriptors: list[int]) -> None:
        match decode_for_supervisor(data):
            case Serving():
                if not child.served:
                    took = time.monotonic() - child.began
                    log.info("%s serves (process %d), %.2f s after its start", child.name, child.pid, took)
                child.served = True
                if child.role == "control" and not self._told:
                    self._told = True
                    self._take_over()
                    self._say_listening()
            case Stopped():
                child.stopped = True
                self._close_behind()
            case Estate() if child.role == "control" and descriptors:
                if self._estate is not None:
                    os.close(self._estate)
                self._estate = descriptors.pop()
            case Listen(ports) if child.role == "control":
                self._wanted = set(ports)
                self._bind_streams()
            case Wish(number, pid) if child.role == "control":
                wished = self._children.get(pid)
                if wished is not None and (wished.role, wished.number) == ("worker", number):
                    os.kill(pid, signal.SIGKILL)
            case _:
                pass

    def _take_over(self) -> None:
        """Every worker accepts: let the router before this one go, and be there for the one after it."""
        if self._taken is not None:
            log.info("took over from version %s", self._taken.version)
            self._taken.ready()
            used = {*self._sockets.values(), *self._streams.values()}
            for each in set(self._taken.sockets.values()) - used:
                each.close()
            self._taken = None
        if self._settings.handover is not None:
            try:
                self._door = hot_restart.HandoverListener(
                    self._settings.handover, own_files(drycc_proxy, drycc_router, drycc_tls)
                )
            except OSError as error:
                log.error("nobody can take over from this router: %s", error)
                return
            self._selector.register(self._door.socket, selectors.EVENT_READ, self._knocked)

    def _knocked(self) -> None:
        """Somebody asks for the sockets, and is asked for the proof. Beyond a few the oldest one is let go."""
        assert self._door is not None  # noqa: S101 -- it is its socket that woke us
        way = self._door.admit()
        if way is None:
            return
        if len(self._asking) >= hot_restart.WAITING:
            self._forget_asking(self._asking[0])
        self._asking.append(way)
        self._selector.register(way, selectors.EVENT_READ, lambda: self._hear_asking(way))

    def _forget_asking(self, way: socket.socket, *, keep: bool = False) -> None:
        self._asking.remove(way)
        self._selector.unregister(way)
        if not keep:
            way.close()

    def _forget_all_asking(self) -> None:
        while self._asking:
            self._forget_asking(self._asking[0])

    def _hear_asking(self, way: socket.socket) -> None:
        """The proof, or not. One router at a time is given the sockets; the last who has proven itself counts."""
        if way not in self._asking:
            return  # let go in this turn
        assert self._door is not None  # noqa: S101 -- without it nobody asks
        if not self._door.is_proven(way):
            log.warning("a process asked for the sockets and did not prove that it is a router's supervisor: refused")
            self._forget_asking(way)
            return
        self._forget_asking(way, keep=True)
        streams = {str(port): bound for port, bound in self._streams.items()}
        if not self._door.give(way, __version__, {**self._sockets, **streams}, self._ticket_key):
            way.close()
            return
        self._drop_successor()
        self._successor = way
        self._selector.register(way, selectors.EVENT_READ, self._hear_successor)

    def _drop_successor(self) -> None:
        if self._successor is not None:
            self._selector.unregister(self._successor)
            self._successor.close()
            self._successor = None

    def _hear_successor(self) -> None:
        assert self._successor is not None  # noqa: S101 -- it is what woke us
        try:
            word = self._successor.recv(64)
        except OSError:
            word = b""
        self._drop_successor()
        if word != hot_restart.READY:
            log.warning("a router that was to take over has ended before it served: this one goes on")
            return
        if self._phase == "draining":
            return
        log.info("another router has taken over: draining for at most %g s", self._settings.drain_grace)
        self._tell_control(Hush())
        self._drain()

    def _bind_streams(self) -> None:
        """Have a socket for each port that streams are wanted on, and tell the workers."""
        for port in self._streams.keys() - self._wanted:
            self._streams.pop(port).close()
            self._tell_workers(StreamPort(port))
        for port in self._unbound.keys() - self._wanted:
            del self._unbound[port]
        for port in self._wanted - self._streams.keys():
            try:
                given = self._taken.sockets.get(str(port)) if self._taken else None
                bound = self._streams[port] = given or bind(self._settings.bind, port)
            except (OSError, OverflowError) as error:
                if self._unbound.get(port) != str(error):
                    log.error("%s; it is tried again", error)
                    self._unbound[port] = str(error)
                self._tell_workers(StreamPort(port, str(error)))  # each time: a worker may have come meanwhile
                continue
            self._unbound.pop(port, None)
            self._tell_workers(StreamPort(port), bound.fileno())
        if self._unbound and not self._tries_again:
            self._tries_again = True
            self._at(BIND_SECONDS, self._bind_again)

    def _bind_again(self) -> None:
        self._tries_again = False
        if self._phase != "draining":
            self._bind_streams()

    def _tell_workers(self, message: Message, *descriptors: int) -> None:
        for child in self._children.values():
            if child.role == "worker":
                self._say(child, message, *descriptors)

    def _tell_control(self, message: Message) -> None:
        for child in self._children.values():
            if child.role == "control":
                self._say(child, message)

    def _say_listening(self) -> None:
        """The one line on stdout that whoever started us waits for: traffic is served, on these ports. Said as soon as
        there is room for it: who does not read must not keep us from looking after the others."""
        git = self._streams.get(self._settings.git_port)  # bound already, if there is a builder: control said so first
        self._ports["git"] = git.getsockname()[1] if git is not None else None
        line = {"event": "listening", **self._ports, "pid": os.getpid(), "version": __version__}
        try:
            said = write_if_possible(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")
        except OSError as error:
            log.warning("nobody hears that we listen: %s", error.strerror)
            return
        if not said:
            self._at(SAY_AGAIN_SECONDS, self._say_listening)

    # ── children end ──────────────────────────────────────────────────────────────────────────────────────────────
    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.get(pid)
            if child is not None:
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        if child.end.fileno() >= 0:
            self._hear(child)  # what it said last
        del self._children[child.pid]
        if child.end.fileno() >= 0:
            self._selector.unregister(child.end)
            child.end.close()
        why = _cause(child, code)
        if child.role == "worker":
            for each in self._children.values():
                if each.role == "control":
                    self._say(each, Lost(child.number, child.pid, why))
            self._close_behind()
        if self._phase == "draining":
            log.info("%s has ended (process %d, status %d)", child.name, child.pid, code)
            self._end_control()
            return
        log.error("%s %s (status %d)", child.name, why, code)
        if not self._told and child.role == "control" and code in UNUSABLE:
            self._give_up(code)
            return
        now = time.monotonic()
        lives = self._lives.setdefault((child.role, child.number), Respawn())
        if child.role == "git":  # without it there are no pushes, and everything else goes on
            self._at(lives.died(now, now - child.heard > LONG_ENOUGH) or LAST, lambda: self._start("git", 0))
            return
        delay = lives.died(now, child.served)
        if delay is None:
            log.critical("%s dies again and again before it serves: the router gives up", child.name)
            self._give_up(SOFTWARE)
            return
        self._at(delay, lambda: self._start(child.role, child.number))

    def _give_up(self, status: int) -> None:
        """End with this status, once what is under way is finished."""
        self._status = status
        self._drain()

    def _watch(self) -> None:
        """Look whose loop is stuck."""
        now = time.monotonic()
        if now - self._looked > 3 * WATCH_SECONDS:  # it was we who did not run: nobody could be heard meanwhile
            for child in self._children.values():
                if child.role != "git":
                    child.heard = max(child.heard, now)
        self._looked = now
        for child in self._children.values():
            if child.role == "git":
                continue  # it gives none
            if child.aborted:
                if now - child.aborted > ABORT_SECONDS:
                    os.kill(child.pid, signal.SIGKILL)
            elif now - child.heard > (STALL_SECONDS if child.alive else START_SECONDS):
                log.error("%s gave no sign of life for %.1f s: it is aborted", child.name, now - child.heard)
                child.aborted = now
                os.kill(child.pid, signal.SIGABRT)
        self._at(WATCH_SECONDS, self._watch)

    # ── signals ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._tell_all(ReopenLog())
        elif self._phase == "serving":
            self._leave()
        else:  # a second one: at once
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
            logging.shutdown()
            os._exit(128 + number)

    def _leave(self) -> None:
        """Out of the load balancer's sight, then exchange by exchange."""
        self._phase = "leaving"
        settings = self._settings
        delay = settings.drain_delay if self._told else 0.0
        log.info("draining: not ready any more, %g s until nothing is accepted, then %g s", delay, settings.drain_grace)
        self._tell_all(Draining())
        self._at(delay, self._drain)

    def _drain(self) -> None:
        if self._phase == "draining":
            return
        self._phase = "draining"
        if self._door is not None:
            self._selector.unregister(self._door.socket)
            self._door.close()
        self._forget_all_asking()
        grace = self._settings.drain_grace
        self._tell_control(Draining())  # where another router took over, or this one gives up, it was not told before
        self._tell_workers(Drain(grace))
        self._at(STOP_SECONDS, lambda: self._close_behind(anyway=True))
        self._at(grace + LATE_SECONDS, self._kill_late)
        self._close_behind()
        self._end_control()

    def _close_behind(self, anyway: bool = False) -> None:
        """Close the sockets once no worker accepts any more: whoever comes now is refused instead of kept waiting."""
        if self._phase != "draining":
            return
        if anyway or all(child.stopped for child in self._children.values() if child.role == "worker"):
            for each in (self._sockets["http"], self._sockets["https"], *self._streams.values()):
                each.close()

    def _end_control(self) -> None:
        """The last one to go, for it says until the end how things are. Between the workers and it, the git gateway."""
        roles = {child.role for child in self._children.values()}
        if roles == {"control"}:
            for child in self._children.values():
                self._say(child, Drain(0.0))
        elif "git" in roles and "worker" not in roles:
            git = next(child for child in self._children.values() if child.role == "git")
            os.kill(git.pid, END_SIGNAL)
            self._at(END_SECONDS, lambda: self._kill(git))

    def _kill_late(self) -> None:
        for child in self._children.values():
            self._kill(child)

    def _kill(self, child: Child) -> None:
        if self._children.get(child.pid) is child:
            log.warning("%s did not end in time: it is killed", child.name)
            os.kill(child.pid, signal.SIGKILL)

    def _tell_all(self, message: Message) -> None:
        for child in self._children.values():
            self._say(child, message)

    def _change_tickets(self) -> None:
        """A new key of session tickets, at every worker."""
        self._ticket_key = secrets.token_bytes(tickets.KEY_BYTES)
        self._tell_workers(Tickets(self._ticket_key))
        self._at(TICKET_SECONDS, self._change_tickets)


def _cause(child: Child, code: int) -> str:
    """How it ended, in a word."""
    if child.aborted:
        return "stalled"
    if code == -signal.SIGKILL:
        return "killed"
    return "crashed" if code < 0 else "exited"
