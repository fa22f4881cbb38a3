"""The pip of this environment as the source of the agent's command line, with an index that is a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.tiny_cli import cli_of, make_wheel
from workers.images.cli_sources import SourceFailed, pip_wheel, unpack

PROGRAM = b"a program"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    found = tmp_path / "index"
    found.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(found))
    return found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_pip_brings_the_locked_wheel_whatever_this_machine_is(index: Path, work: Path, tmp_path: Path) -> None:
    _, digest = make_wheel(index, PROGRAM)
    cli = cli_of(PROGRAM, digest)
    said: list[str] = []
    unpack(pip_wheel(cli, work, said.append), cli, tmp_path / "claude")
    assert (tmp_path / "claude").read_bytes() == PROGRAM
    assert said == ["fetching claude 9.9.9 with pip (tiny-agent 1.0)"]


def test_pip_refuses_a_wheel_with_another_digest_than_the_lock_s(index: Path, work: Path) -> None:
    make_wheel(index, PROGRAM)
    with pytest.raises(SourceFailed, match="pip ended with exit code 1") as failure:
        pip_wheel(cli_of(PROGRAM, "1" * 64), work, print)
    assert "DO NOT MATCH THE HASHES" in "\n".join(failure.value.output)


def test_an_index_without_the_package_is_a_failure_with_pip_s_own_words(index: Path, work: Path) -> None:
    with pytest.raises(SourceFailed, match="pip ended with exit code 1") as failure:
        pip_wheel(cli_of(PROGRAM), work, print)
    assert "tiny-agent==1.0" in "\n".join(failure.value.output)
