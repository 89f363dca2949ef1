"""The answers that the router writes itself: one page, in HTML or JSON, that names the failure and the request.

What must not enter: when to answer (``gate``, ``exchange``), and anything that came from the request but its id — an
error page that repeats what a stranger sent is how scripts get into it.
"""

from __future__ import annotations

import html
import json
from http import HTTPStatus
from typing import Final

from drycc_proxy.errors import Failure

__all__ = ["BAD_GATEWAY_RETRY", "Answer", "answer", "prefers_json"]

BAD_GATEWAY_RETRY: Final = 5
"""Seconds in ``Retry-After`` of a 503 for want of an endpoint: pods come back within seconds."""
MAINTENANCE_RETRY: Final = 120

_RETRY_AFTER: Final = {
    Failure.NO_ENDPOINT: BAD_GATEWAY_RETRY,
    Failure.MAINTENANCE: MAINTENANCE_RETRY,
    Failure.APP_BUSY: 1,
    Failure.DRAINING: 1,
    Failure.ROUTER_EXHAUSTED: 1,
    Failure.OVERLOADED: 1,
    Failure.APP_SHARE: 1,
    Failure.NAMESPACE_SHARE: 1,
}

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;color:#222}}\
small{{color:#777}}</style></head>
<body><h1>{title}</h1><p>{sentence}</p><p><small>{name}{identity}</small></p></body></html>
"""


class Answer:
    """Status line, header lines (each with CRLF) and body of an answer, before connection and identity lines."""

    __slots__ = ("body", "fields", "line", "status")

    def __init__(self, status: int, fields: bytes, body: bytes) -> None:
        self.status = status
        self.line = b"HTTP/1.1 %d %b\r\n" % (status, reason(status))
        self.fields = fields
        self.body = body


def reason(status: int) -> bytes:
    """The standard reason phrase; empty for a status without one."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def prefers_json(block: bytes) -> bool:
    """Whether ``Accept`` asks for JSON rather than HTML. Called only when an answer of our own is due.

    ``block`` is what the app would hear: field lines, each with its CRLF.
    """
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"accept":
            value = value.lower()
            return b"json" in value and b"text/html" not in value
    return False


def answer(
    failure: Failure,
    *,
    as_json: bool = False,
    request_id: bytes = b"",
    location: bytes = b"",
    page: bytes = b"",
    status: int = 0,
) -> Answer:
    """The answer to a failure. ``page`` replaces the built-in HTML; ``location`` makes it a redirect.

    Its fields carry ``X-Router-Error``, ``Content-Type``, ``Content-Length`` and ``Cache-Control: no-store`` (a proxy
    in between must not keep a 404 of ours).
    """
    status = status or failure.status
    if as_json:
        kind = b"application/json"
        body = json.dumps(
            {
                "error": failure.value,
                "status": status,
                "message": failure.sentence,
                "request_id": request_id.decode("latin-1"),
            }
        ).encode()
        body += b"\n"
    elif page:
        kind, body = b"text/html; charset=utf-8", page
    else:
        kind = b"text/html; charset=utf-8"
        identity = f" · {request_id.decode('latin-1')}" if request_id else ""
        body = _PAGE.format(
            title=html.escape(f"{status} {reason(status).decode()}"),
            sentence=html.escape(failure.sentence),
            name=failure.value,
            identity=html.escape(identity),
        ).encode()
    fields = [
        b"Content-Type: %b" % kind,
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        b"X-Router-Error: %b" % failure.value.encode(),
    ]
    if location:
        fields.append(b"Location: %b" % location)
    retry = _RETRY_AFTER.get(failure)
    if retry is not None:
        fields.append(b"Retry-After: %d" % retry)
    if failure is Failure.METHOD_NOT_ALLOWED:
        fields.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    fields.append(b"")
    return Answer(status, b"\r\n".join(fields), body)
