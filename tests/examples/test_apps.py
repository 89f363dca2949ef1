"""The demo's apps: they say where they listen, answer, and end with whoever started them."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def apps() -> Iterator[subprocess.Popen[str]]:
    command, pipe = [sys.executable, "-m", "examples.apps"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


def get(port: int, path: str = "/") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": "hello.localhost", "Connection": "close"})
    return connection.getresponse()


def test_each_answers_in_its_way_and_all_end_with_their_input(apps: subprocess.Popen[str]) -> None:
    assert apps.stdin and apps.stdout
    ports = json.loads(apps.stdout.readline())

    with get(ports["hello"][0], "/a?b=c") as response:
        echo = json.load(response)
        assert (echo["path"], echo["headers"]["Host"]) == ("/a?b=c", "hello.localhost")
    first, second = ports["shop"]
    with get(first) as one, get(second) as two:
        assert b"Instance 1" in one.read()
        assert b"Instance 2" in two.read()
    with get(ports["ticker"][0]) as events:
        assert events.getheader("Content-Type") == "text/event-stream"
        assert [events.readline() for _ in range(3)] == [b"data: 0\n", b"\n", b"data: 1\n"]

    apps.stdin.close()
    assert apps.wait(10) == 0
    assert apps.stderr and apps.stderr.read() == ""
