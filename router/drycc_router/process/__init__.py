"""The processes of a router in production, and what they say to each other.

::

    supervisor   holds the sockets, starts and ends the others; no token, no table, no byte from a client
    control      token, watches, compiler, operator's port; no byte from a client
    workers      sockets, table, certificates; hostile bytes, and nothing that could be worth stealing but keys in use
    reader       certificates, on their way to control's first table; gone when there is one

With ``--workers 0`` there is one process and nothing of this (``app``).
"""
