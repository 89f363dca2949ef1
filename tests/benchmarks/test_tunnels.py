"""What is said about tunnels, and what is said in them."""

from __future__ import annotations

from benchmarks.tunnels import FRAME, opening, summary
from drycc_proxy.http1.parser import parse_fields


def test_a_tunnel_is_asked_for_as_browsers_ask() -> None:
    block = opening("a.example").partition(b"\r\n")[2].removesuffix(b"\r\n\r\n")
    assert parse_fields(block, 10).upgrade == b"websocket"


def test_a_frame_is_one_masked_letter() -> None:
    assert (FRAME[0], FRAME[1], FRAME[6:]) == (0x81, 0x81, b"a")


def test_the_figures_in_words() -> None:
    kind = {
        "bytes_each": 10_240.0,
        "lost": 0.0,
        "others_p99_us": 1500.0,
        "flooded_p99_us": 2500.0,
        "frames_per_second": 9999.6,
        "others_failed": 1.0,
        "flooded_failed": 2.0,
    }
    said = summary({"alone": {"p99_us": 1234.4}, "http": kind, "https": {**kind, "bytes_each": 51_200.0}})
    assert said.splitlines()[0] == "requests alone: p99 1,234 us"
    assert "http: 10.0 KiB for each idle tunnel (goal 24), 0 lost" in said
    assert "1,500 us, and 2,500 us beside 10,000 frames of a byte a second; 3 requests failed" in said
    assert "https: 50.0 KiB for each idle tunnel (goal 56)" in said
