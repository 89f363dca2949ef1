"""A process reads certificates ahead; whatever becomes of it, what is asked for is answered, and answered the same.

Each story runs in a process of its own: the reader is forked, and a process of tests has too many threads for that.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from drycc_proxy.kernel.sandbox import landlock_abi
from drycc_router.process.messages import BadMessage, PairRead, ReadPair, encode
from drycc_router.roles import certificate_reader
from drycc_router.roles.certificate_reader import PairReader
from drycc_tls.certificate import Certificate
from drycc_tls.errors import BadCertificate, Flaw
from drycc_tls.secret import CERTIFICATE, KEY, read_pair
from drycc_tls.self_signed import self_signed
from examples.authority import Authority
from tests.fakes.wired import until

LIMIT = 120.0


def pair_of(name: str) -> dict[str, bytes]:
    return Authority().issue(name).secret_data()


def alone(story: Callable[[], None]) -> None:
    """Run a story in a fresh process, which must end well."""
    process = multiprocessing.get_context("spawn").Process(target=story)
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode == 0


def nobody_reads_here(_: object) -> NoReturn:
    raise AssertionError("read by whoever asked")


# ── the stories ───────────────────────────────────────────────────────────────────────────────────────────────────────


def what_was_foreseen_is_known() -> None:
    reader = PairReader.fork()
    good = pair_of("shop.example")
    bad = {CERTIFICATE: pair_of("a.example")[CERTIFICATE], KEY: good[KEY]}
    expected = read_pair(good)

    async def story() -> None:
        await reader.open()
        huge = {CERTIFICATE: good[CERTIFICATE], KEY: bytes(20_000_000)}
        for data in (huge, good, bad, {}, good):
            reader.foresee(data)
        await until(lambda: len(reader._known) == 3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(certificate_reader, "read_pair", nobody_reads_here)
            assert reader.read(good) == expected
            for data, flaw in ((bad, Flaw.MISMATCH), ({}, Flaw.NO_CERTIFICATE)):
                with pytest.raises(BadCertificate) as raised:
                    reader.read(data)
                assert raised.value.flaw is flaw
            reader.close()
            with pytest.raises(AssertionError):
                reader.read(good)  # nothing of it is kept
        reader.close()

    asyncio.run(story())
    with pytest.raises(ChildProcessError):  # it is gone, and was waited for
        os.waitpid(-1, os.WNOHANG)


def who_is_in_a_hurry_begins_at_the_other_end() -> None:
    reader = PairReader.fork()
    pairs = [pair_of(f"{number}.example") for number in range(6)]  # the first of them stands in many Secrets
    expected = [read_pair(data) for data in pairs]
    here: list[bytes] = []

    async def story() -> None:
        os.kill(reader.pid, signal.SIGSTOP)  # it comes to nothing for now
        await reader.open()
        reader.foresee(pairs[0])
        os.kill(reader.pid, signal.SIGCONT)
        await until(lambda: len(reader._known) == 1)
        os.kill(reader.pid, signal.SIGSTOP)
        for data in (*pairs[1:], pairs[0]):
            reader.foresee(data)
        with pytest.MonkeyPatch.context() as patch:

            def noted(data: Mapping[str, bytes]) -> Certificate:
                here.append(data[KEY])
                return read_pair(data)

            patch.setattr(certificate_reader, "read_pair", noted)
            reader.catch_up()
            assert here == [data[KEY] for data in pairs[:0:-1]]
            assert [reader.read(data) for data in pairs] == expected
            assert len(here) == 5
        os.kill(reader.pid, signal.SIGCONT)
        reader.close()

    asyncio.run(story())


def what_was_not_foreseen_is_read_here() -> None:
    reader = PairReader.fork()
    data = pair_of("shop.example")
    assert reader.read(data) == read_pair(data)
    reader.foresee(data)  # nobody listens yet
    assert not reader._asked
    reader.close()


def a_reader_that_dies_is_not_missed() -> None:
    reader = PairReader.fork()
    data = pair_of("shop.example")

    async def story() -> None:
        await reader.open()
        os.kill(reader.pid, signal.SIGKILL)
        await until(lambda: reader._channel is None)
        reader.foresee(data)
        assert reader.read(data) == read_pair(data)
        reader.close()

    asyncio.run(story())


def a_reader_that_talks_nonsense_is_not_heard() -> None:
    reader = PairReader.fork()
    certificate = self_signed(datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(BadMessage):
        reader._heard(encode(PairRead(0, certificate, None)))
    with pytest.raises(BadMessage):
        reader._heard(b"nonsense")
    reader.close()


def a_parent_that_dies_takes_it_along() -> None:
    asked, told = os.pipe()
    parent = os.fork()
    if parent == 0:
        reader = PairReader.fork()
        question = encode(ReadPair(0, b"", b""))
        reader._end.setblocking(True)
        reader._end.sendall(len(question).to_bytes(4, "big") + question)
        reader._end.recv(4)  # it is there
        os.kill(reader.pid, signal.SIGSTOP)  # and cannot find out by itself what happens next
        os.write(told, f"{reader.pid}\n".encode())
        os._exit(0)
    os.waitpid(parent, 0)
    reader_pid = int(os.read(asked, 20))

    async def story() -> None:
        await until(lambda: _is_gone(reader_pid))

    asyncio.run(story())


def it_has_nothing_of_its_parents() -> None:
    token, _ = os.pipe()
    os.environ["CANARY"] = "token"
    data = pair_of("shop.example")

    def looks_around(_: object) -> NoReturn:
        """In the reader: as much as a tenant's bytes could do there."""
        here = [os.readlink(f"/proc/self/fd/{each}") for each in range(3, 100) if _is_open(each)]
        if os.environ or [each.partition(":")[0] for each in here] != ["socket"]:
            raise BadCertificate(Flaw.NO_KEY)
        try:
            Path("/etc/hostname").read_bytes()
        except PermissionError:
            raise BadCertificate(Flaw.WEAK_KEY) from None
        raise BadCertificate(Flaw.HUGE_KEY)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate_reader, "read_pair", looks_around)
        reader = PairReader.fork()

    async def story() -> None:
        await reader.open()
        reader.foresee(data)
        await until(lambda: bool(reader._known))
        assert list(reader._known.values()) == [Flaw.WEAK_KEY if landlock_abi() else Flaw.HUGE_KEY]
        reader.close()

    asyncio.run(story())
    os.close(token)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    "story",
    [
        what_was_foreseen_is_known,
        who_is_in_a_hurry_begins_at_the_other_end,
        what_was_not_foreseen_is_read_here,
        a_reader_that_dies_is_not_missed,
        a_reader_that_talks_nonsense_is_not_heard,
        a_parent_that_dies_takes_it_along,
        it_has_nothing_of_its_parents,
    ],
    ids=lambda story: story.__name__,
)
def test_a_reader(story: Callable[[], None]) -> None:
    alone(story)
