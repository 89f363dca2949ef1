"""The picture of a result file: processor time per request of every proxy, as multiples of nginx's. Pure text → SVG."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from benchmarks.figures import multiple

__all__ = ["draw"]

_BASELINE: Final = "nginx"
_SCENARIOS: Final = (
    "plain",
    "plain-varied",
    "plain-apps",
    "tls",
    "handshake",
    "resumption",
    "body-1m",
    "body-1m-upload",
)
_COLOURS: Final = {"drycc": "#0b6e4f"}
_OTHERS: Final = "#9aa5b1"
_LONGEST: Final = 6.0
"""Multiples beyond this are cut, and say so."""
_WIDTH: Final = 860
_LEFT: Final = 120
_SCALE: Final = 95.0
"""Pixels per multiple."""
_BAR: Final = 15
_GAP: Final = 34


def draw(results: Mapping[str, Any]) -> str:
    """Return the SVG. Scenarios without a figure of nginx are left out."""
    body: list[str] = []
    top = 56
    for name in _SCENARIOS:
        scenario = results["scenarios"].get(name)
        if scenario is None:
            continue
        figures = {peer: [sample["cpu_us"] for sample in taken] for peer, taken in scenario["samples"].items()}
        if _BASELINE not in figures:
            continue
        body.append(_text(14, top, scenario["title"], weight="600"))
        top += 8
        for peer, values in figures.items():
            body += _bar(top, peer, statistics.median(values), multiple(values, figures[_BASELINE]) or 0.0)
            top += _BAR + 3
        top += _GAP
    baseline = _LEFT + _SCALE
    rule = (
        f'<line x1="{baseline}" y1="44" x2="{baseline}" y2="{top - _GAP + 6}" stroke="#7b8794" stroke-dasharray="3 3"/>'
    )
    heading = _text(14, 24, "Processor time per request, nginx = 1 (shorter is better)", size=16, weight="700")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}" '
        'font-family="system-ui, sans-serif" role="img" aria-label="Processor time per request, nginx = 1">\n'
        f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>\n' + "\n".join([heading, rule, *body]) + "\n</svg>\n"
    )


def _bar(top: int, peer: str, value: float, times: float) -> list[str]:
    shown = min(times, _LONGEST)
    colour = _COLOURS.get(peer, _OTHERS)
    cut = " …" if times > _LONGEST else ""
    return [
        _text(_LEFT - 8, top + 12, peer, size=12, anchor="end"),
        f'<rect x="{_LEFT}" y="{top}" width="{shown * _SCALE:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
        _text(_LEFT + shown * _SCALE + 6, top + 12, f"{times:.2f}{cut}  ({value:,.0f} µs)", size=12),
    ]


def _text(x: float, y: float, text: str, *, size: int = 13, weight: str = "400", anchor: str = "start") -> str:
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    halo = 'paint-order="stroke" stroke="#ffffff" stroke-width="4"'  # keeps the line at 1 out of the letters
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} {halo} fill="#1b1f24">{escape(text)}</text>'
