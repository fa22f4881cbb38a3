"""The disks of tasks: their size, how full they are, what an ending on a full one means. Without root and engine."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from orchestrator.models import Claim
from orchestrator.outcomes import Fault, Outcome, Reason, of_exit
from orchestrator.quantities import size_bytes, size_text
from orchestrator.settings import InvalidSettings, Settings, load
from orchestrator.states import State
from orchestrator.store import attempts as attempt_rows
from tests.unit.deep_trees import make_deep
from workers import (
    adopt,
    disk_gauge,
    disk_image,
    disk_outcomes,
    ending,
    host_space,
    loop_device,
    room,
    task_disk,
    task_disk_watch,
    tree,
)
from workers.disk_gauge import INODES, SPACE, Use
from workers.git import disk_was_full
from workers.helper import HelperResult
from workers.host_space import Space, floor_bytes
from workers.sandbox.port import EngineUnavailable, SandboxGone
from workers.supervisor import Signals, Verdict
from workers.task_disk import ImageDisk, Refusal, TaskDisks, WatchedDisk
from workers.task_disk_watch import DiskGauge
from workers.workspace import AttemptDirectory

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize("size", [MIB, 31 * MIB, 32 * MIB, 100 * MIB, 511 * MIB, 10 * GIB, 40 * GIB, 1 << 42])
def test_an_image_is_as_large_as_its_files_and_little_more(size: int) -> None:
    made = disk_image.image_bytes(size)
    assert made % disk_image.BLOCK_BYTES == 0
    assert size < made <= size + size // 20 + disk_image.journal_bytes(size) + MIB


@pytest.mark.parametrize(("size", "text"), [(100 * MIB, "100M"), (GIB, "1G"), (1536 * MIB, "1536M"), (5, "0M")])
def test_a_size_is_written_as_a_manifest_writes_it(size: int, text: str) -> None:
    assert size_text(size) == text
    assert size < MIB or size_bytes(text) == size


class Blocks(NamedTuple):
    f_bavail: int
    f_favail: int = 10
    f_flag: int = 0
    f_blocks: int = 25_600
    f_bfree: int = 600
    f_frsize: int = 4096


@pytest.mark.parametrize(
    ("found", "use"),
    [
        (Blocks(600), Use(25_000 * 4096)),
        (Blocks(150), Use(25_000 * 4096, SPACE)),
        (Blocks(600, f_favail=0), Use(25_000 * 4096, INODES)),
        (Blocks(600, f_flag=os.ST_RDONLY), Use(25_000 * 4096, broken=True)),
    ],
)
def test_a_file_system_is_full_when_the_next_write_or_file_may_be_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: Blocks, use: Use
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    with disk_image.opened(tmp_path) as (top, _):
        assert disk_gauge.of_file_system(top) == use


def tree_use(top: Path, limit_bytes: int, **options: float) -> Use:
    with disk_image.opened(top) as (directory, _):
        return disk_gauge.of_tree(directory, limit_bytes, **options)


def test_a_tree_is_measured_by_what_it_really_takes(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (4 * MIB))
    os.link(tmp_path / "large", tmp_path / "again")
    (tmp_path / "elsewhere").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    found = tree_use(tmp_path, 8 * MIB)
    assert found.full is None
    assert 4 * MIB <= found.bytes_used < 5 * MIB


def test_a_tree_with_too_much_too_many_or_too_deep_is_full(tmp_path: Path) -> None:
    for name in ("much", "many", "deep"):
        (tmp_path / name).mkdir()
    (tmp_path / "much" / "file").write_bytes(b"x" * (2 * MIB))
    for number in range(disk_gauge.LEAST_INODES + 1):
        (tmp_path / "many" / str(number)).touch()
    make_deep(tmp_path / "deep", 3000)
    full = {name: tree_use(tmp_path / name, MIB).full for name in ("much", "many", "deep")}
    tree.remove(tmp_path / "deep")  # deeper than pytest can remove
    assert full == {"much": SPACE, "many": INODES, "deep": INODES}
    assert tree_use(tmp_path / "many", 1 << 40).full is None


def test_a_walk_that_takes_too_long_says_that_it_has_not_seen_all(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).write_bytes(b"x" * 4096)
    assert tree_use(tmp_path, GIB, seconds=0) == Use(4096, at_least=True)


def test_no_number_of_small_files_hides_a_large_one(
    directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long each file takes: the clock goes on by an hour at every look."""
    for name in ("a", "b", "c"):
        (directory.home / name).touch()
    (directory.home / "large").write_bytes(b"x" * (2 * MIB))
    hours = iter(range(0, 1 << 30, 3600))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    gauge = DiskGauge(directory, MIB)
    assert not gauge.measure(1.0)
    assert gauge.at_least
    assert gauge.measure()
    assert not gauge.at_least


def test_a_disk_that_takes_long_to_measure_rests_alone_and_not_for_ever(
    directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    slow, quick = (DiskGauge(directory, MIB) for _ in range(2))
    looked: list[str] = []

    def measure(name: str, seconds: float) -> bool:
        looked.append(name)
        now[0] += seconds
        return False

    monkeypatch.setattr(slow, "measure", lambda: measure("slow", 1000.0))
    monkeypatch.setattr(quick, "measure", lambda: measure("quick", 0.0))
    for at in (0.0, 1010.0, 1000.0 + task_disk.LONGEST_REST_SECONDS):
        now[0] = at
        slow.measure_if_rested()
        quick.measure_if_rested()
    assert looked == ["slow", "quick", "quick", "slow", "quick"]


def test_what_a_watch_cannot_see_is_said() -> None:
    assert "deleted and still open is not seen" in WatchedDisk.mechanism


def test_a_failure_on_a_full_disk_is_the_disk_s_and_keeps_its_exit_code() -> None:
    failed = of_exit(3, oom_killed=False)
    found = disk_outcomes.of_failure(failed, 100 * MIB, full=SPACE, broken=False)
    assert (found.reason, found.fault, found.exit_code) == (Reason.DISK_EXCEEDED, Fault.USER, 3)
    assert "no space was left on the task's disk (vm.disk is 100M)" in found.message
    assert "no more files" in disk_outcomes.of_failure(failed, GIB, full=INODES, broken=False).message
    assert disk_outcomes.of_failure(failed, GIB, full=None, broken=False) == failed


def test_a_disk_that_the_kernel_closed_is_the_host_s_fault() -> None:
    found = disk_outcomes.of_failure(of_exit(1, oom_killed=False), GIB, full=SPACE, broken=True)
    assert (found.reason, found.fault, found.exit_code) == (Reason.SANDBOX_ERROR, Fault.PLATFORM, 1)


@pytest.mark.parametrize("outcome", [disk_outcomes.of_watch(GIB, 137), disk_outcomes.of_clone("u", "fatal: full")])
def test_the_other_endings_of_a_full_disk_say_what_to_do(outcome: Outcome) -> None:
    assert (outcome.reason, outcome.fault) == (Reason.DISK_EXCEEDED, Fault.USER)
    assert outcome.hint is not None
    assert "raise vm.disk" in outcome.hint


@pytest.mark.parametrize(
    ("stderr", "full"),
    [
        ("Cloning\nfatal: write error: No space left on device\n", True),
        ("remote: No space left on device\nfatal: the remote end hung up", False),
        ("fatal: repository not found", False),
    ],
)
def test_a_clone_that_was_refused_space_is_told_from_a_remote_that_was(stderr: str, full: bool) -> None:
    assert disk_was_full(HelperResult(128, "", stderr)) is full


def test_an_exceeded_disk_ends_a_command_unless_something_else_came_first() -> None:
    signals = Signals()
    signals.disk_exceeded()
    assert signals.asked_to_end() is Verdict.DISK
    signals.cancel(force=False)
    assert signals.asked_to_end() is Verdict.CANCELLED


def seen(answer: bool) -> Callable[[Path], bool]:
    return lambda _: answer


@pytest.mark.parametrize(
    ("refusal", "kind"), [(None, ImageDisk), (Refusal("no loop devices", lasting=True), WatchedDisk)]
)
def test_the_kind_of_disk_is_chosen_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: Refusal | None, kind: type
) -> None:
    asked: list[Path] = []

    def tried(work_dir: Path, _: object) -> Refusal | None:
        asked.append(work_dir)
        return refusal

    monkeypatch.setattr(task_disk, "refusal_of_images", tried)
    disks = TaskDisks(tmp_path, seen(True))
    assert isinstance(disks.chosen(), kind)
    assert disks.chosen() is disks.chosen()
    assert asked == [tmp_path]


def test_a_moment_s_failure_is_tried_again_once_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now, answers = [100.0], [Refusal("no space left", lasting=False), None]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(task_disk, "refusal_of_images", lambda *_: answers.pop(0))
    disks = TaskDisks(tmp_path, seen(True))
    assert isinstance(disks.chosen(), WatchedDisk)
    now[0] += task_disk.AGAIN_SECONDS - 1
    assert isinstance(disks.chosen(), WatchedDisk)
    now[0] += 1
    assert isinstance(disks.chosen(), ImageDisk)
    now[0] += 1e9
    assert isinstance(disks.chosen(), ImageDisk)


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (disk_image.MkfsMissing("mkfs.ext4 is not installed"), True),
        (FileNotFoundError(errno.ENOENT, "No such file", loop_device.CONTROL), True),
        (PermissionError(errno.EPERM, "mount failed"), True),
        (OSError(errno.ENODEV, "mount failed"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EBUSY, "no loop device"), False),
        (disk_image.DiskUnavailable("mkfs.ext4 took longer than 60 s"), False),
    ],
)
def test_only_what_time_does_not_change_is_lasting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError, lasting: bool
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(disk_image, "make", fail)
    found = task_disk.refusal_of_images(tmp_path, seen(True))
    assert (found is not None and found.lasting) is lasting
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers: list[Any] = [EngineUnavailable("it is down"), None]

    def why(*_: object) -> None:
        found = answers.pop(0)
        if found:
            raise found

    monkeypatch.setattr(task_disk, "refusal_of_images", why)
    disks = TaskDisks(tmp_path, seen(True))
    with pytest.raises(EngineUnavailable):
        disks.chosen()
    assert isinstance(disks.chosen(), ImageDisk)


def test_who_is_not_root_watches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert task_disk.why_no_images(tmp_path, seen(True)) == "only root may mount file systems"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    made = AttemptDirectory(tmp_path / "task.1")
    made.create()
    return made


def test_a_watched_directory_is_measured_and_its_peak_is_kept(directory: AttemptDirectory) -> None:
    gauge = DiskGauge(directory, 4 * MIB)
    (directory.home / "a").write_bytes(b"x" * (2 * MIB))
    gauge.look()
    assert not gauge.measure()
    (directory.home / "a").unlink()
    assert not gauge.measure()
    assert (gauge.full, 2 * MIB <= gauge.peak_bytes < 3 * MIB) == (None, True)
    (directory.workspace / "b").write_bytes(b"x" * (5 * MIB))
    assert gauge.measure()
    gauge.look_at_end()
    assert gauge.full == SPACE


def test_a_writable_root_counts_to_the_same_size(directory: AttemptDirectory) -> None:
    (directory.home / "a").write_bytes(b"x" * (2 * MIB))
    layer = [MIB]
    gauge = DiskGauge(directory, 4 * MIB, lambda: layer[0])
    assert not gauge.measure()
    layer[0] = 3 * MIB
    assert gauge.measure()


def test_what_cannot_be_measured_now_ends_nothing(directory: AttemptDirectory) -> None:
    def away() -> int:
        raise EngineUnavailable("it is down")

    assert not DiskGauge(directory, MIB, away).measure()
    directory.destroy()
    gauge = DiskGauge(directory, MIB)
    gauge.look()
    assert not gauge.measure()


def test_a_glance_tells_what_is_in_use_and_leaves_the_engine_alone(directory: AttemptDirectory) -> None:
    def engine() -> int:
        raise AssertionError("it is not cheap")

    (directory.home / "a").write_bytes(b"x" * (2 * MIB))
    gauge = DiskGauge(directory, 4 * MIB, engine)
    assert gauge.used_bytes is None
    gauge.glance()
    assert gauge.used_bytes is not None
    assert 2 * MIB <= gauge.used_bytes < 3 * MIB
    assert gauge.peak_bytes == gauge.used_bytes
    (directory.home / "a").unlink()
    gauge.glance()
    assert gauge.used_bytes >= 2 * MIB, "the rounds measure what was measured once"


def test_what_is_in_use_now_falls_and_the_peak_stays(directory: AttemptDirectory) -> None:
    layer = [MIB]
    gauge = DiskGauge(directory, 8 * MIB, lambda: layer[0])
    (directory.home / "a").write_bytes(b"x" * (2 * MIB))
    gauge.measure()
    peak = gauge.used_bytes
    assert peak is not None
    assert 3 * MIB <= peak < 4 * MIB
    (directory.home / "a").unlink()
    layer[0] = 0
    gauge.measure()
    assert gauge.used_bytes is not None
    assert gauge.used_bytes < MIB
    assert gauge.peak_bytes == peak


class Running:
    def __init__(self, state: State, gauge: DiskGauge) -> None:
        self.state = state
        self.signals = Signals()
        self.disk_gauge = gauge


class Rounds:
    """Stands for the event that ends the rounds: it lets so many pass."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.left -= 1
        return self.left < 0


def test_the_watch_ends_what_wrote_too_much_and_looks_at_nothing_that_has_ended(directory: AttemptDirectory) -> None:
    (directory.home / "a").write_bytes(b"x" * (2 * MIB))
    running, completing = (Running(state, DiskGauge(directory, MIB)) for state in (State.RUNNING, State.COMPLETING))
    rounds: Any = Rounds(2)
    watch = task_disk_watch.TaskDiskWatch(lambda: [running, completing], rounds)
    watch.measure_often()
    assert running.signals.asked_to_end() is Verdict.DISK
    assert completing.signals.asked_to_end() is None
    assert min(rounds.pauses) >= task_disk.WATCH_SECONDS


def settings(tmp_path: Path, **environment: str) -> Settings:
    return load(environment, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("total", "floor"),
    [(1000 * 10**9, 50 * 10**9), (50 * 10**9, 5 * 10**9), (10 * 10**9, 2 * 10**9), (200 * 10**6, 40 * 10**6)],
)
def test_the_floor_is_five_percent_or_five_gigabytes_and_a_fifth_at_most(
    tmp_path: Path, total: int, floor: int
) -> None:
    assert floor_bytes(settings(tmp_path), total) == floor


def test_a_floor_that_was_asked_for_is_taken_as_it_is(tmp_path: Path) -> None:
    asked = settings(tmp_path, SANDBOX_DISK_STOP_BYTES="30000000000")
    assert floor_bytes(asked, 50 * 10**9) == 30 * 10**9
    none = settings(tmp_path, SANDBOX_DISK_STOP_BYTES="0", SANDBOX_DISK_STOP_PERCENT="0")
    assert floor_bytes(none, 50 * 10**9) == 0
    with pytest.raises(InvalidSettings, match="SANDBOX_DISK_STOP_BYTES"):
        settings(tmp_path, SANDBOX_DISK_STOP_BYTES="5G")


def test_artifacts_wait_only_where_they_would_fill_the_disk_of_the_workspaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings(tmp_path)
    for directory in (here.work_dir, tmp_path / "artifacts"):
        directory.mkdir()
    monkeypatch.setattr(host_space.Space, "of", lambda _: Space(100 * GIB, 50 * GIB))
    assert room.no_room(here) is None
    monkeypatch.setattr(host_space.Space, "of", lambda _: Space(100 * GIB, GIB))
    assert "is nearly full: 1.0G of 100.0G" in (room.no_room(here) or "")
    assert room.no_room(settings(tmp_path, SANDBOX_ARTIFACTS_URL="s3://bucket/prefix")) is None
    assert room.no_room(settings(tmp_path, SANDBOX_ARTIFACTS_URL="file:///proc")) is None
    assert room.no_room(settings(tmp_path, SANDBOX_ARTIFACTS_URL=f"file://{tmp_path}/none")) is None


class Waiting:
    """Stands for an attempt whose command ended, on a host whose disk stays nearly full."""

    def __init__(self, settings: Settings, *, interrupted: bool = False) -> None:
        self.equipment = SimpleNamespace(product=SimpleNamespace(settings=settings))
        self.claim = Claim("task", 1, 1)
        self.manifest = SimpleNamespace(
            lifecycle=SimpleNamespace(collect_timeout_seconds=1 << 20, artifact_patterns=["*"])
        )
        self.verdict: dict[str, Any] = {"kind": "exited"}
        self.commit = None
        self.uncollected = False
        self.said: list[str] = []
        self.noted: list[Any] = []
        self.interrupted = lambda: interrupted

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, **facts: Any) -> None:
        self.noted.append(facts)


def test_artifacts_that_waited_too_long_for_room_are_dropped_and_their_disk_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(room, "no_room", lambda _: "the disk of worker w is nearly full")
    monkeypatch.setattr(room, "_announce", lambda *_: None)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    attempt: Any = Waiting(settings(tmp_path))
    found = ending._collect(attempt, of_exit(0, oom_killed=False))
    assert now[0] == room.LONGEST_SECONDS
    assert (found.reason, attempt.uncollected) == (Reason.ARTIFACT_ERROR, False)
    assert "dropped for want of space: the disk of worker w is nearly full" in found.message
    assert ending._collect(attempt, of_exit(3, oom_killed=False)).reason is Reason.EXIT_NONZERO
    assert now[0] == room.LONGEST_SECONDS, "it waited twice"


def test_artifacts_for_which_a_cancelled_task_did_not_wait_and_that_do_not_fit_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room, "no_room", lambda _: "nearly full")
    monkeypatch.setattr(ending, "no_room", lambda _: "nearly full")
    monkeypatch.setattr(room, "_announce", lambda *_: None)
    monkeypatch.setattr(ending, "gather", full)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    attempt: Any = Waiting(settings(tmp_path), interrupted=True)
    attempt.directory = SimpleNamespace(workspace=tmp_path, agent_stream=tmp_path / "none")
    ending._collect(attempt, of_exit(3, oom_killed=False))
    assert not attempt.uncollected
    assert attempt.said[-1] == "the artifacts are dropped for want of space: nearly full"


def test_a_directory_at_which_another_one_is_at_work_is_left_or_waited_for(directory: AttemptDirectory) -> None:
    with task_disk.locked(directory.root), pytest.raises(BlockingIOError, match="at work in it"):
        directory.destroy(wait=False)
    assert directory.home.is_dir()
    directory.destroy(wait=False)
    directory.destroy()
    assert not directory.root.exists()


def test_who_waited_for_another_one_s_removal_leaves_what_was_made_since(
    directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: int) -> None:
        tree.remove(directory.root)
        directory.home.mkdir(parents=True)

    monkeypatch.setattr(fcntl, "flock", flock)
    directory.destroy()
    assert directory.home.is_dir()


def test_an_orphan_is_what_nobody_holds_after_the_store_was_read_and_nobody_works_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending_now, probe, orphan = (tmp_path / name for name in ("ending.1", ".disk-probe-1", "orphan.1"))
    for one in (ending_now, probe, orphan):
        one.mkdir()
    read: list[str] = []

    @contextmanager
    def reading() -> Iterator[None]:
        yield
        read.append("the store")

    for name in ("live_on", "uncollected_on"):
        monkeypatch.setattr(attempt_rows, name, lambda *_: [])
    monkeypatch.setattr(attempt_rows, "preserved_on", lambda *_: set())
    kept = {one.name: SimpleNamespace(spool_dir=one / "spool") for one in (ending_now, orphan)}
    kept["another's"] = SimpleNamespace(spool_dir=tmp_path / "another's" / "spool")

    def inspect(sandbox: str) -> None:
        if sandbox != "another's":
            raise SandboxGone(sandbox)

    equipment: Any = SimpleNamespace(
        product=SimpleNamespace(
            settings=SimpleNamespace(work_dir=tmp_path, worker_name="w"), database=SimpleNamespace(read=reading)
        ),
        backend=SimpleNamespace(find=list, inspect=inspect),
        keeper=SimpleNamespace(held=kept.copy, release=kept.pop),
    )
    with task_disk.locked(probe):
        adopt.remove_orphans(equipment, lambda: {Claim("ending", 1, 1)} if read else set())
    assert sorted(one.name for one in tmp_path.iterdir()) == [".disk-probe-1", "ending.1"]
    assert list(kept) == ["ending.1", "another's"]
    adopt.remove_orphans(equipment, set)
    assert list(tmp_path.iterdir()) == []
    assert list(kept) == ["another's"]
