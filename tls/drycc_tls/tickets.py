"""One key of session tickets for several processes, changed while they serve.

A client that comes back may meet another worker than last time. OpenSSL makes ticket keys by chance for each context,
so the other one could not read its ticket, and a full handshake would follow: twenty times the work. OpenSSL can be
told which keys to use (``SSL_CTX_set_tlsext_ticket_keys``), only Python does not offer it. So it is called through
``ctypes``, on the context behind the object that Python shows. That rests on two things that may change, where the
pointer stands in that object and which library ``_ssl`` speaks to; hence :func:`works`, which tries everything once on
a context of its own. Where it does not work, each process keeps keys of its own, and clients that meet another one
shake hands in full.

Only one key holds at a time: whoever comes back with a ticket of the key before shakes hands in full, once.

What must not enter: who makes keys, how they travel, and disks.
"""

from __future__ import annotations

import ctypes
import ssl
from typing import Final

__all__ = ["KEY_BYTES", "use", "works"]

KEY_BYTES: Final = 80
"""Name (16), HMAC-SHA-256 (32) and AES-256 (32), as OpenSSL 1.1 and 3 want them."""

_GET: Final = 58
_SET: Final = 59
"""``SSL_CTRL_GET_TLSEXT_TICKET_KEYS`` and ``…_SET_…`` of ``ssl.h``."""
_POINTER: Final = object.__basicsize__
"""Where the ``SSL_CTX *`` stands in a ``PySSLContext``: the first field behind the head of every object."""


def use(context: ssl.SSLContext, key: bytes) -> None:
    """Make and read the tickets of ``context`` with ``key`` from now on. Raises OSError when that cannot be done."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a ticket key has {KEY_BYTES} bytes")
    if _control(context, _SET, key) != 1:
        raise OSError("OpenSSL does not take a ticket key")


def works() -> bool:
    """Whether :func:`use` does what it says with this Python and this OpenSSL."""
    if not hasattr(ssl, "_ssl") or ssl.OPENSSL_VERSION_INFO < (1, 1):
        return False
    key = bytes(range(KEY_BYTES))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A wrong place of the pointer would show here, before anything is written through it: what OpenSSL says about
        # the length of its keys can only be right by being OpenSSL's.
        if _control(context, _GET, None) != KEY_BYTES:
            return False
        use(context, key)
        held = ctypes.create_string_buffer(KEY_BYTES)
        return _control(context, _GET, held) == 1 and held.raw == key
    except (OSError, AttributeError, ValueError):
        return False


def _control(context: ssl.SSLContext, command: int, argument: object) -> int:
    library = ctypes.CDLL(ssl._ssl.__file__)  # type: ignore[attr-defined]  # the one that made the context, no other
    function = library.SSL_CTX_ctrl
    function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    function.restype = ctypes.c_long
    pointer = ctypes.c_void_p.from_address(id(context) + _POINTER).value
    address = ctypes.cast(argument, ctypes.c_void_p) if isinstance(argument, bytes) else argument  # type: ignore[arg-type]  # bytes can be cast, too
    return int(function(pointer, command, KEY_BYTES if argument is not None else 0, address))
