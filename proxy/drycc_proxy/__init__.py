"""The data plane: bytes between clients and apps. Knows neither Kubernetes nor annotations.

The life of a request
---------------------

1. ``http1.downstream``: ``data_received`` finds the end of a head. A header section that repeats byte for byte on its
   connection is not parsed again; otherwise ``http1.parser`` judges each line, mostly by one dict look-up, and
   ``http.heads`` builds once what the app will hear about this client.
2. ``live`` (``hosts``): the canonical name finds a live route in the table that is current *now*; the exchange keeps it
   to its end, whatever is published meanwhile.
3. ``http.gate``: is there anything to answer without asking the app? Access, https, maintenance, availability, size.
   Routes that ask nothing of the gate skip it: that was decided when the route was published.
4. ``http.exchange``: the mind of the request. It asks ``upstreams.upstream`` for a connection and gets an idle one in
   the same call; only a cold connect makes a task.
5. ``http1.upstream``: one write with head and body so far. Later pieces pass through untouched; whoever reads slowly
   stops the other side (``pause_writing`` → ``pause_reading``).
6. The response's head is judged as strictly, and goes out in one write with the first bytes of its body. A connection
   whose every byte is accounted for is back in its pool before the client hears the end.
7. ``core.record``: integers move, the exchange itself is the log record; lines are made later, in batches.

Nothing here awaits on that path, makes a task, or starts a timer: ``clock.Wheel`` looks after every deadline.

The one door for those above is :class:`drycc_proxy.gateway.Gateway` with the plain data of
``routing.definitions``.
"""
