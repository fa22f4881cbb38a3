"""The directories of an attempt: who may read them, and that they can always be removed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.models import Claim
from tests.unit.deep_trees import make_deep
from workers import tree
from workers.workspace import AttemptDirectory, sandbox_user_id


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    return AttemptDirectory.of(tmp_path / "work", Claim("task.1", 2, 7))


@pytest.mark.usefixtures("narrow_umask")
def test_the_sandbox_s_user_can_use_its_directories_whatever_the_operator_s_umask(directory: AttemptDirectory) -> None:
    directory.create()
    directory.put_script("echo ü\n")
    made = (directory.root, *directory.root.iterdir(), *directory.disk.iterdir())
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in made}
    assert modes == {
        "task.1.2": 0o711,
        "disk": 0o755,
        "workspace": 0o755,
        "home": 0o755,
        "git-out": 0o755,
        "log-marker": 0o600,
        "inbox": 0o755,
        "spool": 0o700,
    }
    owners = {one.name: one.stat().st_uid for one in made}
    assert {owners[name] for name in ("workspace", "home", "git-out")} == {sandbox_user_id()}
    assert {owners[name] for name in ("inbox", "spool")} == {os.geteuid()}
    script = directory.inbox / "script"
    assert (script.read_bytes(), stat.S_IMODE(script.stat().st_mode)) == ("echo ü\n".encode(), 0o444)


def test_what_an_earlier_try_left_is_gone(directory: AttemptDirectory) -> None:
    directory.create()
    (directory.workspace / "half").write_text("x")
    directory.create()
    assert list(directory.workspace.iterdir()) == []
    directory.destroy()
    directory.destroy()
    assert not directory.root.exists()


def test_an_attempt_of_an_older_version_is_found_where_that_made_it(directory: AttemptDirectory) -> None:
    (directory.root / "workspace").mkdir(parents=True)
    assert directory.workspace == directory.root / "workspace"
    assert [one.source.parent for one in directory.task_mounts()] == [directory.root] * 3


def test_the_task_sees_its_workspace_its_home_and_what_it_may_only_read(directory: AttemptDirectory) -> None:
    assert [(one.source.name, one.target, one.read_only) for one in directory.task_mounts()] == [
        ("workspace", "/workspace", False),
        ("home", "/home/agent", False),
        ("inbox", "/opt/sandbox-inbox", True),
    ]


@pytest.mark.parametrize("depth", [0, 1, 3000])
def test_a_tree_of_any_depth_is_removed(tmp_path: Path, depth: int) -> None:
    top = tmp_path / "attempt"
    (top / "workspace").mkdir(parents=True)
    make_deep(top / "workspace", depth)
    tree.remove(top)
    assert not top.exists()


def test_removal_follows_no_link_and_opens_what_was_locked(tmp_path: Path) -> None:
    foreign, top = tmp_path / "foreign", tmp_path / "attempt"
    foreign.mkdir()
    (foreign / "kept").write_text("x")
    (top / "workspace" / "locked" / "inner").mkdir(parents=True)
    (top / "workspace" / "link").symlink_to(foreign)
    (top / "workspace" / "locked" / "inner" / "f").write_text("x")
    os.mkfifo(top / "workspace" / "pipe")
    (top / "workspace" / os.fsdecode(b"\xff\n")).write_text("x")
    (top / "workspace" / "locked" / "inner").chmod(0)
    (top / "workspace" / "locked").chmod(0)
    tree.remove(top)
    assert not top.exists()
    assert (foreign / "kept").exists()
    tree.remove(top)


def test_removal_that_was_cut_short_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "attempt"
    (top / "a" / "b" / "c").mkdir(parents=True)
    rmdir = os.rmdir

    def cut(name: str, **options: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "rmdir", cut)
    with pytest.raises(OSError, match="Input/output"):
        tree.remove(top)
    monkeypatch.setattr(os, "rmdir", rmdir)
    tree.remove(top)
    assert not top.exists()


def test_a_file_where_a_directory_was_expected_is_removed(tmp_path: Path) -> None:
    (tmp_path / "stray").write_text("x")
    tree.remove(tmp_path / "stray")
    assert not (tmp_path / "stray").exists()
