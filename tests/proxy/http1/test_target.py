"""One way to write a path: what is routed, judged and forwarded is the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import Malformed
from drycc_proxy.http1.target import normalise, origin_form


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        (b"/", b"/"),
        (b"/a/b", b"/a/b"),
        (b"/.", b"/"),
        (b"/..", b"/"),
        (b"/./", b"/"),
        (b"/../..", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a/..", b"/"),
        (b"/a/../", b"/"),
        (b"/a/../b", b"/b"),
        (b"/a/./b/", b"/a/b/"),
        (b"/a/b/../../c", b"/c"),
        (b"/../a", b"/a"),
        (b"/a/%2e%2E/b", b"/b"),
        (b"/a/.%2e/b", b"/b"),
        (b"/a/%2e./b", b"/b"),
        (b"/a/%2e/b", b"/a/b"),
        (b"/a/.../b", b"/a/.../b"),
        (b"/a/.b/..c/d.", b"/a/.b/..c/d."),
        (b"//a//b", b"//a//b"),
        (b"//a/../b", b"//b"),
        (b"/a%2Fb/%5c/%41", b"/a%2Fb/%5c/%41"),
        (b"/a/..%2fb", b"/a/..%2fb"),
        (b"/a/..;/b", b"/a/..;/b"),
        (b"/a/../b?c=/../d", b"/b?c=/../d"),
        (b"/a?b/../c", b"/a?b/../c"),
        (b"/a?%00", b"/a?%00"),
        (b"/%2e?%2e", b"/?%2e"),
    ],
)
def test_dot_segments_go_and_nothing_else_is_touched(target: bytes, normal: bytes) -> None:
    assert normalise(target) == normal
    assert origin_form(target, b"a.example") == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize("target", [b"/a%00", b"/%00/b?c"])
def test_an_encoded_nul_is_refused(target: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        origin_form(target, b"a.example")
    assert caught.value.failure is Failure.BAD_REQUEST


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"http://a.example/b?c", b"/b?c"),
        (b"http://a.example:80/b", b"/b"),
        (b"http://a.example:/b", b"/b"),
        (b"HTTPS://A.Example:443/b", b"/b"),
        (b"http://a.example.", b"/"),
        (b"http://a.example?q", b"/?q"),
        (b"http://a.example/x/../y", b"/y"),
        (b"*", b"*"),
    ],
)
def test_other_forms_become_the_origin_form(target: bytes, origin: bytes) -> None:
    assert origin_form(target, b"a.example") == origin


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://a.example:8080/x", b"A.example:8080"),
        (b"https://[2001:DB8::1]/x", b"[2001:db8::1]:443"),
        (b"http://a.example/x", b"a.example.:80"),
    ],
)
def test_the_same_host_in_another_spelling_is_the_same(target: bytes, host: bytes) -> None:
    assert origin_form(target, host) == b"/x"


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://a.example:8080/", b"a.example"),
        (b"http://a.example/", b"a.example:8080"),
        (b"https://a.example/", b"a.example:80"),
        (b"https://[2001:db8::1]:1/", b"[2001:db8::1]"),
    ],
)
def test_another_port_is_another_host(target: bytes, host: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        origin_form(target, host)
    assert caught.value.failure is Failure.BAD_HOST


@pytest.mark.parametrize(
    "target", [b"http://b.example/", b"http://a.example.evil/", b"http://a example/", b"http://a.example:x/"]
)
def test_an_absolute_target_of_another_host_is_refused(target: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        origin_form(target, b"a.example")
    assert caught.value.failure is Failure.BAD_HOST


@pytest.mark.parametrize(
    "target",
    [b"a", b"a.example:443", b"ftp://a.example/", b"http:/a", b"http://", b"http://u@a.example/", b"**", b"?q"],
)
def test_other_targets_are_refused(target: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        origin_form(target, b"a.example")
    assert caught.value.failure is Failure.BAD_REQUEST


@given(st.lists(st.sampled_from(["/", ".", "..", "%2e", "%2E", "a", ";", "%2f", "\\", "?"]), max_size=12).map("".join))
def test_what_is_normal_stays_as_it_is(path: str) -> None:
    """Judged, routed and forwarded is one path: whoever normalises it again, the app included, finds nothing to do."""
    normal = normalise(b"/" + path.encode())
    assert normalise(normal) == normal
    segments = normal.partition(b"?")[0].lower().replace(b"%2e", b".").split(b"/")
    assert not {b".", b".."} & set(segments)
