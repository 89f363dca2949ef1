"""The request target (RFC 9112 3.2): four forms, one way to write a path.

Routing, access and forwarding all use the *same* path, so that nobody gets past one of them with ``/a/%2e%2e/b``:
dot-segments are removed (RFC 3986 5.2.4, also written as ``%2e``), and nothing else is decoded or merged.

What must not enter: ``urllib`` (it silently deletes TAB, LF and CR, and reads ``//b.test/x`` as a host).
"""

from __future__ import annotations

import re
from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import Malformed
from drycc_proxy.http1.parser import canonical_name

__all__ = ["normalise", "origin_form"]

_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]([Ss])?://([^/?#@]+)([/?].*)?", re.DOTALL)
_PORT: Final = re.compile(rb":([0-9]*)$")
_DOTS: Final = re.compile(rb"(?:^|/)(?:\.|%2[eE]){1,2}(?:/|$)")
_DOT_SEGMENT: Final = frozenset((b".", b"%2e"))
_DOT_DOT_SEGMENT: Final = frozenset((b"..", b".%2e", b"%2e.", b"%2e%2e"))


def origin_form(target: bytes, host: bytes) -> bytes:
    """The target as it is routed and forwarded: ``/path?query``, or ``*`` for ``OPTIONS *``.

    ``host`` is the value of Host. Raises Malformed: bad_request for a form that has no place here, bad_host when an
    absolute target names another host or port than Host does (RFC 9112 3.2.2).
    """
    if target[0] != 0x2F:  # "/"
        if target == b"*":
            return target
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise Malformed(Failure.BAD_REQUEST, "the target is neither '/path' nor 'http://host/path'")
        secure, authority, rest = match.groups()
        usual = 443 if secure else 80
        if canonical_name(authority) != canonical_name(host) or _port(authority, usual) != _port(host, usual):
            raise Malformed(Failure.BAD_HOST, "the target names another host than Host")
        target = rest or b"/"
        if target[0] != 0x2F:
            target = b"/" + target
    if b"/." in target or b"%" in target:
        return normalise(target)
    return target


def _port(authority: bytes, usual: int) -> int:
    """The port in an authority that is known to be good."""
    match = _PORT.search(authority)
    return int(match.group(1)) if match is not None and match.group(1) else usual


def normalise(target: bytes) -> bytes:
    """Remove dot-segments from the path; the query is left alone. ``%00`` is refused (bad_request)."""
    path, mark, query = target.partition(b"?")
    if b"%00" in path:
        raise Malformed(Failure.BAD_REQUEST, "the path contains %00")
    if _DOTS.search(path) is None:
        return target
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        low = segment.lower()
        if low in _DOT_DOT_SEGMENT:
            if kept:
                kept.pop()
        elif low not in _DOT_SEGMENT:
            kept.append(segment)
    last = segments[-1].lower()
    if last in _DOT_DOT_SEGMENT or last in _DOT_SEGMENT:
        kept.append(b"")
    return b"/" + b"/".join(kept) + mark + query
