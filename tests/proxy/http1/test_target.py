"""One way to write a path: what is routed, judged and forwarded is the same."""

from __future__ import annotations

import pytest

from proxy.errors import Failure
from proxy.http1.parser import Malformed
from proxy.http1.target import normalise, origin_form


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
        (b"HTTPS://A.Example:8443/b", b"/b"),
        (b"http://a.example.", b"/"),
        (b"http://a.example?q", b"/?q"),
        (b"http://a.example/x/../y", b"/y"),
        (b"*", b"*"),
    ],
)
def test_other_forms_become_the_origin_form(target: bytes, origin: bytes) -> None:
    assert origin_form(target, b"a.example") == origin


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
