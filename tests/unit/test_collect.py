"""Artifacts from a workspace that a stranger wrote: real files, real links, real tricks."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.artifacts import ArtifactStore, ArtifactStoreUnavailable, DirectoryStore, Stored, TooLarge
from orchestrator.models import Claim
from tests.unit.deep_trees import make_deep
from workers import tree
from workers.collect import NAMED_REFUSALS, Collection, CollectLimits, Collector

CLAIM = Claim("task-1", 2, 3)
FOREIGN = "the host's secret"


class MemoryStore:
    """The store's contract without a disk. `fail_at` is the number of the put that fails after half its bytes."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.kept: dict[str, bytes] = {}
        self._fail_at = fail_at

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        data = source.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(limit)
        if len(self.kept) == self._fail_at:
            self._fail_at = None
            raise ArtifactStoreUnavailable(f"artifact {key} cannot be stored: the storage is away")
        self.kept[key] = data
        return Stored(len(data), hashlib.sha256(data).hexdigest())

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield self.kept[key][start : None if length is None else start + length]

    def delete_prefix(self, prefix: str) -> None:
        self.kept = {key: data for key, data in self.kept.items() if not key.startswith(f"{prefix}/")}

    def ping(self) -> None:
        return None


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "artifacts")


def collect(
    store: ArtifactStore,
    workspace: Path,
    patterns: Sequence[str] = ("**",),
    *,
    max_count: int = 1000,
    max_bytes: int = 1 << 20,
    seconds: float = 60,
) -> Collection:
    limits = CollectLimits(max_count, max_bytes, time.monotonic() + seconds)
    collector = Collector(store, CLAIM, "tasks/task-1", limits)
    collector.collect(workspace, patterns)
    return collector.collection


def paths(found: Collection) -> list[str]:
    return [one.path for one in found.stored]


def content(store: ArtifactStore, found: Collection) -> dict[str, bytes]:
    return {one.path: b"".join(store.open(one.key)) for one in found.stored}


def test_what_matches_is_stored_with_its_size_checksum_and_a_key_of_ours(
    store: DirectoryStore, workspace: Path
) -> None:
    (workspace / "out").mkdir()
    (workspace / "out" / "a.json").write_text("{}")
    (workspace / "b.txt").write_text("no")
    found = collect(store, workspace, ["out/*.json"])
    [one] = found.stored
    assert (one.path, one.size_bytes, one.name, one.content_type) == ("out/a.json", 2, "a.json", "application/json")
    assert one.sha256 == hashlib.sha256(b"{}").hexdigest()
    assert (one.task_id, one.attempt, one.key) == ("task-1", 2, "tasks/task-1/2/0")
    assert content(store, found) == {"out/a.json": b"{}"}
    assert found.report() == []


def test_files_come_in_a_fixed_order_and_a_directory_s_files_before_what_is_below(workspace: Path) -> None:
    for name in ("b/2", "b/1", "a/9", "z", "c"):
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_text(name)
    assert paths(collect(MemoryStore(), workspace)) == ["c", "z", "a/9", "b/1", "b/2"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../foreign", "loop", "missing"])
def test_a_link_is_never_followed(store: DirectoryStore, workspace: Path, target: str) -> None:
    (workspace.parent / "foreign").write_text(FOREIGN)
    (workspace / "loop").symlink_to(target)
    found = collect(store, workspace)
    assert found.stored == []
    assert found.report() == ["artifact loop refused: a symbolic link; only regular files are collected"]


def test_a_linked_directory_is_not_entered_and_who_asked_for_its_content_is_told(workspace: Path) -> None:
    (workspace.parent / "foreign").mkdir()
    (workspace.parent / "foreign" / "a.txt").write_text(FOREIGN)
    (workspace / "out").symlink_to("../foreign")
    (workspace / "other").symlink_to("../foreign")
    found = collect(MemoryStore(), workspace, ["out/*.txt", "out/**"])
    assert found.stored == []
    [line] = found.report()
    assert line.startswith("artifact out refused: a pattern leads through it")
    assert collect(MemoryStore(), workspace).refused_count == 2


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(workspace / "a-pipe")
    monkeypatch.chdir(workspace)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("b-socket")
        expected = [
            "artifact a-pipe refused: a pipe; only regular files are collected",
            "artifact b-socket refused: a socket; only regular files are collected",
        ]
        if os.geteuid() == 0:
            os.mknod(workspace / "c-device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
            expected.append("artifact c-device refused: a device; only regular files are collected")
        assert collect(MemoryStore(), workspace).report() == expected


def test_a_sparse_file_is_refused_by_its_apparent_size(workspace: Path) -> None:
    with (workspace / "huge").open("wb") as file:
        file.truncate(1 << 40)
    (workspace / "small").write_text("x")
    found = collect(MemoryStore(), workspace)
    assert paths(found) == ["small"]
    assert found.report() == [
        "artifact huge refused: larger than the 1048576 bytes that are left; the limit of a task is 1048576 bytes"
    ]


def test_directories_that_are_too_deep_are_left_out_and_named(workspace: Path) -> None:
    make_deep(workspace, 300)
    found = collect(MemoryStore(), workspace)
    assert len(found.stored) == tree.MAX_DEPTH
    [line] = found.report()
    assert line.startswith("artifact d/d/d")
    assert line.endswith("refused: directories below depth 64 are not collected")


def test_deep_directories_in_which_nothing_is_asked_for_are_no_news(workspace: Path) -> None:
    make_deep(workspace, 100)
    (workspace / "report.md").write_text("x")
    found = collect(MemoryStore(), workspace, ["*.md"])
    assert (paths(found), found.report()) == (["report.md"], [])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\nb", r"a\x0ab"),
        (b"a\r\nX-Header: b", r"a\x0d\x0aX-Header: b"),
        ("a\u202etxt.exe".encode(), r"a\xe2\x80\xaetxt.exe"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        (b"..\\..\\win.txt", r"..\..\win.txt"),
    ],
)
def test_a_name_that_cannot_be_written_down_is_refused_with_an_escaped_name(
    workspace: Path, name: bytes, shown: str
) -> None:
    (workspace / os.fsdecode(name)).write_text("x")
    found = collect(MemoryStore(), workspace)
    assert found.stored == []
    [line] = found.report()
    assert line.startswith(f"artifact {shown} refused: its name ")
    assert line.isprintable()


@pytest.mark.parametrize(
    "name",
    ["n" * 255, "-rf", "%2e%2e%2f", "<img src=x onerror=alert(1)>", 'a";filename="b', "ü ñ 中.txt", "a:b", "'", "CON"],
)
def test_a_strange_but_printable_name_is_stored_as_it_is(store: DirectoryStore, workspace: Path, name: str) -> None:
    (workspace / name).write_text(name)
    found = collect(store, workspace)
    assert content(store, found) == {name: name.encode()}
    assert found.stored[0].key == "tasks/task-1/2/0"


def test_a_path_that_is_too_long_to_be_asked_for_is_refused(workspace: Path) -> None:
    directory = workspace
    for _ in range(10):
        directory = directory / ("n" * 240)
    directory.mkdir(parents=True)
    (directory / "f").write_text("x")
    [line] = collect(MemoryStore(), workspace).report()
    assert line.endswith("… refused: its path is longer than 2048 bytes")
    assert len(line) < 400


def test_a_file_without_permissions_is_read_by_root_and_refused_with_the_reason_by_others(workspace: Path) -> None:
    (workspace / "closed").write_text("x")
    (workspace / "closed").chmod(0)
    (workspace / "locked").mkdir(mode=0)
    found = collect(MemoryStore(), workspace)
    if os.geteuid() == 0:
        assert (paths(found), found.report()) == (["closed"], [])
    else:
        assert found.report() == [
            "artifact closed refused: it cannot be read (Permission denied); only regular files are collected",
            "artifact locked refused: it cannot be opened: Permission denied",
        ]


def test_both_names_of_a_hard_link_are_stored(store: DirectoryStore, workspace: Path) -> None:
    (workspace / "a").write_text("same")
    (workspace / "b").hardlink_to(workspace / "a")
    assert content(store, collect(store, workspace)) == {"a": b"same", "b": b"same"}


def test_the_first_ones_are_kept_when_there_are_too_many(workspace: Path) -> None:
    for number in range(5):
        (workspace / f"f{number}").write_text("x")
    found = collect(MemoryStore(), workspace, max_count=3)
    assert paths(found) == ["f0", "f1", "f2"]
    assert found.report() == [f"artifact f{n} refused: the limit of 3 artifacts is reached" for n in (3, 4)]


def test_what_fits_beside_a_file_that_does_not_is_kept(workspace: Path) -> None:
    for name, size in (("a", 60), ("b", 60), ("c", 40)):
        (workspace / name).write_bytes(b"x" * size)
    found = collect(MemoryStore(), workspace, max_bytes=100)
    assert (paths(found), found.total_bytes) == (["a", "c"], 100)
    assert found.report() == [
        "artifact b refused: larger than the 40 bytes that are left; the limit of a task is 100 bytes"
    ]


def test_a_thousand_refusals_are_counted_and_not_all_named(workspace: Path) -> None:
    for number in range(1000):
        (workspace / f"link{number:03}").symlink_to("x")
    report = collect(MemoryStore(), workspace).report()
    assert len(report) == NAMED_REFUSALS + 1
    assert report[-1] == "900 more artifacts were refused"


def test_git_s_own_directory_is_collected_only_by_its_name(workspace: Path) -> None:
    for name in (".git", ".github", "sub/.git"):
        (workspace / name).mkdir(parents=True)
        (workspace / name / "config").write_text("x")
    assert paths(collect(MemoryStore(), workspace)) == [".github/config", "sub/.git/config"]
    assert paths(collect(MemoryStore(), workspace, ["**/config", ".git/*"])) == [
        ".git/config",
        ".github/config",
        "sub/.git/config",
    ]


def test_no_patterns_collect_nothing(workspace: Path) -> None:
    (workspace / "a").write_text("x")
    found = collect(MemoryStore(), workspace, [])
    assert (found.stored, found.report()) == ([], [])


def test_the_time_limit_ends_a_walk_that_finds_nothing(workspace: Path) -> None:
    for number in range(10):
        (workspace / f"d{number}").mkdir()
    found = collect(MemoryStore(), workspace, ["**/x"], seconds=-1)
    assert found.report() == ["artifact . refused: collect_timeout is over, nothing from here on is stored; raise it"]


def test_a_file_that_turns_into_a_link_under_the_walk_gives_no_foreign_byte(workspace: Path) -> None:
    (workspace.parent / "foreign").write_text(FOREIGN)
    victim, ours = workspace / "victim", workspace / "ours"
    victim.write_text("ours")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            ours.write_text("ours")
            ours.replace(victim)
            ours.symlink_to("../foreign")
            ours.replace(victim)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[str] = set()
    try:
        for done in itertools.count():
            memory = MemoryStore()
            seen |= set(collect(memory, workspace, ["victim"]).report() or ["stored"])
            assert set(memory.kept.values()) <= {b"ours", b""}  # it is empty for a moment
            if done >= 1000 and len(seen) > 1:
                break
    finally:
        stop.set()
        swapping.join()


def test_a_directory_that_turns_into_a_link_under_the_walk_is_not_entered(workspace: Path) -> None:
    (workspace.parent / "foreign").mkdir()
    (workspace.parent / "foreign" / "f").write_text(FOREIGN)
    (workspace / "kept").mkdir()
    (workspace / "kept" / "f").write_text("ours")
    (workspace / "victim").mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (workspace / "victim").rmdir()
            (workspace / "victim").symlink_to("../foreign")
            (workspace / "victim").unlink()
            (workspace / "victim").mkdir()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(1000):
            memory = MemoryStore()
            collect(memory, workspace)
            assert list(memory.kept.values()) == [b"ours"]
    finally:
        stop.set()
        swapping.join()


def test_twenty_thousand_files_are_collected_with_few_descriptors(workspace: Path) -> None:
    for directory in range(20):
        (workspace / f"d{directory}").mkdir()
        for number in range(1000):
            (workspace / f"d{directory}" / f"f{number}").touch()
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    found = collect(MemoryStore(), workspace, max_count=15_000)
    assert (len(found.stored), found.refused_count) == (15_000, 5_000)
    assert len(found.refusals) == NAMED_REFUSALS
    assert len(list(descriptors.iterdir())) == before


def test_a_store_that_fails_midway_leaves_no_partial_artifact_and_a_second_try_gives_the_same(workspace: Path) -> None:
    for number in range(4):
        (workspace / f"f{number}").write_text(f"content {number}")
    whole = collect(MemoryStore(), workspace)
    for fail_at in range(4):
        failing = MemoryStore(fail_at)
        with pytest.raises(ArtifactStoreUnavailable, match="the storage is away"):
            collect(failing, workspace)
        assert len(failing.kept) == fail_at
        again = collect(failing, workspace)
        assert [(one.path, one.key, one.sha256) for one in again.stored] == [
            (one.path, one.key, one.sha256) for one in whole.stored
        ]
        assert set(failing.kept) == {one.key for one in again.stored}


def test_a_full_disk_of_the_store_leaves_nothing_behind(
    store: DirectoryStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "a").write_text("x")

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ArtifactStoreUnavailable, match="No space left"):
        collect(store, workspace)
    kept = workspace.parent / "artifacts"
    assert [one for one in kept.rglob("*") if one.is_file()] == []


def collector(store: ArtifactStore) -> Collector:
    return Collector(store, CLAIM, "tasks/task-1", CollectLimits(10, 1000, time.monotonic() + 60))


def test_a_file_of_the_product_s_own_comes_first_and_a_task_cannot_take_its_path(workspace: Path) -> None:
    patch = workspace.parent / "patch"
    patch.write_text("the diff")
    (workspace / "task-1.patch").write_text("forged")
    memory = MemoryStore()
    one = collector(memory)
    one.add_file(patch, "task-1.patch")
    one.collect(workspace, ["*.patch"])
    assert content(memory, one.collection) == {"task-1.patch": b"the diff"}
    assert one.collection.report() == ["artifact task-1.patch refused: an artifact of the product has this path"]


def test_the_product_s_own_file_is_not_read_through_a_link(workspace: Path) -> None:
    (workspace.parent / "foreign").write_text(FOREIGN)
    (workspace.parent / "patch").symlink_to("foreign")
    one = collector(MemoryStore())
    one.add_file(workspace.parent / "patch", "task-1.patch")
    assert one.collection.stored == []
    assert one.collection.report() == [
        "artifact task-1.patch refused: a symbolic link; only regular files are collected"
    ]


def test_a_workspace_that_cannot_be_opened_is_refused_with_the_reason_and_not_an_error(
    store: DirectoryStore, workspace: Path
) -> None:
    workspace.rmdir()
    found = collect(store, workspace)
    assert found.refusals == ["artifact . refused: the workspace cannot be opened: No such file or directory"]
    workspace.symlink_to("/etc")
    assert collect(store, workspace).refusals == ["artifact . refused: the workspace cannot be opened: Not a directory"]


class Broken(io.FileIO):
    """A file of which the disk gives nothing."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), f"{size} bytes")


def test_a_file_that_the_disk_does_not_give_is_refused_and_is_no_fault_of_the_storage(
    store: DirectoryStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "a").write_text("broken")
    monkeypatch.setattr(os, "fdopen", lambda descriptor, _mode: Broken(descriptor, "rb"))
    found = collect(store, workspace)
    assert (found.stored, found.refusals) == ([], ["artifact a refused: it cannot be read (Input/output error)"])
