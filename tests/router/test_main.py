"""``python -m drycc_router`` is ``drycc-router``."""

from __future__ import annotations

import runpy
import sys

import pytest


def test_the_module_runs_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["router", "version"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("drycc_router", run_name="__main__")
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("drycc-router ")
