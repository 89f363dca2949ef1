"""Problems: what somebody wrote that the router could not honour, said so that they can mend it.

A Problem is never fatal and never stops another object. It carries a machine name (:class:`Reason`), the object, the
key, the offending value (shortened, control characters escaped) and a sentence that says what was expected (contract
9). A *note* is the same thing for what is in order but has no effect (yet): it is shown, and does not count as a
problem.

What must not enter: anything about requests (``errors``), and any value of a Secret.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final

import msgspec

from drycc_router.model.objects import ObjectKey

__all__ = ["Problem", "ProblemIndex", "Reason", "Severity", "bounded", "shorten"]

VALUE_LIMIT: Final = 80
"""Characters of an offending value that are shown."""
ALIKE: Final = 25
"""Problems of one kind about one object and key that are told one by one. A little more than a list has of its own."""
_STEPS: Final = 16
"""Comparisons that putting one Problem in its place takes. Where that comes to more than there are Problems, all are
sorted anew."""


class Severity(enum.Enum):
    """Whether somebody has something to mend."""

    PROBLEM = "problem"
    NOTE = "note"

    __hash__ = object.__hash__  # a fifth of what enum's own costs, and members are compared by identity anyway


class Reason(enum.Enum):
    """The one table of reasons. The value is the machine name: in ``/problems``, in metrics and in Events."""

    sentence: str
    remedy: str
    """What to do about it, for the reference page."""
    severity: Severity

    __hash__ = object.__hash__  # as above: Problems are hashed a lot

    def __new__(cls, name: str, sentence: str, remedy: str, severity: Severity = Severity.PROBLEM) -> Reason:
        member = object.__new__(cls)
        member._value_ = name
        member.sentence = sentence
        member.remedy = remedy
        member.severity = severity
        return member

    # ── sources and objects ───────────────────────────────────────────────────────────────────────────────────────
    UNREADABLE_FILE = (
        "unreadable_file",
        "A manifest file could not be read; what it said before stays.",
        "Correct the file: the message has the line. `drycc-router check DIR` reads it as the router does.",
    )
    DUPLICATE_OBJECT = (
        "duplicate_object",
        "An object stands in two manifest files; the first by path counts.",
        "Delete the object from one of the two files.",
    )
    API_UNREACHABLE = (
        "api_unreachable",
        "The API server has not answered for a while; what it said last stays.",
        "See whether the API server runs, and whether network policies let the router reach it.",
    )
    NOT_PERMITTED = (
        "not_permitted",
        "A right that the router needs and does not have; what it said before stays.",
        "Grant the right: the chart does, and `drycc-router rbac` prints the Roles that these settings need.",
    )
    UNANSWERED = (
        "unanswered",
        "An object that the API server does not hand out; what it said before stays.",
        "See the API server's log: it lists the object and does not return it. The router asks again by itself.",
    )
    SHRUNK_LIST = (
        "shrunk_list",
        "A list that is suddenly much shorter; it is asked for again before it is believed.",
        "Nothing, if the objects were deleted on purpose; otherwise look at the API server and its storage.",
    )
    BAD_OBJECT = (
        "bad_object",
        "An object does not have the shape Kubernetes gives it; what it said before stays.",
        "Correct the field that the message names; `kubectl apply --dry-run=server` refuses most of these.",
    )
    OVER_QUOTA = (
        "over_quota",
        "More than one namespace or Service may have; what was first stays, the rest is left out.",
        "Delete what is not needed, or spread it over several Services or namespaces.",
    )
    ROUTER_FAULT = (
        "router_fault",
        "The router failed on an object, which is its own fault; what it said before stays.",
        "Report it, with the line of the router's log that names the object; until then change or delete the object.",
    )
    SHADOWED_OBJECT = (
        "shadowed_object",
        "An object under its ancestor's name beside the one under the current name.",
        "Delete the object under the ancestor's name once nothing else reads it.",
    )
    # ── keys and values ───────────────────────────────────────────────────────────────────────────────────────────
    UNKNOWN_KEY = (
        "unknown_key",
        "A key under our prefix that the router does not know.",
        "Correct the spelling (the message names the nearest key), or remove the key.",
    )
    SHADOWED_KEY = (
        "shadowed_key",
        "A key that stands twice, under two prefixes or names; the other one counts.",
        "Remove the key under the older prefix or name.",
    )
    BAD_VALUE = (
        "bad_value",
        "A value that is not in order; the last good one, or the default, stays in force.",
        "Write what the message expects; quote values in YAML.",
    )
    OVER_LIMIT = (
        "over_limit",
        "A number beyond what an app may ask for; the largest that it may is in force.",
        "Ask for less, or have the operator allow more.",
    )
    BAD_ELEMENT = (
        "bad_element",
        "An element of a list that is not in order; the others count.",
        "Correct the element, or remove it from the list.",
    )
    HOST_BITS = (
        "host_bits",
        "A network with bits beyond its prefix length, such as 10.0.0.7/8; the network as a whole is in force.",
        "Write the network (10.0.0.0/8), or the address alone if only that was meant (10.0.0.7).",
    )
    EMPTY_ELEMENT = (
        "empty_element",
        "Empty elements in a list; they are ignored.",
        "Remove the surplus separator.",
    )
    NOTHING_ALLOWED = (
        "nothing_allowed",
        "An allow-list without a usable entry: nobody is allowed.",
        "Correct at least one entry, or remove the annotation to have the default list.",
    )
    ONE_PEER = (
        "one_peer",
        "Places are few, and nearly all clients come from one address that is not trusted to speak for others.",
        "Name the load balancer in `proxyRealIpCidrs`, or keep clients' addresses (`externalTrafficPolicy: Local`).",
    )
    # ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────
    REFUSED_DOMAIN = (
        "refused_domain",
        "A name that nobody may claim here.",
        "Ask for another name: one below a domain that you control.",
    )
    RESERVED_DOMAIN = (
        "reserved_domain",
        "A name of the platform, claimed from outside of the platform.",
        "Ask for another name; the operator may route the platform's own names from the platform's namespaces.",
    )
    DOMAIN_TAKEN = (
        "domain_taken",
        "A name that another Service holds.",
        "Remove it from one of the two, or [have it assigned](operations.md#who-holds-which-name) by the operator.",
    )
    UNKNOWN_PROXY_DOMAIN = (
        "unknown_proxy_domain",
        "Paths for a name that no app holds.",
        "Name in `proxyDomain` a name that is in the `domains` of a routed Service.",
    )
    LOCATIONS_NOT_ALLOWED = (
        "locations_not_allowed",
        "Paths for an app that does not let this namespace contribute.",
        "Have the owner of the app add this namespace to `allowLocationsFrom`.",
    )
    LOCATION_TAKEN = (
        "location_taken",
        "A path that another Service already answers.",
        "Choose another path, or remove it from the other Service.",
    )
    # ── Services and endpoints ────────────────────────────────────────────────────────────────────────────────────
    NO_PORT = (
        "no_port",
        "The Service, or one of its slices, does not have the port that requests should go to.",
        "Name in the annotation `port` a port that the Service has, and that its Pods listen on.",
    )
    NO_ADDRESS = (
        "no_address",
        "The Service has no address of its own that requests could go to.",
        "Give the Service a ClusterIP, or leave `upstream: service` out.",
    )
    EXTERNAL_NAME = (
        "external_name",
        "A Service of type ExternalName, which the router refuses.",
        "Use a Service with a selector, or one with EndpointSlices of its own.",
    )
    REFUSED_ADDRESS = (
        "refused_address",
        "An endpoint that no app may have: loopback, metadata, the router, the cluster's own, another namespace's Pod.",
        "Point the Service at Pods of its own namespace. The operator can make exceptions with `allowedNetworks`.",
    )
    UNKNOWN_SERVICE = (
        "unknown_service",
        "A Service that is not there.",
        "Create the Service, or correct the name.",
    )
    PORT_TAKEN = (
        "port_taken",
        "A port that nothing else may listen on, or that is given to somebody already.",
        "Choose another port.",
    )
    # ── pages and certificates ────────────────────────────────────────────────────────────────────────────────────
    PAGE_MISSING = (
        "page_missing",
        "A maintenance page that is not there; the built-in one is shown.",
        "Create the ConfigMap with an entry `index.html`, and set the chart's `rbac.maintenancePages`.",
    )
    CERTIFICATE_MISSING = (
        "certificate_missing",
        "A Secret with a certificate that is not there.",
        "Create the Secret, or correct its name; the chart's `rbac.secrets` says which ones may be read.",
    )
    CERTIFICATE_BAD = (
        "certificate_bad",
        "A certificate or key that is not in order; the previous one stays in use.",
        "Write a certificate chain and its own key into the Secret, both PEM, under `tls.crt` and `tls.key`.",
    )
    CERTIFICATE_EXPIRED = (
        "certificate_expired",
        "A certificate that has expired; it is served all the same.",
        "Renew the certificate and write it into the same Secret.",
    )
    CERTIFICATE_EXPIRES_SOON = (
        "certificate_expires_soon",
        "A certificate that expires within 14 days.",
        "Renew it; if a controller is to do so, see its log.",
    )
    CERTIFICATE_NOT_YET_VALID = (
        "certificate_not_yet_valid",
        "A certificate from the future; it is served all the same.",
        "Wait, or correct the clock of the node or of whoever issued it.",
    )
    CERTIFICATE_DOES_NOT_COVER = (
        "certificate_does_not_cover",
        "A certificate for other names than it is mapped to.",
        "Issue one that has the name, or map the name to another Secret.",
    )
    DOMAIN_WITHOUT_CERTIFICATE = (
        "domain_without_certificate",
        "A dotted name that no certificate covers; https answers with the default one.",
        'Map the name to a Secret with `certificates`, or write `ssl.enabled: "false"` if no https is wanted.',
    )
    # ── notes ─────────────────────────────────────────────────────────────────────────────────────────────────────
    NO_DOMAINS = (
        "no_domains",
        "A routable Service that asks for no name and no path: it is not routed.",
        "Add `domains`, or remove the label.",
        Severity.NOTE,
    )
    CERTIFICATE_UNUSED = (
        "certificate_unused",
        "A certificate mapped to a name the app does not hold.",
        "Remove the mapping, or add the name to `domains`.",
        Severity.NOTE,
    )
    NOT_YET = (
        "not_yet",
        "A key that is understood and whose effect comes with a later version.",
        "Nothing: it takes effect with a later version.",
        Severity.NOTE,
    )
    NO_EFFECT = (
        "no_effect",
        "A key of the ancestors that is understood and has no effect here.",
        "Nothing; the key may be removed.",
        Severity.NOTE,
    )


class Problem(msgspec.Struct, frozen=True, gc=False):
    """One thing to mend, or to know.

    ``key`` is the annotation or the path of a field ("" when it is about the whole object); ``value`` is shortened and
    escaped here, whatever is passed; ``message`` says what was expected and must be made of our own words and of values
    that passed a grammar.
    """

    reason: Reason
    object: ObjectKey
    key: str
    value: str
    message: str

    def __post_init__(self) -> None:
        key, value = shorten(self.key), shorten(self.value)
        if key is not self.key:
            msgspec.structs.force_setattr(self, "key", key)
        if value is not self.value:
            msgspec.structs.force_setattr(self, "value", value)

    @property
    def is_note(self) -> bool:
        """Nothing to mend: shown, but not counted as a problem."""
        return self.reason.severity is Severity.NOTE

    @property
    def sort_key(self) -> tuple[str, ...]:
        """Order for people: by object, then key."""
        about = self.object
        return (about.kind, about.namespace, about.name, self.key, self.value, self.reason.value, self.message)

    def as_json(self) -> dict[str, str]:
        """Plain data for ``/problems`` and ``check --format json``."""
        return {
            "reason": self.reason.value,
            "severity": self.reason.severity.value,
            "kind": self.object.kind,
            "namespace": self.object.namespace,
            "name": self.object.name,
            "key": self.key,
            "value": self.value,
            "message": self.message,
        }

    def __str__(self) -> str:
        where = f"{self.object}: {self.key}".removesuffix(": ")
        what = f"{where} = '{self.value}'" if self.value else where
        return f"{what}: {self.message} [{self.reason.value}]"


def bounded(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The same problems, of many alike the first :data:`ALIKE` and how many there are beside.

    What somebody writes ten thousand times is worth a page, not the router's memory.
    """
    found = tuple(problems)
    if len(found) <= ALIKE:
        return found
    alike: Counter[tuple[Reason, ObjectKey, str]] = Counter()
    told = []
    for problem in found:
        kind = (problem.reason, problem.object, problem.key.partition("[")[0])
        alike[kind] += 1
        if alike[kind] <= ALIKE:
            told.append(problem)
    for (reason, subject, key), count in alike.items():
        if count > ALIKE:
            told.append(Problem(reason, subject, key, "", f"expected otherwise; {count - ALIKE} more like this"))
    return tuple(told)


class ProblemIndex:
    """All Problems there are now, sorted, and what came and went since somebody last asked.

    Whoever has Problems puts them in under a subject of its own, which replaces what it put there before. The same
    Problem from two subjects is one. Cost follows the difference.
    """

    __slots__ = ("_all", "_before", "_by_subject", "_counts", "_sorted")

    def __init__(self) -> None:
        self._by_subject: dict[Hashable, tuple[Problem, ...]] = {}
        self._counts: Counter[Problem] = Counter()
        self._sorted: list[Problem] = []
        self._all: tuple[Problem, ...] = ()
        self._before: dict[Problem, bool] = {}
        """Problem touched since the last ``take`` → whether it was there then."""

    def __repr__(self) -> str:
        return f"<ProblemIndex of {len(self._counts)} problems>"

    def put(self, subject: Hashable, problems: Iterable[Problem]) -> None:
        """Replace what ``subject`` has to say; nothing: it is content."""
        after = tuple(problems)
        if not after and subject not in self._by_subject:  # as nearly everybody is nearly always
            return
        before = self._by_subject.pop(subject, ())
        if after:
            self._by_subject[subject] = after
        if after != before:
            for problem in after:
                self._count(problem, 1)
            for problem in before:
                self._count(problem, -1)

    def take(self) -> tuple[tuple[Problem, ...], tuple[Problem, ...], tuple[Problem, ...]]:
        """(all now, new since the last time, gone since the last time), each sorted."""
        touched = [(problem, was) for problem, was in self._before.items() if was != (problem in self._counts)]
        self._before = {}
        new = sorted((problem for problem, was in touched if not was), key=_order)
        gone = sorted((problem for problem, was in touched if was), key=_order)
        if len(new) == len(self._counts):  # all of them
            self._sorted = new.copy()
        elif len(touched) * _STEPS > len(self._counts):
            self._sorted = sorted(self._counts, key=_order)
        else:
            for problem in gone:
                del self._sorted[bisect_left(self._sorted, _order(problem), key=_order)]
            for problem in new:
                insort(self._sorted, problem, key=_order)
        if touched:
            self._all = tuple(self._sorted)
        return self._all, tuple(new), tuple(gone)

    def _count(self, problem: Problem, step: int) -> None:
        count = self._counts.get(problem, 0)
        self._before.setdefault(problem, count > 0)
        if count + step:
            self._counts[problem] = count + step
        else:
            del self._counts[problem]


def _order(problem: Problem) -> tuple[str, ...]:
    return problem.sort_key


def shorten(text: str, limit: int = VALUE_LIMIT) -> str:
    """At most ``limit`` characters of ``text``, the last one an ellipsis if there was more, nothing a terminal obeys.

    Everything that is not printable (controls, bidirectional marks, lone surrogates) is written as an escape. Applied
    to its own result it changes nothing.
    """
    kept = text[:limit]
    if not kept.isprintable():
        kept = "".join(letter if letter.isprintable() else _escape(letter) for letter in kept)
    return kept if len(text) <= limit and len(kept) <= limit else kept[: limit - 1] + "…"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
