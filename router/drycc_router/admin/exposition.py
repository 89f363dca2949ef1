"""Families of metrics as lines of text: what Prometheus reads, in the older format and as OpenMetrics.

Written here and not by ``prometheus_client``, which takes thirty times as long for each line: with ten thousand apps
that is seconds. The tests read everything with its parsers, with promtool and with a Prometheus server. Labels stand in
the order of their names, as with it. A value that is not a number is refused (:func:`number`), because Prometheus drops
the whole page for one line that it cannot parse.

What must not enter: any metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple

from drycc_proxy.metrics import BUCKETS, Histogram

__all__ = ["Family", "counter", "escaped", "gauge", "histogram", "number", "text"]

_BOUNDS: Final = (*(f'le="{bound}"' for bound in BUCKETS), 'le="+Inf"')


class Family(NamedTuple):
    """One metric with all its series: ``lines`` are complete, each with its end."""

    kind: str
    """``counter``, ``gauge`` or ``histogram``."""
    name: str
    """Without the ``_total`` of a counter."""
    help_text: str
    """A sentence without quotes and backslashes, which the two formats escape differently."""
    lines: Iterable[bytes]


def counter(name: str, help_text: str, value: float | Mapping[Any, float], *labels: str) -> Family:
    """One that only goes up: a number, or a number for each value of ``labels`` (a tuple where there are several).

    Raises TypeError if a value is neither an int nor a float.
    """
    return Family("counter", name, help_text, _lines(f"{name}_total", value, labels))


def gauge(name: str, help_text: str, value: float | Mapping[Any, float], *labels: str) -> Family:
    """One that comes back; ``value`` as of a counter."""
    return Family("gauge", name, help_text, _lines(name, value, labels))


def histogram(name: str, help_text: str, value: Histogram | Mapping[Any, Histogram], *labels: str) -> Family:
    """Cumulative buckets and the sum; ``value`` as of a counter, with at most one label."""
    lines = []
    for key, each in value.items() if isinstance(value, Mapping) else [((), value)]:
        mine = _series(labels)(key) if labels else ""
        counts = list(accumulate(each.counts.copy()))
        before, closed = (f"{mine},", f"{{{mine}}}") if mine else ("", "")  # no label of ours comes after le
        lines += [
            f"{name}_bucket{{{before}{le}}} {count}\n".encode() for le, count in zip(_BOUNDS, counts, strict=True)
        ]
        lines.append(f"{name}_count{closed} {counts[-1]}\n{name}_sum{closed} {number(each.total)}\n".encode())
    return Family("histogram", name, help_text, lines)


def text(families: Iterable[Family], *, openmetrics: bool, end: bytes = b"") -> bytes:
    """The lines of all families, in one of two formats, and ``end``, which OpenMetrics wants to have its mark."""
    page: list[bytes] = []
    for kind, name, help_text, lines in families:
        called = f"{name}_total" if kind == "counter" and not openmetrics else name
        page.append(f"# HELP {called} {help_text}\n# TYPE {called} {kind}\n".encode())
        page += lines
    page.append(end)
    return b"".join(page)


def number(value: object) -> str:
    """A sample's value as both formats write it.

    Raises TypeError for anything but an int or a float: ``True`` is an int to Python and a syntax error to Prometheus.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{int(value)}"  # int() because a level is an IntEnum
    if not isinstance(value, float):
        raise TypeError(f"{type(value).__name__} is not a number")
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def escaped(value: object) -> str:
    """A label's value, to be put between quotes. Bytes of a file name that are not UTF-8 become ``?``."""
    plain = str(value)
    if not plain.isascii():
        plain = plain.encode(errors="replace").decode()
    return plain.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _lines(name: str, value: float | Mapping[Any, float], labels: tuple[str, ...]) -> list[bytes]:
    if not isinstance(value, Mapping):
        return [f"{name} {number(value)}\n".encode()]
    series = _series(labels)
    return [f"{name}{{{series(key)}}} {number(each)}\n".encode() for key, each in dict(value).items()]


def _series(labels: tuple[str, ...]) -> Callable[[Any], str]:
    """What stands between the braces, out of the values of these labels."""
    if len(labels) == 1:
        return lambda key: f'{labels[0]}="{escaped(key)}"'
    form = ",".join(f'{label}="{{{labels.index(label)}}}"' for label in sorted(labels)).format
    return lambda key: form(*map(escaped, key))
