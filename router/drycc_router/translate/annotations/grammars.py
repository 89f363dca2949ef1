"""Grammars: the text of one annotation → a typed value in base units (contract 2).

Durations become seconds, sizes bytes, networks canonical CIDR text. Every grammar is an ASCII regular expression that
must match from end to end, or the strict parser of the standard library behind one: ``int`` and ``float`` alone accept
signs, underscores, other scripts' digits and infinity. Nothing here raises anything but
:class:`~drycc_router.model.invalid_value.Unfit`, whatever the text, and none of it costs more than its length.

What must not enter: keys and defaults (``fields``), Problems (``reading``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from drycc_proxy.routing.definitions import canonical_path
from drycc_router.model import hostnames, mistakes
from drycc_router.model.durations import seconds
from drycc_router.model.invalid_value import Unfit
from drycc_router.model.problems import Reason
from drycc_router.model.quotas import LIST_LIMIT

__all__ = [
    "ADDRESS",
    "ALLOW_LIST",
    "ANYTHING",
    "APP_NAME",
    "CERTIFICATES",
    "DENY_LIST",
    "DOMAIN",
    "DOMAINS",
    "DURATION",
    "DURATION_OR_NONE",
    "FLAG",
    "LIST_LIMIT",
    "LOCATIONS",
    "MEDIA_TYPES",
    "NAMESPACES",
    "NETWORKS",
    "OBJECT_NAME",
    "PLATFORM_DOMAIN",
    "PORT",
    "REGEX_LABEL",
    "SIZE",
    "TCP_PORTS",
    "ListOf",
    "Scalar",
    "choice",
    "integer",
    "per_second",
    "size",
    "whole_seconds",
    "words",
]

T = TypeVar("T")

MAX_DURATION: Final = 365 * 86400.0
MAX_SIZE: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Scalar(Generic[T]):
    """One value: ``read`` takes stripped text and returns the value or raises :class:`Unfit`."""

    name: str
    """For the reference page."""
    read: Callable[[str], T]
    bounds: tuple[int, int] | None = None
    """Least and largest value, of numbers and sizes: for the chart's schema, as ``words``."""
    words: tuple[str, ...] = ()
    """The only texts that ``read`` takes, if there are so few."""


@dataclass(frozen=True, slots=True)
class ListOf(Generic[T]):
    """A list, judged element by element; ``read`` takes one stripped, non-empty element."""

    name: str
    read: Callable[[str], T]
    separator: str = ","
    fails_closed: bool = False
    """What it means when it stands there and no element is usable: nobody, rather than whatever was good last."""
    words: tuple[str, ...] = ()
    """The only elements that ``read`` takes, if there are so few."""

    def split(self, text: str) -> list[str]:
        """The elements as written, stripped; the empty ones too."""
        # Words are separated by any run of blanks, so there are no empty ones between them.
        parts = text.split() if self.separator == " " else text.split(self.separator)
        return [part.strip(BLANKS) for part in parts]


BLANKS: Final = " \t\r\n"
"""What may stand around a value; YAML's block scalars end with a line end."""


# ── flags, numbers, words ─────────────────────────────────────────────────────────────────────────────────────────────


def _flag(text: str) -> bool:
    match text.lower() if text.isascii() else "":  # the controller writes Python's True and False
        case "true":
            return True
        case "false":
            return False
        case _:
            raise Unfit("true or false")


def _duration(text: str) -> float:
    try:
        time = seconds(text)
    except ValueError:
        time = 0.0
    if 0.001 <= time <= MAX_DURATION:
        return time
    raise Unfit("a time such as 500ms, 30s, 1.5m or 2h, from 1ms to 365d")


def _duration_or_none(text: str) -> float:
    return 0.0 if text == "0" else _duration(text)


_SIZE: Final = re.compile(r"([0-9]{1,19}) ?([kKmMgG]?)(?:i?[bB]|i)?")
_BYTES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(minimum: int, maximum: int) -> Scalar[int]:
    """A size in bytes within bounds."""

    def read(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if found:
            octets = int(found[1]) * _BYTES[found[2].lower()]
            if minimum <= octets <= maximum:
                return octets
        raise Unfit(f"a size {_bounds}")

    _bounds = f"from {minimum} to {maximum} bytes, such as 16k" if minimum else "such as 512k, 10m or 0"
    return Scalar("size", read, (minimum, maximum))


_INTEGER: Final = re.compile(r"[0-9]{1,18}")
_NUMBER: Final = re.compile(r"([0-9]{1,18})([kKmM]?)")
_THOUSANDS: Final = {"": 1, "k": 1_000, "m": 1_000_000}


def integer(minimum: int, maximum: int) -> Scalar[int]:
    """An integer within bounds; with k or m it is in thousands or millions."""

    def read(text: str) -> int:
        found = _NUMBER.fullmatch(text)
        if found:
            number = int(found[1]) * _THOUSANDS[found[2].lower()]
            if minimum <= number <= maximum:
                return number
        raise Unfit(f"a number from {minimum} to {maximum}")

    return Scalar(f"number {minimum} to {maximum}", read, (minimum, maximum))


def whole_seconds(minimum: int, maximum: int) -> Scalar[int]:
    """A number of seconds within bounds, or a time that is one."""

    def read(text: str) -> int:
        try:
            time = seconds(text)
        except ValueError:
            time = -1.0
        if time.is_integer() and minimum <= time <= maximum:
            return int(time)
        raise Unfit(f"a number of seconds from {minimum} to {maximum}, or a time such as 180d")

    return Scalar("time in whole seconds", read, (minimum, maximum))


def per_second(minimum: int, maximum: int) -> Scalar[int]:
    """How often in a second, within bounds; ``10`` or ``10/s``."""
    number = integer(minimum, maximum)

    def read(text: str) -> int:
        try:
            return number.read(text.removesuffix("/s").removesuffix("r"))
        except Unfit:
            raise Unfit(f"a number per second from {minimum} to {maximum}, such as 10 or 10/s") from None

    return Scalar(f"number {minimum} to {maximum} per second", read, (minimum, maximum))


def choice(*alternatives: str) -> Scalar[str]:
    """One of a few words, exactly as written here."""
    return Scalar(" · ".join(alternatives), _one_of(alternatives), words=alternatives)


def words(*alternatives: str, separator: str = " ") -> ListOf[str]:
    """A list of some of a few words."""
    kinds = {" ": "words", ":": "words joined by ':'"}[separator]
    return ListOf(f"{kinds} out of: {' '.join(alternatives)}", _one_of(alternatives), separator, words=alternatives)


def _one_of(alternatives: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in alternatives:
            return text
        raise Unfit(f"one of {', '.join(alternatives)}")

    return read


def _matching(pattern: str, expected: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def read(text: str) -> str:
        if compiled.fullmatch(text):
            return text
        raise Unfit(expected)

    return read


# ── addresses and networks ────────────────────────────────────────────────────────────────────────────────────────────

_NETWORK: Final = re.compile(r"([0-9A-Fa-f:.]{2,45})(?:/([0-9]{1,3}))?")


@lru_cache(maxsize=1 << 14)  # the same networks stand in many lists; what is unfit is not kept
def _network(text: str) -> str:
    """Canonical CIDR text. IPv4 in IPv6's clothes becomes IPv4, as clients' addresses do.

    Bits beyond the prefix cannot be meant: the network is taken, and whoever meant one address is told.

    A prefix length only: netmask notation means different things to different readers (lineage 2.4).
    """
    if _NETWORK.fullmatch(text):
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            pass
        else:
            address = ipaddress.ip_address(text.partition("/")[0])
            has_host_bits = address != network.network_address
            mapped = network.network_address.ipv4_mapped if network.version == 6 else None
            if mapped is not None and network.prefixlen >= 96:
                network = ipaddress.ip_network((mapped, network.prefixlen - 96))
            if has_host_bits:
                expected = f"no bits beyond the prefix length: {network} is in force"
                raise Unfit(expected, Reason.HOST_BITS, taken=str(network))
            return str(network)
    raise Unfit(mistakes.in_network(text))


def _address(text: str) -> str:
    if _NETWORK.fullmatch(text) and "/" not in text:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            pass
    raise Unfit("an address such as 10.0.0.7 or 2001:db8::7")


# ── names and paths ───────────────────────────────────────────────────────────────────────────────────────────────────

_DNS_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = rf"(?=.{{1,253}}\Z){_DNS_LABEL}(?:\.{_DNS_LABEL})*"

_object_name = _matching(_DNS_NAME, "the name of an object in the Service's own namespace")


def _certificate(text: str) -> tuple[str, str]:
    """``domain:name`` → (canonical domain, name)."""
    domain, colon, name = text.partition(":")
    if not colon:
        raise Unfit(mistakes.in_mapping(text) or mistakes.A_MAPPING)
    try:
        return hostnames.canonical(domain.strip(BLANKS)), _object_name(name.strip(BLANKS))
    except Unfit as unfit:
        raise Unfit(mistakes.in_mapping(text) or unfit.expected, unfit.reason) from None


_PATH: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})+)+/?")
"""RFC 3986, 3.3, without the star, which is written as if it stood for something."""


def _location(text: str) -> str:
    """A literal prefix of whole segments, in the spelling in which paths are compared, and without its last slash:
    ``/api/``, ``/%61pi`` and ``/api`` are the same place."""
    if text == "/":
        raise Unfit("a path such as /api: the whole of a name belongs to the app that holds it")
    segments = text.lower().replace("%2e", ".").split("/")  # RFC 3986, 6.2.2: what the proxy takes for dots
    if len(text) > 1024 or not _PATH.fullmatch(text) or "." in segments or ".." in segments:
        raise Unfit(mistakes.in_path(text))
    return canonical_path(text.encode("ascii")).decode("ascii").removesuffix("/")


_PORT_NAME: Final = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")


def _port(text: str) -> str | int:
    if _INTEGER.fullmatch(text) and 1 <= int(text) <= 65535:
        return int(text)
    if _PORT_NAME.fullmatch(text):
        return text
    raise Unfit("the name or the number of a port of this Service")


_TCP_PORT: Final = re.compile(rf"([0-9]{{1,5}}):({_DNS_LABEL})/({_DNS_LABEL})(?::([a-z0-9-]{{1,15}}))?")


def _tcp_port(text: str) -> tuple[int, str, str, str | int | None]:
    """``port:namespace/service[:port]`` → (port to listen on, namespace, Service, its port)."""
    found = _TCP_PORT.fullmatch(text)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise Unfit("a mapping port:namespace/service:port, such as 5432:shop/database:5432")
    return int(found[1]), found[2], found[3], None if found[4] is None else _port(found[4])


def _anything(text: str) -> str:
    return text


FLAG: Final = Scalar("true · false", _flag)
DURATION: Final = Scalar("time", _duration)
DURATION_OR_NONE: Final = Scalar("time, 0 for none", _duration_or_none)
SIZE: Final = size(0, MAX_SIZE)
ALLOW_LIST: Final = ListOf("networks", _network, fails_closed=True)
DENY_LIST: Final = ListOf("networks", _network)
NETWORKS: Final = ListOf("networks", _network)
ADDRESS: Final = Scalar("address", _address)
DOMAIN: Final = Scalar("name", hostnames.canonical)
DOMAINS: Final = ListOf("names", hostnames.canonical)
PLATFORM_DOMAIN: Final = Scalar("domain", hostnames.platform_domain)
CERTIFICATES: Final = ListOf("mappings domain:name", _certificate)
LOCATIONS: Final = ListOf("paths", _location)
NAMESPACES: Final = ListOf("namespaces", _matching(_DNS_LABEL, "the name of a namespace"))
OBJECT_NAME: Final = Scalar("name of an object", _object_name)
PORT: Final = Scalar("name or number of a port", _port)
TCP_PORTS: Final = ListOf("mappings port:namespace/service:port", _tcp_port)
APP_NAME: Final = Scalar(
    "name", _matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,126}", "a name of letters, digits, '.', '_', '/' and '-'")
)
REGEX_LABEL: Final = Scalar(
    "regular expression",
    _matching(r"[A-Za-z0-9()\[\]{}|?*+^$\\,_-]{1,256}", "a regular expression for one label, at most 256 characters"),
)
MEDIA_TYPES: Final = ListOf(
    "media types", _matching(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+*-]{1,64}", "a type such as text/css"), " "
)
ANYTHING: Final = Scalar("any text", _anything)

Grammar = Scalar[Any] | ListOf[Any]
"""What a field is written in; fields of all types stand in one table, hence Any."""
