"""The git gateway: ends SSH sessions, asks who may push what, and passes them on to the builder.

SSH has no SNI: a stream that is merely let through says neither who comes nor for which app. Who wants to decide that
before the builder does must end the session itself, and so this is a process of its own, beside those that serve
requests: key exchange costs milliseconds, and would show in everybody's latency.

The life of a session
---------------------

1. The router accepts it on its git port like any other stream (limits, PROXY header, log line), and joins it with this
   process, which is told in a PROXY header who comes. ``server`` reads that, and nothing from anybody but loopback.
2. Key exchange with the host keys of ``directory``, which are read again when they change; public-key authentication
   only. ``people`` knows whose key it is: by a file, or by asking the platform's API.
3. ``commands`` reads the one command line there may be: ``git-receive-pack`` or ``git-upload-pack``, and one app. The
   app must be in the person's list by its exact name. No text of a client reaches a shell.
4. A session on the builder, with the router's key or a certificate signed for this person, is joined with the client's:
   bytes, standard error, exit status.
5. One event tells who did what, and how it ended.
"""
