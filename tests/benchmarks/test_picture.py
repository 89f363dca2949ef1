"""From results to a picture."""

import xml.etree.ElementTree as ElementTree
from typing import Any

from benchmarks.picture import draw


def results(**figures: list[float]) -> dict[str, Any]:
    samples = {peer: [{"cpu_us": value} for value in values] for peer, values in figures.items()}
    return {"scenarios": {"plain": {"title": "small < large", "samples": samples}}}


def test_every_proxy_has_a_bar_with_its_multiple_and_its_median() -> None:
    texts = _texts(draw(results(drycc=[10.0, 20.0, 40.0], nginx=[8.0, 16.0, 32.0])))
    assert "1.25  (20 µs)" in texts
    assert "1.00  (16 µs)" in texts
    assert "small < large" in texts


def test_bars_that_would_leave_the_picture_are_cut_and_say_so() -> None:
    drawn = draw(results(nginx=[16.0], caddy=[400.0]))
    assert "25.00 …  (400 µs)" in _texts(drawn)
    picture = _parsed(drawn)
    width = float(picture.attrib["width"])
    bars = [bar for bar in picture if bar.tag.endswith("rect")]
    assert all(float(bar.get("x", 0)) + float(bar.attrib["width"]) <= width for bar in bars)


def test_without_nginx_there_is_nothing_to_compare_with() -> None:
    assert "small < large" not in _texts(draw(results(drycc=[10.0])))


def _texts(drawn: str) -> list[str | None]:
    return [element.text for element in _parsed(drawn) if element.tag.endswith("text")]


def _parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)  # noqa: S314 -- our own text, made a line ago
