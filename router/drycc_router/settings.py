"""Process settings: what is decided when the process starts, and holds until it ends.

One table, :data:`FIELDS`: each setting's flag, environment variable, default, what it must look like and what it does.
A flag wins over the environment, the environment over the default. Everything that may change while traffic flows is an
annotation of the router's own Deployment (contract 4), not a setting.

What must not enter: annotations, sockets, and any default that is computed from the machine.
"""

from __future__ import annotations

import enum
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from drycc_router.model.durations import seconds

__all__ = ["FIELDS", "LogTo", "Setting", "Settings", "SettingsError", "read", "unknown"]

PREFIX: Final = "DRYCC_ROUTER_"
MAX_TIME: Final = 10 * 86400.0
"""Seconds; of every setting that is a time."""


class SettingsError(Exception):
    """A setting that cannot be honoured: names where it was written, what stood there and what was expected."""

    def __init__(self, where: str, value: str | None, expected: str) -> None:
        super().__init__(f"{where}: expected {expected}" + ("" if value is None else f", not {value!r}"))
        self.where = where


class LogTo(enum.Enum):
    """Destinations of the access log that are not files."""

    STDOUT = "-"
    NOWHERE = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """What :func:`read` makes of flags and environment; each field is described in :data:`FIELDS`."""

    manifests: Path | None = None
    """None: the source is a cluster."""
    manifests_settle: float = 2.0
    kubeconfig: Path | None = None
    """None: in a cluster, what Kubernetes puts into a Pod."""
    watch_namespaces: tuple[str, ...] = ()
    """None: all."""
    bind: str = "0.0.0.0"
    http_port: int = 8080
    https_port: int = 8443
    git_port: int = 2222
    admin_port: int = 9090
    git_gateway: Path | None = None
    workers: int | None = None
    """None: one per core that may be used; 0: no process but this one."""
    namespace: str = "drycc"
    name: str = "drycc-router"
    identity: str | None = None
    """None: the host's name and something random."""
    access_log: Path | LogTo = LogTo.STDOUT
    handover: Path | None = None
    """None: no other router may take over from this one."""
    drain_delay: float = 10.0
    drain_grace: float = 25.0
    metric_series: int = 20_000
    log_level: int = logging.INFO
    memory_limit: int = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``parse`` raises ValueError, whose text is irrelevant: ``expected`` says what should stand there."""

    name: str
    metavar: str
    parse: Callable[[str], Any]
    expected: str
    help: str
    environment: tuple[str, ...] = ()
    """Variables besides ``DRYCC_ROUTER_<NAME>``, which comes first."""

    @property
    def flag(self) -> str:
        """As written on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables, the one that wins first."""
        return (PREFIX + self.name.upper(), *self.environment)

    @property
    def default(self) -> str | None:
        """As one would write it; None: it must be given."""
        match next(field.default for field in fields(Settings) if field.name == self.name):
            case LogTo() as to:
                return to.value
            case int() as level if self.name == "log_level":
                return logging.getLevelName(level).lower()
            case float() as time:
                return f"{time:g}s"
            case str() | int() as value:
                return str(value)
            case _:
                return None


def _directory(text: str) -> Path:
    path = Path(text)
    if not text or not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise ValueError
    return path


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise ValueError
        return int(text)

    return parse


def _namespace(text: str) -> str:
    if not re.fullmatch("[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", text):
        raise ValueError
    return text


def _namespaces(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_namespace(part.strip()) for part in text.split(",") if part.strip()))


def _object_name(text: str) -> str:
    if not re.fullmatch("[a-z0-9](?:[-a-z0-9.]{0,61}[a-z0-9])?", text):
        raise ValueError
    return text


def _identity(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][-A-Za-z0-9._]{0,127}", text):
        raise ValueError
    return text


def _readable(text: str) -> Path:
    path = Path(text)
    if not text or not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError
    return path


def _log_destination(text: str) -> Path | LogTo:
    if not text:
        raise ValueError
    try:
        return LogTo(text)
    except ValueError:
        return Path(text)


def _socket_path(text: str) -> Path:
    path = Path(text)
    if not text or len(os.fsencode(text)) > 90 or not path.parent.is_dir():
        raise ValueError
    if os.path.lexists(path) and not path.is_socket():
        raise ValueError  # the socket takes the place of what is there
    return path


def _time(text: str) -> float:
    time = seconds(text)
    if time > MAX_TIME:
        raise ValueError
    return time


LEAST_MEMORY: Final = 1 << 20
"""Bytes. No router fits into less: who writes that forgot the unit, and would get one that refuses every request."""


def _size(text: str) -> int:
    found = re.fullmatch("([0-9]{1,12}) ?([kmg]?)(?:i?b|i)?", text.lower())
    if not found:
        raise ValueError
    size = int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2]]
    if 0 < size < LEAST_MEMORY:
        raise ValueError
    return size


def _level(text: str) -> int:
    level = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    if text.lower() not in level:
        raise ValueError
    return level[text.lower()]


_A_TIME: Final = "a time such as 500ms, 10s or 1.5m, at most 10d"
_port = _number(0, 65535)
_A_PORT: Final = "a port, 0 to 65535"

FIELDS: Final = (
    Setting(
        "manifests", "DIR", _directory, "a directory that can be read", "directory of Kubernetes manifests to serve"
    ),
    Setting(
        "manifests_settle",
        "TIME",
        _time,
        _A_TIME,
        "how long a manifest must stay empty or away before its objects are gone, so that kubectl get > FILE is safe",
    ),
    Setting(
        "kubeconfig",
        "FILE",
        _readable,
        "a file that can be read",
        "serve what a cluster says, and log in there with this file; inside of a cluster neither is needed",
    ),
    Setting(
        "watch_namespaces",
        "A,B",
        _namespaces,
        "names of namespaces, separated by commas",
        "namespaces whose Services are served; by default all",
    ),
    Setting("bind", "ADDR", _address, "an IP address", "address to listen on, all ports alike"),
    Setting("http_port", "N", _port, _A_PORT, "port for http; 0 picks a free one"),
    Setting("https_port", "N", _port, _A_PORT, "port for https; 0 picks a free one"),
    Setting(
        "git_port", "N", _port, _A_PORT, "port for git over SSH, open while there is a builder; 0 picks a free one"
    ),
    Setting("admin_port", "N", _port, _A_PORT, "port for probes, metrics and reports; 0 picks a free one"),
    Setting(
        "git_gateway",
        "DIR",
        _directory,
        "a directory that can be read",
        "end git's SSH sessions here and ask who may push what; DIR has host keys and whom to ask, see operations",
    ),
    Setting(
        "workers",
        "N",
        _number(0, 256),
        "a number of processes, 0 to 256",
        "processes that serve traffic, by default one per core that may be used; 0: everything in one process",
    ),
    Setting(
        "namespace",
        "NAME",
        _namespace,
        "the name of a namespace",
        "the router's own namespace: its Deployment, its platform certificate",
        environment=("POD_NAMESPACE",),
    ),
    Setting(
        "name",
        "NAME",
        _object_name,
        "the name of an object",
        "the router's own name in its namespace: of its Deployment or DaemonSet, its Service and its Lease",
    ),
    Setting(
        "identity",
        "NAME",
        _identity,
        "a word of at most 128 letters, digits and .-_",
        "what this replica is called in the Lease; no two may have the same. By default made of the host's name",
        environment=("POD_NAME",),
    ),
    Setting(
        "access_log",
        "FILE|-|off",
        _log_destination,
        "a file, - for stdout, or off",
        "where the access log goes; a file is opened again on SIGHUP",
    ),
    Setting(
        "handover",
        "PATH",
        _socket_path,
        "a path of at most 90 bytes in a directory that exists, with nothing or a socket there",
        "Unix socket at which a new version takes over the ports of a running one; both are given the same",
    ),
    Setting(
        "drain_delay",
        "TIME",
        _time,
        _A_TIME,
        "how long after SIGTERM, not ready any more, connections are still accepted: until everybody has noticed",
    ),
    Setting(
        "drain_grace",
        "TIME",
        _time,
        _A_TIME,
        "how long exchanges under way may take after that; both together below terminationGracePeriodSeconds",
    ),
    Setting(
        "metric_series",
        "N",
        _number(0, 10_000_000),
        "a number of series",
        "series that metrics of apps may have together, and as many each of Problems and certificates; later ones are "
        "counted as one, other",
    ),
    Setting(
        "log_level",
        "LEVEL",
        _level,
        "debug, info, warning or error",
        "how much the router says about itself, on stderr",
    ),
    Setting(
        "memory_limit",
        "BYTES",
        _size,
        "a number of bytes, at least 1m, with k, m or g (1024) if you like; 0: the container's own limit",
        "memory that must not be exceeded: from 85 % of it on, the router gives things up to stay alive",
    ),
)
"""Every setting, in the order of ``--help``."""


def unknown(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like one of ours and is none."""
    known = [field.variables[0] for field in FIELDS]
    sentences = []
    for name in sorted(_without_service_links(environment)):
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name[len(PREFIX) :], [each[len(PREFIX) :] for each in known], n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            sentences.append(f"{name} in the environment: there is no such setting{hint}")
    return sentences


_LINK: Final = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_[A-Z]+(?:_[A-Z]+)?)")
"""What Kubernetes puts behind the name of a Service, in variables of every Pod of its namespace."""


def _without_service_links(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables by which Kubernetes tells Pods of Services.

    A Service called ``drycc-router-admin`` would be ``DRYCC_ROUTER_ADMIN_PORT=tcp://10.0.0.1:9090`` to us.
    """
    ending = "_SERVICE_HOST"
    services = [
        name.removesuffix(ending) for name in environment if name.startswith(PREFIX[:-1]) and name.endswith(ending)
    ]
    return {
        name: text
        for name, text in environment.items()
        if not any(name.startswith(service) and _LINK.fullmatch(name, len(service)) for service in services)
    }


def read(flags: Mapping[str, str | None], environment: Mapping[str, str], *, needs_source: bool = True) -> Settings:
    """Settings from what was written. ``flags`` by field name; absent or None: not given. ``needs_source``: whether it
    has to be said where routes come from.

    Raises :class:`SettingsError` for the first one that cannot be honoured.
    """
    values: dict[str, Any] = {}
    environment = _without_service_links(environment)
    for field in FIELDS:
        written = [(field.flag, flags.get(field.name)), *((name, environment.get(name)) for name in field.variables)]
        for where, text in written:
            if text is None:
                continue
            try:
                values[field.name] = field.parse(text)
            except ValueError:
                raise SettingsError(where, text, field.expected) from None
            break
    if "manifests" in values and "kubeconfig" in values:
        raise SettingsError("--kubeconfig", None, "no --manifests beside it: there is one source of routes")
    said = {"manifests", "kubeconfig"} & values.keys() or "KUBERNETES_SERVICE_HOST" in environment
    if needs_source and not said:
        expected = "a directory, or --kubeconfig, or to be inside of a cluster (or set DRYCC_ROUTER_MANIFESTS)"
        raise SettingsError("--manifests", None, expected)
    return Settings(**values)
