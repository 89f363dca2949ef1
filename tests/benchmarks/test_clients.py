"""What ``ss`` prints about memory, and connections that are open or are not."""

import socket

from benchmarks.clients import kernel_bytes_of, still_open

LISTING = """\
ESTAB 0      2565111 127.0.0.1:8080 127.0.0.1:40000
\t skmem:(r0,rb131072,t0,tb2626560,f1,w2700000,o0,bl0,d0)
ESTAB 131072 0       127.0.0.1:41000 127.0.0.1:9000
\t skmem:(r300000,rb6291456,t0,tb87040,f0,w10,o0,bl0,d0)
"""


def test_kernel_memory_is_what_is_unread_and_what_is_unsent() -> None:
    assert kernel_bytes_of(LISTING) == 2_700_000 + 300_000 + 10
    assert kernel_bytes_of("") == 0


def test_open_connections_are_told_from_closed_ones() -> None:
    kept, far_end_of_kept = socket.socketpair()
    closed, far_end_of_closed = socket.socketpair()
    far_end_of_closed.close()
    with kept, far_end_of_kept, closed:
        assert still_open([kept, closed]) == 1
