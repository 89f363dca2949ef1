"""The requests are what the issue says they are: a browser's, and countable."""

import pytest

from benchmarks.workload import APPS, MEASURED, MIB, SMALL_ANSWER, host_of, requests


def test_the_small_request_has_fourteen_headers_and_about_seven_hundred_bytes() -> None:
    head = requests["small"].head().replace("{host}", MEASURED)
    request_line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    assert request_line == "GET /products/list?page=2 HTTP/1.1"
    assert len(fields) == 14
    assert 650 <= len(head) <= 850
    assert len(SMALL_ANSWER) == 34


@pytest.mark.parametrize("name", requests)
def test_a_head_is_ascii_and_ends_once(name: str) -> None:
    head = requests[name].head()
    assert head.isascii()
    assert head.endswith("\r\n\r\n")
    assert head.count("\r\n\r\n") == 1
    assert head.count("\r\nHost: {host}\r\n") == 1


def test_only_what_varies_says_so() -> None:
    assert {name for name, request in requests.items() if request.varies} == {"varied", "apps"}


def test_an_upload_says_how_long_it_is_and_a_closing_request_that_it_closes() -> None:
    assert f"Content-Length: {MIB}\r\n" in requests["upload"].head()
    assert "Connection: close\r\n" in requests["close"].head()
    assert "Content-Length" not in requests["small"].head()
    assert "Connection" not in requests["small"].head()


def test_hosts_are_a_thousand_and_the_measured_one_is_in_the_middle() -> None:
    hosts = [host_of(app) for app in range(APPS)]
    assert len(set(hosts)) == 1000
    assert hosts.index(MEASURED) == 500
