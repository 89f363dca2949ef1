"""How much the router costs, next to the proxies that people know: one command, ``python -m benchmarks``.

The method, in one breath: every proxy gets the same thousand apps, the same certificate and the same duties (access
log, forwarded headers, kept-alive upstream connections), one core of its own, and the same load from the other core;
they are measured in turn, round after round (A B C … A B C …), and compared by medians and ratios within one run.
**CPU microseconds per request of the proxy's process tree** comes first, because it holds still on a noisy machine
where requests per second do not.

The parts, from the ground up::

    figures       medians, percentiles, ratios (pure)
    workload      what is asked for: hosts, headers, requests (pure)
    processes     children with an owner: pinned, measured, ended
    tools         what has to be installed, and what this machine is
    certificates  one P-256 certificate for everybody
    origin        the app behind every proxy
    peers/        one module per proxy: how it is told to do the same job
    load          wrk: as fast as it goes; h2load: full handshakes
    openloop      a fixed rate, whatever the answers do
    clients       connections that sit idle, readers that do not read
    changes       edits under load (our router only)
    scenarios     the table of what is measured
    run           rounds → results
    picture, report   results → SVG, Markdown
    profiler      where the router's own time goes

What must not enter: anything that the router imports. Nothing under ``router``, ``tls`` or ``proxy`` knows this
package, and this package speaks to the router through its command line only, as to any other proxy.
"""
