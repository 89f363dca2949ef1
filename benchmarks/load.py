"""wrk: as many requests as the proxy can answer, on a fixed number of connections; h2load: full TLS handshakes.

wrk is told what to send by a small Lua script that is written here, byte for byte: the same bytes every time for a
steady request (made once, so it costs the load's core nothing), a fresh number in it for a varying one. TLS is held to
one version, cipher and group for everybody through OpenSSL's own configuration file.

wrk offers the session of its last connection whenever it opens another, so its new connections are *resumed*. A full
handshake each takes h2load, which forgets (both were seen with nginx's ``$ssl_session_reused``).
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import APPS, MEASURED, Request, host_of

__all__ = ["OPENSSL_CONFIGURATION", "LoadReport", "h2load", "lua_script", "parse_h2load", "parse_report", "wrk"]

OPENSSL_CONFIGURATION = """\
openssl_conf = settings
[settings]
ssl_conf = sections
[sections]
system_default = tls
[tls]
MinProtocol = TLSv1.3
MaxProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
"""
"""For load generators: what every proxy supports and prefers, so that all of them do the same arithmetic."""

_REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nreport {"requests": %d, "seconds": %.6f, "bytes": %d, "bad_status": %d, "broken": %d}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the load generator saw: whole answers, seconds, bytes, answers of other classes than 2xx and 3xx, breaks."""

    requests: int
    seconds: float
    bytes: int
    bad_status: int
    broken: int


def lua_script(request: Request) -> str:
    """Return the script that makes wrk send ``request`` to 127.0.0.1, under the name the URL says."""
    lines = [
        'wrk.resolve = function(host, service) wrk.addrs = wrk.lookup("127.0.0.1", service) end',
        f"local body = string.rep('x', {request.body})",
    ]
    if not request.varies:
        head = _lua_text(request.head().replace("{host}", MEASURED))
        lines += [f"local whole = {head} .. body", "wrk.format = function() return whole end"]
    else:
        pieces = request.head().replace("{n}", "\0n\0").replace("{host}", "\0host\0").split("\0")
        parts = [piece if piece in ("n", "host") else _lua_text(piece) for piece in pieces if piece]
        lines += [
            f"local hosts = {{{', '.join(_lua_text(host_of(app)) for app in range(APPS))}}}",
            "local count = 0",
            "request = function()",
            "  count = count + 1",
            "  local n = 1000000 + count",
            f"  local host = {'hosts[count * 7 % #hosts + 1]' if request.every_app else _lua_text(MEASURED)}",
            f"  return {' .. '.join(parts)} .. body",
            "end",
        ]
    return "\n".join(lines) + "\n" + _REPORT


def _lua_text(text: str) -> str:
    return json.dumps(text)  # for ASCII without control characters beyond CR and LF, JSON's escapes are Lua's


def parse_report(output: str) -> LoadReport:
    """Read what the script printed at the end. Raises ValueError if it did not get there."""
    for line in output.splitlines():
        if line.startswith("report "):
            return LoadReport(**json.loads(line.removeprefix("report ")))
    raise ValueError(f"wrk printed no report: …{output[-500:]}")


def wrk(
    request: Request, *, scheme: str, port: int, connections: int, seconds: float, core: int | str, home: Path
) -> LoadReport:
    """Load the proxy at ``port`` for ``seconds`` (whole ones: wrk knows no others) from ``core``."""
    script = home / "load.lua"
    script.write_text(lua_script(request))
    settings = home / "openssl.cnf"
    settings.write_text(OPENSSL_CONFIGURATION)
    whole_seconds = max(round(seconds), 1)
    command = [
        *("taskset", "-c", str(core), "wrk", "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{whole_seconds}s", "--timeout", "20s", "--script", str(script)),
        f"{scheme}://{MEASURED}:{port}/",
    ]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "OPENSSL_CONF": str(settings)},
        timeout=whole_seconds + 60,
    )
    return parse_report(done.stdout)


def parse_h2load(output: str) -> LoadReport:
    """Read h2load's summary. Raises ValueError if it did not get there."""
    finished = re.search(r"^finished in ([0-9.]+)(us|ms|s),", output, re.MULTILINE)
    counts = re.search(r"^requests: .* (\d+) done, (\d+) succeeded, ", output, re.MULTILINE)
    started = re.search(r"^requests: (\d+) total, ", output, re.MULTILINE)
    traffic = re.search(r"^traffic: .*?\((\d+)\) total", output, re.MULTILINE)
    if finished is None or counts is None or started is None or traffic is None:
        raise ValueError(f"h2load printed no summary: …{output[-500:]}")
    total, done, succeeded = int(started[1]), int(counts[1]), int(counts[2])
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]]
    return LoadReport(
        requests=succeeded,
        seconds=float(finished[1]) * unit,
        bytes=int(traffic[1]),
        bad_status=done - succeeded,
        broken=total - done,
    )


def h2load(request: Request, *, port: int, rate: int, seconds: float, core: int) -> LoadReport:
    """Open ``rate`` TLS connections per second, in steps of 10 ms, each with a full handshake and one ``request``."""
    per_step = max(round(rate / 100), 1)
    count = max(round(per_step * 100 * seconds), 1)
    command = [
        *("taskset", "-c", str(core), "h2load", "--h1", "--connect-to", f"127.0.0.1:{port}"),
        *("--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519"),
        *("--clients", str(count), "--requests", str(count), "--rate", str(per_step), "--rate-period=10ms"),
        *(
            f"--header={name}: {value.replace('{host}', MEASURED)}"
            for name, value in request.fields()
            if name != "Host"
        ),
        f"https://{MEASURED}{request.target}",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    return parse_h2load(done.stdout)
