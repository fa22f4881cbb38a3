"""What the keeper runs to stop a sandbox."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers import holding
from workers.attempt import Attempt


def stop_program(mark: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    held: list[list[str]] = []
    keeper = SimpleNamespace(hold=lambda _name, _stream, _spool, stop, **_: held.append(stop))
    backend = SimpleNamespace(stop_argv=lambda sandbox: ["touch", f"{ran}-{sandbox}"])
    attempt: Any = SimpleNamespace(
        sandbox="sandbox",
        equipment=SimpleNamespace(keeper=keeper, backend=backend),
        directory=SimpleNamespace(stopped_by_keeper=mark, spool=mark.parent),
    )
    monkeypatch.setattr(holding, "keepsake", lambda _: None)
    holding.hand_over(cast(Attempt, attempt), os.open("/dev/null", os.O_RDWR))
    return held[0]


def test_the_stop_leaves_its_mark_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = stop_program(tmp_path / "mark", tmp_path / "ran", monkeypatch)
    assert subprocess.run(program, check=False).returncode == 0
    assert (tmp_path / "mark").exists()
    assert (tmp_path / "ran-sandbox").exists()


def test_the_stop_runs_where_no_mark_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full or read-only."""
    program = stop_program(tmp_path / "no such directory" / "mark", tmp_path / "ran", monkeypatch)
    assert subprocess.run(program, check=False).returncode == 0
    assert (tmp_path / "ran-sandbox").exists()
