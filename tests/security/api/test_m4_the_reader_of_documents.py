"""M4: no text ends the process that reads it: the guard before libyaml, and the reader of JSON."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [2000, pytest.param(200_000, marks=pytest.mark.security_long)])
@pytest.mark.parametrize("seed", [1, 2])
def test_m4_no_changed_manifest_ends_its_reader_by_a_signal_or_an_undeclared_error(
    tmp_path: Path, seed: int, count: int
) -> None:
    file = tmp_path / "text"
    argv = [sys.executable, "-m", "tests.security.api.fuzz_documents", str(file), str(count), str(seed)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}\n{file.read_bytes()!r}"
    good, refused = (int(word) for word in done.stdout.split())
    assert good > count // 50, "most texts get no further than the first look: choose milder changes"
    assert refused > count // 50
