"""Certificates of the first table, read by a process of their own while control puts the rest together.

To read a pair takes a quarter of a millisecond in which nothing else happens in its process: half of a second of a
start with two thousand, all of it in control, while another core has nothing to do. So control forks this one before it
has threads or a loop, hands it each pair as it comes, and ends it once there is a table. It is a cache and no more:
what it has not answered by the time the pair is needed, or never will, control reads itself.

It reads what tenants wrote, so it is confined like a worker: no files, no environment, no descriptor but its own.

What must not enter: which Secrets are read (``sources``), and what becomes of their certificates (``compile``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping
from typing import Final

import drycc_proxy
import drycc_router
import drycc_tls
from drycc_proxy.kernel.sandbox import (
    confine,
    die_with_parent,
    forget_environment,
    harden,
    ignore_signals_to_all,
    name_process,
    own_files,
)
from drycc_router.process.channel import Channel
from drycc_router.process.messages import BadMessage, PairRead, ReadPair, decode_for_reader, decode_from_reader, encode
from drycc_tls.certificate import MAX_CHAIN, MAX_KEY, Certificate
from drycc_tls.errors import BadCertificate, Flaw
from drycc_tls.secret import CERTIFICATE, KEY, read_pair

__all__ = ["PairReader"]

log = logging.getLogger(__name__)

WAITING: Final = 8 * 1024 * 1024
"""Bytes of pairs that may wait for the reader; what comes while there are more is read when it is needed."""

_LENGTH: Final = 4

_Pair = tuple[bytes, bytes]


class PairReader:
    """Control's side of it. :meth:`read` answers whether the other side lives or not; what that says is believed, as it
    holds every key anyhow."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        self._pid = pid
        self._end = end
        self._channel: Channel | None = None
        self._asked: set[_Pair] = set()
        self._order: list[_Pair] = []
        """The same in the order in which they were asked, and so answered."""
        self._known: dict[_Pair, Certificate | Flaw] = {}

    @classmethod
    def fork(cls) -> PairReader:
        """Start the process. Only for one that has no thread and no loop yet."""
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(theirs, parent)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    @property
    def pid(self) -> int:
        """Of the process that reads."""
        return self._pid

    async def open(self) -> None:
        """Begin to speak with it, on this loop."""
        channel = self._channel = Channel(self._heard, self._ended)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=self._end)

    def foresee(self, data: Mapping[str, bytes]) -> None:
        """Have a pair read that will be asked for. On the loop."""
        pair = chain, key = _pair(data)
        if self._channel is None or self._channel.unsent > WAITING or pair in self._asked:
            return
        if len(chain) > MAX_CHAIN or len(key) > MAX_KEY:  # which is told at once
            return
        self._channel.send(encode(ReadPair(len(self._order), chain, key)))
        self._asked.add(pair)
        self._order.append(pair)

    def catch_up(self) -> None:
        """Have everything read that was foreseen. In any thread.

        The reader answers in order, so what it has not come to is read here from the other end: of two that began with
        the same pair, each would read what the other one reads.
        """
        for pair in reversed([*self._order]):
            if pair in self._known:
                break
            self._known[pair] = _read(pair)

    def read(self, data: Mapping[str, bytes]) -> Certificate:
        """What ``secret.read_pair`` says of a pair. In any thread. Raises BadCertificate."""
        pair = _pair(data)
        known = self._known.get(pair) or _read(pair)
        if isinstance(known, Flaw):
            raise BadCertificate(known)
        return known

    def close(self) -> None:
        """End the process and forget everything it said. Once is enough."""
        channel, self._channel = self._channel, None
        if channel is None:
            self._end.close()
        else:
            channel.close()
        self._asked.clear()
        self._order.clear()
        self._known.clear()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _heard(self, data: bytes) -> None:
        """Raises BadMessage."""
        said = decode_from_reader(data)
        if not 0 <= said.number < len(self._order):
            raise BadMessage("an answer to what was not asked")
        pair = self._order[said.number]
        answer = said.certificate or said.flaw
        if answer is not None:
            self._known.setdefault(pair, answer)

    def _ended(self, error: Exception | None) -> None:
        if self._channel is not None:
            self._channel = None
            log.warning("the process that reads certificates ahead is gone; they are read without it", exc_info=error)


def _pair(data: Mapping[str, bytes]) -> _Pair:
    return data.get(CERTIFICATE, b""), data.get(KEY, b"")


def _read(pair: _Pair) -> Certificate | Flaw:
    try:
        return read_pair({CERTIFICATE: pair[0], KEY: pair[1]})
    except BadCertificate as bad:
        return bad.flaw


# ── the other side ────────────────────────────────────────────────────────────────────────────────────────────────────


def _become(end: socket.socket, parent: int) -> None:
    """In the child: leave everything of the parent's behind, and read until nobody asks any more. Does not return."""
    status = 1
    try:
        ignore_signals_to_all()
        os.closerange(3, end.fileno())
        os.closerange(end.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        name_process("drycc-reader")
        harden()
        if die_with_parent(parent, signal.SIGKILL):
            forget_environment()
            confine(own_files(drycc_router, drycc_proxy, drycc_tls))
            _serve(end)
        status = 0
    except BaseException:  # nothing may come back into the parent's code above the fork
        log.warning("certificates are not read ahead", exc_info=True)
    finally:
        os._exit(status)


def _serve(end: socket.socket) -> None:
    with end.makefile("rb") as asked:
        while len(length := asked.read(_LENGTH)) == _LENGTH:
            question = decode_for_reader(asked.read(int.from_bytes(length, "big")))
            answer = encode(_answer(question))
            end.sendall(len(answer).to_bytes(_LENGTH, "big") + answer)


def _answer(question: ReadPair) -> PairRead:
    found = _read((question.chain, question.key))
    if isinstance(found, Flaw):
        return PairRead(question.number, None, found)
    return PairRead(question.number, found, None)
