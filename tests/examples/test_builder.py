"""The demo's builder: the same again each time, one key, one program. Pushed to in ``test_demo``."""

from __future__ import annotations

import stat
from pathlib import Path

from examples.builder import prepare


def test_what_it_makes_can_be_made_again_and_the_key_is_for_this_user_alone(tmp_path: Path) -> None:
    first, second = prepare(tmp_path), prepare(tmp_path)
    assert first.get_fingerprint() != second.get_fingerprint()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert (tmp_path / "key.pub").read_text().startswith("ssh-ed25519 ")
    assert (tmp_path / "shop.git" / "hooks" / "post-receive").stat().st_mode & stat.S_IXUSR
