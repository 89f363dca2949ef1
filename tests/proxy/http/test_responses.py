"""The pages that the router writes itself."""

from __future__ import annotations

import json

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.http.responses import answer, prefers_json, reason

ANSWERED = [failure for failure in Failure if failure.status]


@pytest.mark.parametrize("failure", ANSWERED, ids=lambda failure: failure.value)
@pytest.mark.parametrize("as_json", [False, True], ids=["html", "json"])
def test_every_answer_says_what_it_is(failure: Failure, as_json: bool) -> None:
    made = answer(failure, as_json=as_json, request_id=b"id-1")
    assert made.line == b"HTTP/1.1 %d %b\r\n" % (failure.status, reason(failure.status))
    assert b"X-Router-Error: %b\r\n" % failure.value.encode() in made.fields
    assert b"Content-Length: %d\r\n" % len(made.body) in made.fields
    assert b"Cache-Control: no-store\r\n" in made.fields
    assert made.fields.endswith(b"\r\n") and b"\r\n\r\n" not in made.fields
    if as_json:
        said = json.loads(made.body)
        assert said == {
            "error": failure.value,
            "status": failure.status,
            "message": failure.sentence,
            "request_id": "id-1",
        }
    else:
        assert made.body.startswith(b"<!doctype html>")
        assert failure.value.encode() in made.body
        assert b"id-1" in made.body


def test_what_comes_from_the_request_is_escaped() -> None:
    assert b"<script>" not in answer(Failure.UNKNOWN_HOST, request_id=b"<script>").body
    assert json.loads(answer(Failure.UNKNOWN_HOST, as_json=True, request_id=b'"\xff').body)["request_id"] == '"\xff'


def test_without_an_id_nothing_is_said_about_it() -> None:
    assert "·".encode() not in answer(Failure.UNKNOWN_HOST).body


def test_a_page_of_the_apps_own() -> None:
    made = answer(Failure.MAINTENANCE, page=b"<p>soon</p>")
    assert made.body == b"<p>soon</p>"
    assert b"Content-Length: 11\r\n" in made.fields
    assert json.loads(answer(Failure.MAINTENANCE, as_json=True, page=b"<p>soon</p>").body)["error"] == "maintenance"


def test_a_redirect() -> None:
    made = answer(Failure.HTTPS_REQUIRED, location=b"https://a.example/", status=301)
    assert (made.status, made.line) == (301, b"HTTP/1.1 301 Moved Permanently\r\n")
    assert b"Location: https://a.example/\r\n" in made.fields


@pytest.mark.parametrize(
    ("failure", "seconds"), [(Failure.NO_ENDPOINT, 5), (Failure.MAINTENANCE, 120), (Failure.DRAINING, 1)]
)
def test_what_passes_by_itself_says_when_to_come_back(failure: Failure, seconds: int) -> None:
    assert b"Retry-After: %d\r\n" % seconds in answer(failure).fields
    assert b"Retry-After" not in answer(Failure.CONNECT_FAILED).fields


def test_a_method_that_is_not_allowed_hears_which_ones_are() -> None:
    assert b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in answer(Failure.METHOD_NOT_ALLOWED).fields


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], False),
        ([b"Accept: */*"], False),
        ([b"accept: Application/JSON"], True),
        ([b"X: json", b"ACCEPT: application/problem+json"], True),
        ([b"Accept: text/html, application/json"], False),
        ([b"Accept-Language: json"], False),
    ],
)
def test_who_prefers_json(lines: list[bytes], wanted: bool) -> None:
    assert prefers_json(b"".join(line + b"\r\n" for line in lines)) is wanted


def test_a_status_without_a_phrase_has_none() -> None:
    assert reason(404) == b"Not Found"
    assert reason(599) == b""
