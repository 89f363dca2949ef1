"""The script wrk is given, and what it hands back."""

import os
import re
import shutil
import socket
import threading
from pathlib import Path

import pytest

from benchmarks.load import LoadReport, lua_script, parse_h2load, parse_report, wrk
from benchmarks.workload import MEASURED, requests


def test_a_steady_request_is_made_once() -> None:
    script = lua_script(requests["small"])
    assert "wrk.format = function() return whole end" in script
    assert "request = function()" not in script
    assert f"Host: {MEASURED}\\r\\n" in script
    assert "{" not in script.split("local whole")[1].split("\n")[0].replace("{}", "")


def test_a_varying_request_is_made_anew_with_its_number_everywhere() -> None:
    script = lua_script(requests["varied"])
    assert '"GET /products/" .. n .. "?from=list HTTP/1.1' in script
    assert script.count(" .. n .. ") == 3  # path, Referer, Cookie
    assert f'local host = "{MEASURED}"' in script


def test_a_request_over_all_apps_takes_the_next_host() -> None:
    script = lua_script(requests["apps"])
    assert '"app-0000.bench.test"' in script
    assert '"app-0999.bench.test"' in script
    assert "hosts[count * 7 % #hosts + 1]" in script


@pytest.mark.peer
@pytest.mark.parametrize("name", ["small", "varied", "apps"])
def test_wrk_sends_just_these_bytes_to_loopback_under_the_measured_name(name: str, tmp_path: Path) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("no wrk here: apt-get install -y wrk")
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_answer_all, args=(listener, heard))
        server.start()
        report = wrk(
            requests[name],
            scheme="http",
            port=listener.getsockname()[1],
            connections=1,
            seconds=1,
            core=min(os.sched_getaffinity(0)),
            home=tmp_path,
        )
        listener.shutdown(socket.SHUT_RDWR)
        server.join(30)
    assert (report.bad_status, report.broken) == (0, 0)
    assert len(heard) >= report.requests > 10
    assert (len(set(heard)) == 1) is (not requests[name].varies)
    pattern = re.escape(requests[name].head()).replace(r"\{n\}", r"\d+").replace(r"\{host\}", r"app-\d{4}\.bench\.test")
    assert all(re.fullmatch(pattern.encode(), head) for head in heard)


def _answer_all(listener: socket.socket, heard: list[bytes]) -> None:
    """Answer one connection after the other, request by request, until the listener is shut."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the load is over
            return
        with connection:
            try:
                while data := connection.recv(65536):
                    heard.append(data)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except ConnectionError:  # wrk stops in the middle
                continue


def test_the_report_is_read_from_between_what_wrk_prints_itself() -> None:
    output = """Running 2s test @ http://app-0500.bench.test:1234/
  1 threads and 64 connections
Transfer/sec:      3.05MB

report {"requests": 1200, "seconds": 2.001000, "bytes": 34000, "bad_status": 3, "broken": 1}
"""
    assert parse_report(output) == LoadReport(requests=1200, seconds=2.001, bytes=34000, bad_status=3, broken=1)


def test_a_load_that_did_not_finish_has_no_report() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        parse_report("unable to connect to app-0500.bench.test:1234 Connection refused\n")


H2LOAD = """\
finished in {time}, 499.07 req/s, 85.29KB/s
requests: 1500 total, 1500 started, 1498 done, 1495 succeeded, 5 failed, 2 errored, 0 timeout
status codes: 1495 2xx, 0 3xx, 1 4xx, 2 5xx
traffic: 256.35KB (262500) total, 150.88KB (154500) headers (space savings 0.00%), 49.80KB (51000) data
"""


@pytest.mark.parametrize(("time", "seconds"), [("3.01s", 3.01), ("850.5ms", 0.8505), ("900us", 0.0009)])
def test_the_summary_of_h2load_is_read(time: str, seconds: float) -> None:
    report = parse_h2load(H2LOAD.format(time=time))
    assert report.seconds == pytest.approx(seconds)
    assert (report.requests, report.bytes, report.bad_status, report.broken) == (1495, 262500, 3, 2)


def test_an_h2load_that_did_not_finish_has_no_summary() -> None:
    with pytest.raises(ValueError, match="no summary"):
        parse_h2load("starting benchmark...\n")
