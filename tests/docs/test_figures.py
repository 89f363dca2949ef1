"""Every figure of the pages that are written by hand is the code's, or says why there is none in the code.

A row has the words around a figure with ``{}`` in its place, and the object that the figure is. What must not enter:
pages that are generated, and measured figures, which stand in README and benchmarks/ with the command that made them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.generate import PAGES as GENERATED
from drycc_proxy.http import deadlines, exchange
from drycc_proxy.http.messages import Malformed
from drycc_proxy.http1 import chunks, downstream, parser, upstream
from drycc_proxy.kernel import sockets
from drycc_proxy.listeners import proxy_header
from drycc_proxy.metrics import BUCKETS
from drycc_proxy.routing.definitions import Edge, Policy
from drycc_proxy.ssh import accounts, server
from drycc_proxy.state import admission, handshakes, overload, server_state
from drycc_proxy.streams import listener
from drycc_proxy.telemetry import access_log, log_sink
from drycc_proxy.upstreams import limits, outliers, remembered_heads, retry_budget
from drycc_proxy.upstreams.upstream import MAX_IDLE
from drycc_router.claims import record
from drycc_router.kubernetes import backoff
from drycc_router.model import quotas
from drycc_router.publish import reconcile
from drycc_router.roles import fanout, supervisor
from drycc_router.settings import FIELDS, Settings
from drycc_router.sources import manifests, objects_by_name, yaml_documents
from drycc_router.status import election
from drycc_router.translate.annotations.schema import Place, known_keys
from drycc_router.translate.streams import FIRST_BYTE_SECONDS
from tests.docs.reading import ROOT, prose

BY_HAND = sorted(
    path for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED and path.name != "testing.md"
)
"""testing.md tells of the tests' own figures."""

WORDS = {1: "one", 2: "two", 3: "three", 5: "five", 10: "ten", 12: "twelve", 15: "fifteen", 20: "twenty"}
_UNIT = r"(?:ms|s|seconds?|minutes?|hours?|days?|KiB|MiB|GiB|bytes?|characters)"
_SPELT = rf"\b(?:{'|'.join(WORDS.values())}|half a) (?:seconds?|minutes?|hours?|days?)\b"
FIGURE = re.compile(rf"(?<![\w.-])\d[\d,]*(?:\.\d+)? ?(?:{_UNIT}\b|%)|{_SPELT}")
"""A number with a unit of time or size, or a share."""


def time(seconds: float) -> str:
    return f"{seconds:g} s"


def word(number: float) -> str:
    return WORDS[round(number)]


def kib(octets: int) -> str:
    return f"{octets // 1024} KiB"


def mib(octets: int) -> str:
    return f"{octets // 1024 // 1024} MiB"


def default(place: Place, key: str) -> str:
    said = known_keys(place)[key].default
    assert said is not None
    return said


@dataclass(frozen=True)
class Row:
    """Words of a page, with the figure as the code has it; ``figure`` "" where ``why`` says that there is none."""

    page: str
    words: str
    figure: str = ""
    why: str = ""

    @property
    def text(self) -> str:
        return self.words.format(self.figure)


EDGE, POLICY, SETTINGS = Edge(), Policy(), Settings()
KERNEL = dict(sockets.KEEP_ALIVE)
TUNNEL = time(deadlines.HALF_TUNNEL_SECONDS)

ROWS = [
    # ── half-closes ───────────────────────────────────────────────────────────────────────────────────────────────
    Row("half-closes.md", "gets its answer if that begins within {}", time(deadlines.HALF_CLOSED_SECONDS)),
    Row("half-closes.md", "the app hears the end with the grant, and may speak for {}", TUNNEL),
    Row("half-closes.md", "the app may speak for {}", TUNNEL),
    Row("half-closes.md", "the client may speak for {}", TUNNEL),
    # ── http ──────────────────────────────────────────────────────────────────────────────────────────────────────
    Row("http.md", "at most {} each", f"{chunks._MAX_EXTENSION} bytes"),
    Row("http.md", "in all {} or as much as the payload", kib(chunks._MAX_OVERHEAD)),
    Row("http.md", "a chunked body of at most {} that is here as a whole", kib(upstream.MAX_WHOLE)),
    Row("http.md", "judged like fields, at most {}", kib(chunks._MAX_TRAILERS)),
    Row("http.md", "at most {} | passed on as it is", "32 bytes"),
    Row("http.md", "a target beyond {}", kib(EDGE.max_target)),
    Row("http.md", "for {} of silence", time(deadlines.LINGER_SILENCE)),
    Row("http.md", "of silence and {} in all", time(deadlines.LINGER_SECONDS)),
    Row("http.md", "at most {} of them wait", kib(downstream.MAX_WAITING)),
    Row("http.md", "a read of {} or more", kib(downstream.TURN_BYTES)),
    Row("http.md", "a head beyond {} or", kib(upstream.MAX_HEAD)),
    Row("http.md", "each {} of a larger one", kib(upstream.INTERIM_BYTES)),
    Row("http.md", "at most {} wait in the router", kib(listener.HIGH_WATER)),
    Row("http.md", "or {} after the first", TUNNEL),
    Row("http.md", "the app has {} to begin", time(deadlines.HALF_CLOSED_SECONDS)),
    # ── architecture, dependencies, migration ─────────────────────────────────────────────────────────────────────
    Row("architecture.md", "waits {} for more of the same storm", f"{reconcile.HOLD_OFF * 1000:g} ms"),
    Row("architecture.md", "never longer than {}", f"{reconcile.CEILING * 1000:g} ms"),
    Row("architecture.md", "at 0.3 ms each", why="measured: benchmarks/README.md"),
    Row("dependencies.md", "10,000 apps take 20 ms one way and 70 ms the other", why="measured"),
    Row("migration.md", "A chunked body of at most {}", kib(upstream.MAX_WHOLE)),
    Row("migration.md", "for bodies of at most {}", kib(upstream.MAX_WHOLE)),
    Row("migration.md", "there 5s; here {}", default(Place.APP, "connectTimeout")),
    Row("migration.md", "there 60s; here {}", default(Place.ROUTER, "defaultTimeout")),
    # ── operations ────────────────────────────────────────────────────────────────────────────────────────────────
    Row("operations.md", "heads of answers above {}", kib(remembered_heads.SMALL)),
    Row(
        "operations.md", "for {}, those first through which nothing has passed", f"{server_state.TUNNEL_IDLE:g} seconds"
    ),
    Row("operations.md", "is believed after {} seconds of it", word(backoff.BELIEVED)),
    Row("operations.md", "for some hundred milliseconds after its own start", why="of the API server"),
    Row("operations.md", "asked again, first after {}", "half a second" if backoff.FIRST == 0.5 else ""),
    Row("operations.md", "in the end after {}", time(backoff.REFUSED_CAP)),
    Row("operations.md", "`--manifests-settle` ({})", time(SETTINGS.manifests_settle)),
    Row("operations.md", "levels and {} a file", mib(manifests.MAX_FILE)),
    Row("operations.md", "| `connectTimeout` | {} |", default(Place.BUILDER, "connectTimeout")),
    Row("operations.md", "| `tcpTimeout` | {} |", default(Place.BUILDER, "tcpTimeout")),
    Row("operations.md", "says nothing is cut after {} minutes", word(FIRST_BYTE_SECONDS / 60)),
    Row("operations.md", "said nothing for {} minutes", word(FIRST_BYTE_SECONDS / 60)),
    Row("operations.md", "is known for {} seconds", f"{accounts.KNOWN_SECONDS:g}"),
    Row("operations.md", "undone by a quantum computer one day", why="a manner of speaking"),
    Row("operations.md", "changed every {} hours", word(supervisor.TICKET_SECONDS / 3600)),
    Row("operations.md", "no sign of life for {} seconds", word(supervisor.STALL_SECONDS)),
    Row("operations.md", "at most {} seconds ago", word(fanout.COUNT_SECONDS)),
    Row("operations.md", "another has it within {} seconds", word(election.LOOK)),
    Row("operations.md", "cannot renew for {} seconds", word(election.DEADLINE)),
    Row("operations.md", "may take {}; names beyond", kib(quotas.RECORD_OCTETS)),
    Row("operations.md", "the ConfigMap ({}, compressed)", kib(record.MAX_ENCODED)),
    Row("operations.md", "gets no requests for {}", time(outliers.FIRST)),
    Row("operations.md", "(up to {})", time(outliers.LONGEST)),
    Row("operations.md", "and its body, of at most {}", kib(exchange.MAX_KEPT)),
    Row("operations.md", "`keepAliveTimeout` ({})", time(EDGE.keepalive_timeout)),
    Row("operations.md", "Google Cloud's external balancers: 600 s, so `620s`", why="others' figure, and one above it"),
    Row("operations.md", "after {} of silence the kernel asks", time(KERNEL["TCP_KEEPIDLE"])),
    Row("operations.md", "every {}, and gives up", time(KERNEL["TCP_KEEPINTVL"])),
    Row(
        "operations.md",
        "noticed within {} minutes",
        word((KERNEL["TCP_KEEPIDLE"] + KERNEL["TCP_KEEPCNT"] * KERNEL["TCP_KEEPINTVL"]) / 60),
    ),
    Row("operations.md", "| pipelined requests | {} waiting", kib(downstream.MAX_WAITING)),
    Row("operations.md", "idle for {} is let go", time(server_state.IDLE_UNDER_PRESSURE)),
    Row("operations.md", "within {} second of having come", {0.5: "half a"}[server_state.IDLE_LEAST]),
    Row("operations.md", "does not arrive within {} of its first byte", time(deadlines.PROXY_SECONDS)),
    Row("operations.md", "longer than {} (version 1)", f"{proxy_header.MAX_V1} bytes"),
    Row("operations.md", "(version 1) or {} (version 2)", kib(proxy_header.MAX_V2)),
    *(
        Row("operations.md", "| {} | " + given_up, f"{share * 100:g} %")
        for share, given_up in zip(
            overload.THRESHOLDS.values(),
            ("keep-alive", "idle client connections", "new requests", "new connections"),
            strict=True,
        )
    ),
    Row("operations.md", "of a second, {} at most, is answered 503 `overloaded`", f"{overload.MOST_SHED * 100:g} %"),
    Row("operations.md", "ticks is more than {} late", time(overload.LATE)),
    Row("operations.md", "up to {} each of access log", mib(log_sink.LIMIT)),
    Row("operations.md", "sends less than {} bytes a second", str(deadlines.LEAST_RATE)),
    # ── security ──────────────────────────────────────────────────────────────────────────────────────────────────
    Row("security.md", "proves no key is cut after {} seconds", f"{server.LOGIN_SECONDS:g}"),
    Row("security.md", "| request head | {},", kib(EDGE.max_head)),
    Row("security.md", "| target | {} |", kib(EDGE.max_target)),
    Row("security.md", "| time for a whole head | {} |", time(EDGE.head_timeout)),
    Row("security.md", "| silence in the middle of a request body | {} |", time(POLICY.body_timeout)),
    Row("security.md", "| idle connection between requests | {} |", time(EDGE.keepalive_timeout)),
    Row("security.md", "a second; {} each", kib(upstream.INTERIM_BYTES)),
    Row("security.md", "sent with its length | {} |", kib(upstream.MAX_WHOLE)),
    Row("security.md", "more wait for {} |", time(EDGE.app_queue_timeout)),
    Row("security.md", "allowed in all; {} |", time(EDGE.upstream_idle_timeout)),
]

COUNTS = [
    # Figures without a unit: no pattern finds them all, so these are the ones that are known.
    Row("http.md", "or {} fields | 502", str(upstream.MAX_FIELDS)),
    Row("http.md", "answered {} at a time", str(downstream.TURN_HEADS)),
    Row("http.md", "has passed {} routers", word(downstream.MAX_HOPS)),
    Row("operations.md", "at most {} levels", str(yaml_documents.MAX_DEPTH)),
    Row("operations.md", "{} times in a row", word(outliers.FAILURES)),
    Row("operations.md", "Connections that may wait to be accepted: {}", str(sockets.BACKLOG)),
    Row("operations.md", "at most {} |", f"{handshakes.MAX_PENDING:,}"),
    Row("operations.md", "more than {} requests a second met no route", f"{access_log.MAX_STRAYS:,}"),
    Row("operations.md", "have the {} buckets", {11: "eleven"}[len(BUCKETS)]),
    Row("operations.md", "the use is {} points below", f"{overload.RELIEF * 100:g}"),
    Row("operations.md", "shrinks by {} points", f"{overload._STEP * 100:g}"),
    Row("operations.md", "connections, {} every tenth", str(server_state.CLOSED_A_TICK)),
    Row("operations.md", "at most {}, for connections to apps", f"{admission._APPS_MOST:,}"),
    Row("operations.md", "up to {} idle connections per endpoint", str(MAX_IDLE)),
    Row("operations.md", "dies {} times within a minute", "ten"),
    Row("security.md", "one request | {} at once", str(upstream.MAX_INTERIM)),
    Row("security.md", "at once, then {} a second", str(upstream.INTERIM_RATE)),
    Row("security.md", "{} fields |", str(EDGE.max_fields)),
    Row("security.md", "of more than {} such clients", str(server.MAX_STRANGERS)),
    Row("security.md", "| {} of the open files allowed", f"{limits.APP_SHARE:g}"),
    Row("security.md", "{} at most; ", f"{limits.APP_MOST:,}"),
    Row("security.md", "at most; {} more wait", str(EDGE.app_queue)),
    Row("security.md", "| {} per endpoint", str(MAX_IDLE)),
    Row("security.md", "| requests sent to an app again | a {} of its requests", {0.1: "tenth"}[retry_budget.SHARE]),
    Row("install.md", "{} a second together", word(objects_by_name.ASKS)),
    Row("migration.md", "{} a second at most", word(objects_by_name.ASKS)),
]


def text_of(page: str) -> str:
    """A page's text with single blanks."""
    return re.sub(r"\s+", " ", prose(ROOT / "docs" / page))


@pytest.mark.parametrize("row", [*ROWS, *COUNTS], ids=lambda row: f"{row.page}: {row.words}")
def test_a_figure_is_the_codes(row: Row) -> None:
    assert row.figure or row.why
    assert row.text in text_of(row.page)


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: path.name)
def test_every_figure_of_a_page_is_known(path: Path) -> None:
    text = text_of(path.name)
    known = [
        (found.start(), found.end())
        for row in ROWS
        if row.page == path.name
        for found in re.finditer(re.escape(row.text), text)
    ]
    unknown = [
        text[max(0, figure.start() - 50) : figure.end() + 20]
        for figure in FIGURE.finditer(text)
        if not any(start <= figure.start() < end for start, end in known)
    ]
    assert unknown == [], "figures without a row in ROWS"


def test_there_are_as_many_places_as_the_page_says() -> None:
    """Of the files that it may open, a process has some two dozen open when it begins."""
    said = re.findall(r"([\d,]+) of ([\d,]+)(?: files)?(?=[,:])", text_of("operations.md"))
    assert [files for _, files in said] == ["256", "1,024", "20,000"]
    for places, files in ([int(number.replace(",", "")) for number in pair] for pair in said):
        most, least = admission.for_clients(files, 20), admission.for_clients(files, 50)
        assert least <= places <= most


def test_the_flag_for_memory_says_where_giving_up_begins() -> None:
    share = f"{overload.THRESHOLDS[overload.Level.SAVING] * 100:g} %"
    assert share in next(field.help for field in FIELDS if field.name == "memory_limit")


def test_methods_are_as_long_as_the_page_says() -> None:
    assert parser.parse_request_line(b"M" * 32 + b" / HTTP/1.1", EDGE.max_target).method == b"M" * 32
    with pytest.raises(Malformed):
        parser.parse_request_line(b"M" * 33 + b" / HTTP/1.1", EDGE.max_target)
