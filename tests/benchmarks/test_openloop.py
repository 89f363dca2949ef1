"""The generator of a fixed rate, against a small server that behaves or does not."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.openloop import Answer, OpenLoop, openloop_command, read_answer
from benchmarks.tools import REPOSITORY

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_answer_is_whole_when_its_length_is_there() -> None:
    assert read_answer(GOOD) == Answer(200, b"ok")
    assert read_answer(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") == Answer(404, b"")


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_part_of_an_answer_is_not_an_answer_yet(cut: int) -> None:
    assert read_answer(GOOD[:cut]) is None


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", GOOD + b"!"])
def test_what_is_no_answer_or_too_much_of_one_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an answer|bytes too many"):
        read_answer(data)


def test_good_answers_each_have_a_latency() -> None:
    with _server(lambda _number: GOOD) as port:
        report = OpenLoop(port, tls=False, hosts=["a.test", "b.test"], rate=400, connections=4).run(0.25)
    assert report.sent in (100, 101)  # a hundred intervals as floats add up to the whole, or to a hair less
    assert report.failed == 0
    assert len(report.latencies_us) == report.sent
    assert all(latency > 0 for latency in report.latencies_us)


def test_an_error_status_is_a_failure_of_its_host_and_the_load_goes_on() -> None:
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    with _server(lambda number: refused if number == 3 else GOOD) as port:
        report = OpenLoop(port, tls=False, hosts=["a.test"], rate=200, connections=1).run(0.5)
    assert report.sent > 4
    assert (report.failed, report.failures) == (1, ["a.test: status 503"])


def test_a_connection_closed_instead_of_an_answer_is_a_failure_and_is_opened_again() -> None:
    with _server(lambda number: b"" if number == 0 else GOOD) as port:
        report = OpenLoop(port, tls=False, hosts=["a.test"], rate=200, connections=1).run(0.05)
    assert report.failures == ["a.test: closed after 0 bytes"]
    assert len(report.latencies_us) == report.sent - 1


def test_a_request_that_finds_no_free_connection_counts_from_when_it_fell_due() -> None:
    release = threading.Event()

    def stall_first(number: int) -> bytes:
        if number == 0:
            release.wait(30)
        return GOOD

    with _server(stall_first) as port:
        threading.Timer(0.3, release.set).start()
        report = OpenLoop(port, tls=False, hosts=["a.test"], rate=100, connections=1).run(0.1)
    assert report.sent == 10
    assert min(report.latencies_us) >= 190_000  # even the last one, due after 90 ms, waited until 300 ms


def test_the_program_writes_its_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with _server(lambda _number: GOOD) as port:
        command = openloop_command(port, path, tls=False, rate=100, seconds=0.1, connections=2, hosts=["a.test"])
        assert command[0] == sys.executable
        subprocess.run(command, check=True, timeout=30, cwd=REPOSITORY)
    report = json.loads(path.read_text())
    assert (report["sent"], report["failed"], len(report["latencies_us"])) == (10, 0, 10)


@contextlib.contextmanager
def _server(answer: Callable[[int], bytes]) -> Iterator[int]:
    """Serve on a free port; ``answer`` gets the number of the request on its connection, and b"" closes it.

    The numbers run over all connections.
    """
    count = 0
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        nonlocal count
        with connection:
            while connection.recv(65536):
                number, count = count, count + 1
                if not (data := answer(number)):
                    return
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            opened.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(30)
    for thread in threads:
        thread.join(30)
