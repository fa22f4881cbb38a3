"""A directory as artifact storage, on one host or shared by several."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestrator.artifacts import ArtifactStore, ArtifactStoreUnavailable, DirectoryStore, open_artifact_store
from orchestrator.artifacts.bounded_check import BoundedCheck
from orchestrator.artifacts.directory import ABANDONED_SECONDS
from tests.integration.artifacts.contract import KEY, SMALL, ArtifactStoreContract, get, is_there, put

DEADLINE_SECONDS = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mount" / "artifacts"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


class TestDirectoryStore(ArtifactStoreContract):
    pass


def files(root: Path) -> set[str]:
    return {str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()}


def test_two_hosts_see_each_other_s_artifacts(store: ArtifactStore, root: Path) -> None:
    other = open_artifact_store(f"file://{root}")
    put(store, SMALL)
    assert get(other) == SMALL
    other.delete_prefix("tasks/one")
    assert not is_there(store)


def test_a_killed_put_is_not_seen_and_is_tidied_up_a_day_later(store: ArtifactStore, root: Path) -> None:
    program = f"""
import io, sys
from pathlib import Path
from orchestrator.artifacts import DirectoryStore
class Endless(io.RawIOBase):
    def read(self, size):
        print("reading", flush=True)
        return b"x" * size
DirectoryStore(Path({str(root)!r})).put({KEY!r}, Endless(), limit=1 << 40)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as killed:
        assert killed.stdout
        for _ in range(3):
            killed.stdout.readline()
        killed.kill()
        killed.stdout.read()
    [left] = files(root)
    assert not is_there(store)
    DirectoryStore(root)
    assert files(root) == {left}, "it may belong to a put of another host"
    old = (root / left).stat().st_mtime - ABANDONED_SECONDS - 60
    os.utime(root / left, (old, old))
    DirectoryStore(root)
    assert files(root) == set()


def test_a_mount_that_is_away_is_no_empty_storage(store: ArtifactStore, root: Path) -> None:
    put(store, SMALL)
    root.rename(root.parent / "away")
    for call in (
        store.ping,
        lambda: put(store, SMALL),
        lambda: store.open(KEY),
        lambda: store.delete_prefix("tasks/one"),
        lambda: store.delete_prefix("tasks/never-was"),
    ):
        with pytest.raises(
            ArtifactStoreUnavailable, match=r"in the directory .*: No such file or directory; check that"
        ):
            call()
    assert not root.exists(), "nothing must go onto the disk below the mount"
    (root.parent / "away").rename(root)
    store.ping()
    assert get(store) == SMALL


def test_the_group_s_access_is_handed_down_and_others_get_none(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o2775)
    put(DirectoryStore(root), SMALL)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (root / "tasks", (root / KEY).parent)] == [0o2770] * 2
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o660
    alone = tmp_path / "alone"
    put(DirectoryStore(alone), SMALL)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (alone, alone / "tasks")] == [0o700] * 2
    assert stat.S_IMODE((alone / KEY).stat().st_mode) == 0o600


def test_what_cannot_be_read_or_removed_is_told(store: ArtifactStore, root: Path) -> None:
    (root / KEY).mkdir(parents=True)
    with pytest.raises(ArtifactStoreUnavailable, match=r"artifact tasks/one/1/0 cannot be read in the directory"):
        store.open(KEY)
    with pytest.raises(ArtifactStoreUnavailable, match=r"artifact tasks/one/1/0 cannot be stored in the directory"):
        put(store, SMALL)
    (root / "tasks" / "file").write_bytes(b"")
    with pytest.raises(ArtifactStoreUnavailable, match=r"artifacts below tasks/file cannot be removed"):
        store.delete_prefix("tasks/file")
    assert files(root) == {"tasks/file"}


def test_a_read_that_fails_midway_has_the_storage_s_name(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    put(store, SMALL)
    monkeypatch.setattr(Path, "open", lambda *_: Broken(SMALL))
    with pytest.raises(ArtifactStoreUnavailable, match="artifact tasks/one/1/0 cannot be read to its end"):
        next(store.open(KEY))


def test_a_check_that_hangs_is_given_up_and_not_started_a_second_time() -> None:
    entered, go_on = threading.Semaphore(0), threading.Event()

    def hangs() -> None:
        entered.release()
        assert go_on.wait(DEADLINE_SECONDS)

    check = BoundedCheck(hangs, 0.05)
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"it has not answered within 0\.05 s"):
            check()
    assert entered.acquire(timeout=DEADLINE_SECONDS)
    assert not entered.acquire(blocking=False)
    go_on.set()
    patient = BoundedCheck(hangs, DEADLINE_SECONDS)
    patient()
    patient()
    assert entered.acquire(timeout=DEADLINE_SECONDS)
    assert entered.acquire(timeout=DEADLINE_SECONDS)


def test_a_check_s_own_error_comes_through() -> None:
    def fails() -> None:
        raise TimeoutError("of the mount itself")

    with pytest.raises(TimeoutError, match="of the mount itself"):
        BoundedCheck(fails, DEADLINE_SECONDS)()
