"""Messages say the same whatever protocol brought them."""

from __future__ import annotations

import pytest

from drycc_proxy.http.messages import MAX_PORT, ResponseHead, is_host, is_plain, set_fields


@pytest.mark.parametrize("method", [b"GET", b"TRACE", b"CONNECT", b"PURGE"])
@pytest.mark.parametrize(
    "target",
    [b"/", b"/a.js", b"/.git", b"/a/../b", b"/a./b", b"/%41", b"/a?b=%41", b"/a?b=/.c", b"*", b"a:443", b"http://h/a"],
)
def test_plain_is_what_needs_no_second_look(method: bytes, target: bytes) -> None:
    is_path_as_written = target.startswith(b"/") and b"/." not in target and b"%" not in target

    assert is_plain(method, target) is (is_path_as_written and method not in (b"TRACE", b"CONNECT"))


@pytest.mark.parametrize("value", [b"a", b"A.example", b"a_b.example:80", b"a:65535", b"[::1]", b"[::1]:8080", b"a:"])
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(value: bytes) -> None:
    assert is_host(value)


@pytest.mark.parametrize("value", [b"", b"a b", b"a/", b"user@a", b"a:%d" % (MAX_PORT + 1), b"::1", b"a:b", b"a,b"])
def test_anything_else_is_no_host(value: bytes) -> None:
    assert not is_host(value)


def test_a_head_with_a_length_and_a_date_is_put_together_once() -> None:
    head = ResponseHead(200, b"HTTP/1.1 200 OK\r\n", 1)
    head.length, head.stated, head.has_date = 2, True, True

    set_fields(head, [b"Date: today", b"A: b"])

    assert head.fields == b"Date: today\r\nA: b\r\n"
    assert head.framed == b"HTTP/1.1 200 OK\r\nDate: today\r\nA: b\r\nContent-Length: 2\r\n"


def test_a_head_that_lacks_one_of_them_is_not() -> None:
    head = ResponseHead(200, b"HTTP/1.1 200 OK\r\n", 1)
    head.length, head.stated = 2, True

    set_fields(head, [b"A: b"])

    assert (head.fields, head.framed) == (b"A: b\r\n", b"")
