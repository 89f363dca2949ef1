"""The app behind every proxy."""

from pathlib import Path

from benchmarks.origin import INSPECTED, origin_configuration, write_bodies
from benchmarks.workload import MIB


def test_the_configuration_listens_on_both_addresses_and_shows_every_header_it_was_asked_about(tmp_path: Path) -> None:
    text = origin_configuration(9000, tmp_path)
    assert "listen 127.0.0.1:9000" in text
    assert "listen 127.0.0.2:9000" in text
    assert all(f"{name}=$http_{name.lower().replace('-', '_')}\\n" in text for name in INSPECTED)
    assert 'return 200 "hello from the application server\\n"' in text


def test_an_origin_can_be_told_from_another_by_its_answer(tmp_path: Path) -> None:
    assert 'return 200 "elsewhere\\n"' in origin_configuration(9000, tmp_path, b"elsewhere\n")


def test_bodies_are_one_mebibyte_and_endless_without_taking_the_room(tmp_path: Path) -> None:
    write_bodies(tmp_path)
    assert (tmp_path / "bodies/one-mib").stat().st_size == MIB
    endless = (tmp_path / "bodies/endless").stat()
    assert endless.st_size == 1 << 40
    assert endless.st_blocks * 512 < MIB
