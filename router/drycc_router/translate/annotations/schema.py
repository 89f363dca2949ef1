"""The one table of annotations: key ↔ model field ↔ grammar ↔ default ↔ sentence of help (contract 3 and 4).

Reading, the reference page (``docs/annotations.md``) and the hints for misspelt keys all come from here. Keys of the
ancestors that mean nothing to this router stand here too (lineage 1.1 to 1.3): they are understood, have no effect, and
``check`` says so.

What must not enter: how a grammar works (``values``), what a value does (``compile.compiler``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from drycc_router.translate.annotations import grammars
from drycc_router.translate.annotations.grammars import Grammar, ListOf
from drycc_tls.policy import CIPHERS, CIPHERS_1_3, Version

__all__ = ["FIELDS", "NGINX", "Effect", "Field", "Place", "defaults", "known_keys"]

NGINX: Final = "nginx."
"""The token that the ancestors put before keys on the Deployment and the builder Service; optional here."""


class Place(enum.Enum):
    """Which object an annotation stands on."""

    APP = "app Service"
    ROUTER = "router Deployment"
    BUILDER = "builder Service"

    __hash__ = object.__hash__  # a fifth of what enum's own costs, and members are compared by identity anyway


class Effect(enum.Enum):
    """Whether a key does something."""

    NOW = "now"
    LATER = "later"
    """Checked like the others; its effect comes with a later version."""
    NONE = "none"
    """Of the ancestors; accepted, never read."""


@dataclass(frozen=True, slots=True, eq=False)  # a row is only ever itself, and a cheap key of dicts
class Field:
    """One key on one kind of object."""

    place: Place
    key: str
    """Without prefix and without the token ``nginx.``, where that is optional."""
    attribute: str
    """The model's field; "" where there is no effect (yet)."""
    grammar: Grammar
    default: str | None
    """What holds when the key is absent, in the words of an annotation; None: nothing, or what ``help`` says."""
    help: str
    effect: Effect = Effect.NOW
    aliases: tuple[str, ...] = ()

    def absent(self) -> Any:
        """The value when the key is absent: the default's, else None, or no element."""
        if isinstance(self.grammar, ListOf):
            if self.default is not None:
                return tuple(self.grammar.read(part) for part in self.grammar.split(self.default))
            return None if self.grammar.fails_closed else ()
        return None if self.default is None else self.grammar.read(self.default)


_REFERRER_POLICIES: Final = grammars.choice(
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
    "none",
)
_MAX_AGE: Final = grammars.whole_seconds(0, 10 * 365 * 86400)
_VERSIONS: Final = grammars.words(*(version.value for version in Version))
_CIPHERS: Final = grammars.words(*CIPHERS, *CIPHERS_1_3, separator=":")


def _app(key: str, attribute: str, grammar: Grammar, default: str | None, help: str, *aliases: str) -> Field:
    return Field(Place.APP, key, attribute, grammar, default, help, aliases=aliases)


def _router(key: str, attribute: str, grammar: Grammar, default: str | None, help: str) -> Field:
    return Field(Place.ROUTER, key, attribute, grammar, default, help)


def _builder(key: str, attribute: str, grammar: Grammar, default: str | None, help: str) -> Field:
    return Field(Place.BUILDER, key, attribute, grammar, default, help)


def _later(place: Place, key: str, grammar: Grammar, default: str | None, help: str) -> Field:
    return Field(place, key, "", grammar, default, help, Effect.LATER)


def _none(place: Place, key: str, help: str) -> Field:
    return Field(place, key, "", grammars.ANYTHING, None, help, Effect.NONE)


_PROXY_BUFFERS: Final = "Buffers of nginx; here bodies stream with bounded memory."

FIELDS: Final[tuple[Field, ...]] = (
    # ── app Service ───────────────────────────────────────────────────────────────────────────────────────────────
    _app("domains", "domains", grammars.DOMAINS, None, "Names served; without any the Service is not routed."),
    _app(
        "certificates",
        "certificates",
        grammars.CERTIFICATES,
        None,
        "Secret per name, in the Service's namespace: NAME-cert, else NAME-certificate, else NAME.",
    ),
    _app(
        "whitelist",
        "allow",
        grammars.ALLOW_LIST,
        None,
        "Who may come; without it the router's defaultWhitelist counts. If nothing in it is usable, nobody may.",
        "allowlist",
    ),
    _app("denylist", "deny", grammars.DENY_LIST, None, "Who may not come; wins over the allow-list."),
    _app("connectTimeout", "connect_timeout", grammars.DURATION, "30s", "Longest time to connect to an endpoint."),
    _app(
        "tcpTimeout",
        "tcp_timeout",
        grammars.DURATION,
        None,
        "Longest silence while sending to or receiving from an endpoint, also of WebSocket and server-sent events;"
        " else the router's defaultTimeout.",
    ),
    _app(
        "requestTimeout",
        "request_timeout",
        grammars.DURATION_OR_NONE,
        "0",
        "Longest wait from the end of the request to the head of the response.",
    ),
    _app("bodySize", "body_size", grammars.SIZE, None, "Largest request body, 0 for any; else the router's bodySize."),
    _app(
        "bodyTimeout",
        "body_timeout",
        grammars.DURATION_OR_NONE,
        "30s",
        "Longest silence of a client in the middle of its body, until the answer begins, 0 for no limit; after the"
        " app's 100 where the client expects one.",
    ),
    _app(
        "bodyRate",
        "body_rate",
        grammars.size(0, 1 << 30),
        "240",
        "Bytes a second that a client's body must have on average after ten seconds, until the answer begins, 0 for no"
        " limit; after the app's 100 where the client expects one.",
    ),
    _app("maintenance", "maintenance", grammars.FLAG, "false", "Answer everything with 503 and the maintenance page."),
    _app(
        "maintenance.page",
        "maintenance_page",
        grammars.OBJECT_NAME,
        None,
        "ConfigMap in the Service's namespace whose index.html is the maintenance page; else the built-in one.",
    ),
    _app(
        "ssl.enabled",
        "ssl_enabled",
        grammars.FLAG,
        "true",
        "false: this app wants no https. A missing certificate is no Problem then, and the router's ssl.enforce and"
        " ssl.hsts do not apply; https answers all the same, with the best certificate there is.",
    ),
    _app("ssl.enforce", "ssl_enforce", grammars.FLAG, None, "Redirect http to https; else the router's ssl.enforce."),
    _app(
        "ssl.hsts.enabled",
        "hsts_enabled",
        grammars.FLAG,
        None,
        "Send Strict-Transport-Security on https, and redirect http; else the router's.",
    ),
    _app("ssl.hsts.maxAge", "hsts_max_age", _MAX_AGE, None, "max-age; else the router's."),
    _app(
        "ssl.hsts.includeSubDomains",
        "hsts_include_subdomains",
        grammars.FLAG,
        None,
        "Add includeSubDomains; else the router's.",
    ),
    _app("ssl.hsts.preload", "hsts_preload", grammars.FLAG, None, "Add preload; else the router's."),
    _app(
        "port",
        "port",
        grammars.PORT,
        None,
        "Port of the Service, by name or number; else the one named http, else 80, else the only one.",
    ),
    _app(
        "upstream",
        "upstream",
        grammars.choice("endpoints", "service"),
        "endpoints",
        "Balance over the ready endpoints, or connect to the Service's cluster IP.",
    ),
    _app(
        "referrerPolicy",
        "referrer_policy",
        _REFERRER_POLICIES,
        None,
        "Referrer-Policy of every answer, none for no header; else the router's.",
    ),
    _app(
        "proxyDomain",
        "proxy_domain",
        grammars.DOMAIN,
        None,
        "A name of another app; this app answers the proxyLocations below all names of that app.",
    ),
    _app(
        "proxyLocations",
        "proxy_locations",
        grammars.LOCATIONS,
        None,
        "Literal path prefixes, matched by whole segments, longest first.",
    ),
    _app(
        "allowLocationsFrom",
        "allow_locations_from",
        grammars.NAMESPACES,
        None,
        "Other namespaces whose Services may answer paths of this app.",
    ),
    _app(
        "disableRequestStartHeader",
        "disable_request_start",
        grammars.FLAG,
        "false",
        "Leave out X-Request-Start where the router adds it.",
    ),
    _later(
        Place.APP,
        "regexDomain",
        grammars.REGEX_LABEL,
        None,
        "A regular expression for one label; only with the router's enableRegexDomains.",
    ),
    _none(Place.APP, "nginx.proxyBuffers.enabled", _PROXY_BUFFERS),
    _none(Place.APP, "nginx.proxyBuffers.number", _PROXY_BUFFERS),
    _none(Place.APP, "nginx.proxyBuffers.size", _PROXY_BUFFERS),
    _none(Place.APP, "nginx.proxyBuffers.busySize", _PROXY_BUFFERS),
    _none(Place.APP, "tcellAppID", "A commercial firewall that the ancestors could load."),
    # ── router Deployment ─────────────────────────────────────────────────────────────────────────────────────────
    _router("platformDomain", "platform_domain", grammars.PLATFORM_DOMAIN, None, "What short names are put below."),
    _router(
        "tcpPorts",
        "tcp_ports",
        grammars.TCP_PORTS,
        None,
        "Further ports whose connections go to a Service byte for byte: port to listen on, Service, its port.",
    ),
    _router("defaultTimeout", "default_timeout", grammars.DURATION, "1300s", "tcpTimeout of apps that say nothing."),
    _router("bodySize", "body_size", grammars.SIZE, "0", "Largest request body of apps that say nothing, 0 for any."),
    _router(
        "largeHeaderBuffersSize",
        "max_head",
        grammars.size(1 << 10, 1 << 20),
        "32k",
        "Largest request head as a whole, request line included.",
    ),
    _router("maxHeaders", "max_fields", grammars.integer(1, 1000), "100", "Most header fields of a request."),
    _router("maxTargetSize", "max_target", grammars.size(256, 1 << 20), "16k", "Longest target of a request."),
    _router(
        "maxConnections",
        "max_connections",
        grammars.integer(0, 10_000_000),
        "0",
        "Client connections of one worker, at most what its limit of open files has room for. 0: as many as that.",
    ),
    _router(
        "maxConnectionsPerClient",
        "max_per_client",
        grammars.integer(0, 10_000_000),
        "0",
        "Connections of one client to one worker, by IPv4 address or IPv6 /64; behind a trusted proxy that speaks HTTP,"
        " its requests under way. 0: any number.",
    ),
    _router(
        "maxRequestsPerConnection",
        "max_requests",
        grammars.integer(0, 10_000_000),
        "0",
        "Requests after which a client's connection is closed. 0: any number.",
    ),
    _router(
        "maxRequestsPerApp",
        "app_requests",
        grammars.integer(0, 1_000_000),
        "0",
        "Requests and WebSockets that one app may have under way in one worker; 0: three tenths of the open files it"
        " may have, 10000 at most.",
    ),
    _router(
        "maxQueuedPerApp",
        "app_queue",
        grammars.integer(0, 10_000),
        "100",
        "Requests of one app that may wait in one worker for one of those to end; the next one is answered with 503.",
    ),
    _router("queueTimeout", "app_queue_timeout", grammars.DURATION, "1s", "How long one may wait."),
    _router(
        "maxIdleUpstreamConnections",
        "upstream_idle",
        grammars.integer(0, 1_000_000),
        "0",
        "Idle connections that one worker keeps to all apps together; 0: a quarter of the open files it may have.",
    ),
    _router(
        "upstreamIdleTimeout",
        "upstream_idle_timeout",
        grammars.DURATION,
        "60s",
        "How long an idle connection to an app is kept, unless the app says or shows that it closes it sooner.",
    ),
    _router(
        "keepAliveTimeout",
        "keepalive_timeout",
        grammars.DURATION,
        "75s",
        "How long a client's connection may be idle between two requests. Longer than the load balancer in front keeps"
        " its own, where there is one: some keep theirs for 600 s.",
    ),
    _router(
        "proxyRealIpCidrs",
        "trusted",
        grammars.NETWORKS,
        None,
        "Peers whose word about the client's address is believed; without it nobody's.",
    ),
    _router(
        "deniedNetworks",
        "denied_networks",
        grammars.NETWORKS,
        None,
        "Addresses that no app may have as endpoints, besides loopback, link-local, metadata, the router's own, the API"
        " server's, and those of nodes on ports of Kubernetes components.",
    ),
    _router(
        "allowedNetworks",
        "allowed_networks",
        grammars.NETWORKS,
        None,
        "Exceptions: addresses that apps may have although they are among those, deniedNetworks included.",
    ),
    _router(
        "useProxyProtocol",
        "proxy_protocol",
        grammars.FLAG,
        "false",
        "Believe a PROXY header (version 1 or 2) at the beginning of http and https connections from proxyRealIpCidrs.",
    ),
    _router(
        "httpsPort",
        "https_port",
        grammars.integer(1, 65535),
        "443",
        "The port by which clients reach https: redirects to https and X-Forwarded-Port name it.",
    ),
    _router("enforceWhitelists", "enforce_allow", grammars.FLAG, "false", "Apps without any allow-list admit nobody."),
    _router("defaultWhitelist", "default_allow", grammars.ALLOW_LIST, None, "The allow-list of the whole platform."),
    _router(
        "whitelistMode",
        "allow_mode",
        grammars.choice("extend", "override"),
        "extend",
        "Whether an app's own allow-list adds to defaultWhitelist or takes its place.",
    ),
    _router("requestIDs", "request_ids", grammars.FLAG, "true", "Give every request an X-Request-Id."),
    _router("requestStartHeader", "request_start", grammars.FLAG, "false", "Add X-Request-Start to requests."),
    _router(
        "defaultServiceEnabled",
        "default_service_enabled",
        grammars.FLAG,
        "false",
        "Let defaultServiceIP, port 80, answer unknown hosts.",
    ),
    _router(
        "defaultAppName", "default_app_name", grammars.APP_NAME, "default", "That service's name in logs and metrics."
    ),
    _router("defaultServiceIP", "default_service_ip", grammars.ADDRESS, None, "That service's address."),
    _router("referrerPolicy", "referrer_policy", _REFERRER_POLICIES, None, "Referrer-Policy of apps that say nothing."),
    _router(
        "accessLog.format", "log_format", grammars.choice("json", "combined", "deis"), "json", "Form of the access log."
    ),
    _router("accessLog.enabled", "log_enabled", grammars.FLAG, "true", "Whether there is an access log."),
    _router("ssl.enforce", "ssl_enforce", grammars.FLAG, "false", "Redirect http to https for apps that say nothing."),
    _router("ssl.protocols", "ssl_protocols", _VERSIONS, "TLSv1.2 TLSv1.3", "TLS versions on offer."),
    _router(
        "ssl.ciphers",
        "ssl_ciphers",
        _CIPHERS,
        ":".join(CIPHERS),
        "Ciphers of TLS 1.2 in order of preference; those of TLS 1.3 are always on and may be written.",
    ),
    _router("ssl.useSessionTickets", "ssl_session_tickets", grammars.FLAG, "true", "Whether TLS clients may resume."),
    _router(
        "ssl.hsts.enabled",
        "hsts_enabled",
        grammars.FLAG,
        "false",
        "Send Strict-Transport-Security, and redirect http, for apps that say nothing.",
    ),
    _router("ssl.hsts.maxAge", "hsts_max_age", _MAX_AGE, "15552000", "max-age."),
    _router("ssl.hsts.includeSubDomains", "hsts_include_subdomains", grammars.FLAG, "false", "Add includeSubDomains."),
    _router("ssl.hsts.preload", "hsts_preload", grammars.FLAG, "false", "Add preload."),
    _later(Place.ROUTER, "enableRegexDomains", grammars.FLAG, "false", "Let apps use regexDomain."),
    _later(Place.ROUTER, "http2Enabled", grammars.FLAG, "true", "Offer HTTP/2 on https."),
    _later(
        Place.ROUTER,
        "errorLogLevel",
        grammars.choice("debug", "info", "notice", "warning", "warn", "error", "crit", "alert", "emerg"),
        "error",
        "What the router's own log says.",
    ),
    _later(Place.ROUTER, "gzip.enabled", grammars.FLAG, "true", "Compress responses that are not yet compressed."),
    _later(Place.ROUTER, "gzip.compLevel", grammars.integer(1, 9), "5", "Effort, from 1 to 9."),
    _later(Place.ROUTER, "gzip.minLength", grammars.size(0, 1 << 40), "256", "Smallest response worth it, in bytes."),
    _later(
        Place.ROUTER,
        "gzip.types",
        grammars.MEDIA_TYPES,
        None,
        "Media types that are compressed; else text, scripts, JSON, XML, SVG and fonts.",
    ),
    _later(
        Place.ROUTER,
        "gzip.proxied",
        grammars.words(
            "off", "expired", "no-cache", "no-store", "private", "no_last_modified", "no_etag", "auth", "any"
        ),
        "any",
        "Which responses to requests that came through a proxy are compressed.",
    ),
    _later(Place.ROUTER, "gzip.vary", grammars.choice("on", "off"), "on", "Send Vary: Accept-Encoding."),
    _none(Place.ROUTER, "gzip.disable", "User agents of the ancestors' time."),
    _none(Place.ROUTER, "gzip.httpVersion", "Every client that asks for a coding gets it."),
    _none(Place.ROUTER, "disableServerTokens", "The router never tells its version."),
    _none(Place.ROUTER, "ssl.sessionTimeout", "Sessions live as long as their ticket keys."),
    _none(Place.ROUTER, "ssl.sessionCache", "Sessions are kept by clients, in tickets."),
    _none(Place.ROUTER, "ssl.bufferSize", "Records follow what is written."),
    _none(Place.ROUTER, "ssl.earlyDataMethods", "0-RTT is never offered."),
    _none(Place.ROUTER, "workerProcesses", "The number of workers is a process setting: --workers."),
    _none(Place.ROUTER, "maxWorkerConnections", "See maxConnections."),
    _none(Place.ROUTER, "trafficStatusZoneSize", "Metrics need no zone."),
    _none(Place.ROUTER, "serverNameHashMaxSize", "Names need no tuning."),
    _none(Place.ROUTER, "serverNameHashBucketSize", "Names need no tuning."),
    _none(Place.ROUTER, "largeHeaderBuffersCount", "largeHeaderBuffersSize is for the head as a whole."),
    _none(Place.ROUTER, "http2MaxHeaderSize", "largeHeaderBuffersSize is for every protocol."),
    _none(Place.ROUTER, "http2MaxFieldSize", "largeHeaderBuffersSize is for every protocol."),
    _none(Place.ROUTER, "logFormat", "Formats are named: see accessLog.format."),
    _none(Place.ROUTER, "loadModsecurityModule", "A module of nginx."),
    _none(Place.ROUTER, "loadTcellModule", "A module of nginx."),
    _none(Place.ROUTER, "globalTcellAppID", "A commercial firewall that the ancestors could load."),
    _none(Place.ROUTER, "proxyBuffers.enabled", _PROXY_BUFFERS),
    _none(Place.ROUTER, "proxyBuffers.number", _PROXY_BUFFERS),
    _none(Place.ROUTER, "proxyBuffers.size", _PROXY_BUFFERS),
    _none(Place.ROUTER, "proxyBuffers.busySize", _PROXY_BUFFERS),
    # ── builder Service ───────────────────────────────────────────────────────────────────────────────────────────
    _builder(
        "connectTimeout",
        "connect_timeout",
        grammars.DURATION,
        "10s",
        "Longest time to connect to one of the builder's endpoints; another one is tried after it.",
    ),
    _builder("tcpTimeout", "tcp_timeout", grammars.DURATION, "1200s", "Longest silence of a git push."),
    _builder(
        "proxyProtocol",
        "proxy_protocol",
        grammars.choice("v1", "v2"),
        None,
        "Tell the builder who comes, in a PROXY header of this version; it must expect one.",
    ),
    _builder(
        "connectionsPerClient",
        "connections_per_client",
        grammars.integer(0, 100_000),
        "20",
        "Connections that one client address may have open, 0 for any number. Trusted balancers are not counted.",
    ),
    _builder(
        "connectionRate",
        "connection_rate",
        grammars.per_second(0, 100_000),
        "10",
        "New connections per second from one client address, 0 for any number.",
    ),
)

_BY_PLACE: Final = {
    place: {name: field for field in FIELDS if field.place is place for name in (field.key, *field.aliases)}
    for place in Place
}


def known_keys(place: Place) -> dict[str, Field]:
    """Every key and alias that may stand on ``place``."""
    return _BY_PLACE[place]


def defaults(place: Place) -> dict[str, Any]:
    """The model's values when no annotation stands on ``place``."""
    return {field.attribute: field.absent() for field in FIELDS if field.place is place and field.attribute}
