"""Disks of tasks by loop devices, on this host: made, filled, thrown away, found again. They need root."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models import Claim
from tests.conftest import missing
from tests.e2e.faults.small_disk import small_disk
from tests.e2e.stack import eventually, loop_devices_below, mounts_below
from workers import disk_gauge, disk_image, loop_device, task_disk, tree
from workers.disk_gauge import SPACE
from workers.task_disk import ImageDisk, why_no_images
from workers.task_disk_watch import DiskGauge
from workers.workspace import AttemptDirectory

MIB = 1 << 20
SIZE = 64 * MIB


@pytest.fixture
def work_dir(tmp_path: Path) -> Iterator[Path]:
    """Afterwards nothing below it is mounted, whatever the test did."""
    why = why_no_images(tmp_path, lambda _: True)
    if why:
        missing("a file system on a loop device", f"{why}; run the tests as root, with e2fsprogs")
    yield tmp_path
    mounted = mounts_below(tmp_path)
    for mount in mounted:
        subprocess.run(["umount", "--lazy", mount], check=True)
    assert mounted == []
    # The kernel frees the device of a file system that it had stopped writing a moment after its unmounting.
    eventually("no loop device is left", lambda: not loop_devices_below(tmp_path))


@pytest.fixture
def directory(work_dir: Path) -> AttemptDirectory:
    made = AttemptDirectory.of(work_dir, Claim("task", 1, 1), lambda root: ImageDisk().create(root, SIZE))
    made.create()
    return made


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        while True:
            opened.write(b"x" * MIB)


def options_of(top: Path) -> set[str]:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    [found] = [fields[3] for fields in lines if fields[1] == str(top)]
    return set(found.split(","))


@pytest.mark.parametrize("size", [MIB, 31 * MIB, 32 * MIB, 200 * MIB, 512 * MIB, 10 << 30])
def test_the_whole_size_is_for_files_and_the_host_gives_none_of_it_ahead(work_dir: Path, size: int) -> None:
    image, top = work_dir / "image", work_dir / "top"
    top.mkdir()
    disk_image.make(image, size)
    disk_image.mount(image, top)
    found = os.statvfs(top)
    disk_image.discard(top)
    assert found.f_bavail * found.f_frsize >= size
    assert found.f_favail >= min(64, size // disk_image.BYTES_PER_INODE)
    assert image.stat().st_blocks * 512 < 4 * MIB
    assert image.stat().st_mode & 0o777 == 0o600


def test_everything_a_task_may_write_lies_on_its_disk_and_gives_it_no_more_rights(directory: AttemptDirectory) -> None:
    device = directory.disk.stat().st_dev
    assert {one.stat().st_dev for one in (directory.workspace, directory.home, directory.git_out)} == {device}
    assert device not in {one.stat().st_dev for one in (directory.root, directory.spool, directory.inbox)}
    assert options_of(directory.disk) >= {"rw", "nosuid", "nodev", "noatime", "discard"}
    directory.destroy()
    assert not directory.root.exists()


def test_what_is_deleted_is_the_host_s_again(directory: AttemptDirectory) -> None:
    image, file = directory.root / "disk.img", directory.workspace / "file"
    file.write_bytes(os.urandom(32 * MIB))
    os.sync()
    assert image.stat().st_blocks * 512 > 32 * MIB
    file.unlink()
    os.sync()
    eventually("its space is free", lambda: image.stat().st_blocks * 512 < 16 * MIB)
    directory.destroy()


def test_a_try_after_a_try_begins_with_an_empty_disk(directory: AttemptDirectory) -> None:
    (directory.workspace / "half").write_text("x")
    directory.create()
    assert list(directory.workspace.iterdir()) == []
    assert len(mounts_below(directory.root)) == 1
    directory.destroy()


def test_d4_what_nobody_wants_any_more_is_not_written(directory: AttemptDirectory) -> None:
    directory.destroy()
    large = AttemptDirectory(directory.root, lambda root: ImageDisk().create(root, 1 << 30))
    large.create()
    with (large.workspace / "dirty").open("wb") as file:
        for _ in range(256):
            file.write(b"x" * MIB)
    image = os.open(large.root / "disk.img", os.O_RDONLY)
    try:
        large.destroy()
        assert os.fstat(image).st_blocks * 512 < 128 * MIB
    finally:
        os.close(image)


def test_a_disk_in_use_is_taken_away_all_the_same_and_the_log_says_so(
    directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk_image, "BUSY_SECONDS", 0.1)
    with (directory.workspace / "open").open("wb"), caplog.at_level(logging.WARNING):
        directory.destroy()
        assert not directory.root.exists()
        assert mounts_below(directory.root) == []
    assert "a task's disk is in use" in caplog.text
    eventually("the device is free", lambda: not loop_devices_below(directory.root))


@pytest.mark.parametrize("before", ["_shut_down", "_unmounted"])
def test_what_another_one_unmounts_first_leaves_the_file_system_below_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """The file system below is ext4 too, of this test's own: shut down, it would take no file any more."""
    with small_disk(tmp_path, 64 * MIB) as below:
        made = AttemptDirectory(below.top / "task.1", lambda root: ImageDisk().create(root, 4 * MIB))
        made.create()
        step = getattr(disk_image, before)

        def late(top: Path, *rest: int) -> Any:
            loop_device.unmount(top)
            return step(top, *rest)

        monkeypatch.setattr(disk_image, before, late)
        made.destroy()
        assert not made.root.exists()
        (below.top / "alive").write_text("x")
        os.sync()
        assert (below.top / "alive").read_text() == "x"


def test_only_the_root_of_a_loop_device_is_shut_down(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("workers.disk_image.fcntl.ioctl", lambda *words: asked.append(words[1]))
    disk_image._shut_down(work_dir)
    disk_image._shut_down(Path("/proc"))
    assert asked == []


def test_the_gauge_of_an_image_measures_what_it_looked_at_also_when_that_is_unmounted_meanwhile(
    directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk_gauge.of_file_system

    def late(top: int) -> disk_gauge.Use:
        loop_device.unmount(directory.disk, loop_device.DETACH)
        return real(top)

    monkeypatch.setattr(disk_gauge, "of_file_system", late)
    gauge = DiskGauge(directory, SIZE)
    gauge.look()
    assert 0 < gauge.peak_bytes < SIZE, "it is the host's use"
    directory.destroy()


def test_nothing_is_removed_through_a_mount_that_stays(
    directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory.workspace / "kept").write_text("x")
    with pytest.raises(OSError, match="another file system is mounted here"):
        tree.remove(directory.root)
    assert (directory.workspace / "kept").exists()

    def fail(*_: object) -> None:
        raise PermissionError("not allowed")

    with monkeypatch.context() as changed:
        changed.setattr("workers.loop_device.unmount", fail)
        changed.setattr(disk_image, "_shut_down", lambda _: None)
        with pytest.raises(PermissionError):
            directory.destroy()
    assert (directory.workspace / "kept").exists()
    directory.destroy()


def test_a_disk_that_a_boot_unmounted_is_mounted_again_once(directory: AttemptDirectory) -> None:
    (directory.workspace / "kept").write_text("x")
    subprocess.run(["umount", str(directory.disk)], check=True)
    assert not directory.workspace.exists()
    directory.restore()
    directory.restore()
    assert (directory.workspace / "kept").read_text() == "x"
    assert len(mounts_below(directory.root)) == 1
    directory.destroy()


def test_a_damaged_image_is_refused_and_removed(directory: AttemptDirectory) -> None:
    subprocess.run(["umount", str(directory.disk)], check=True)
    (directory.root / "disk.img").write_bytes(b"\0" * MIB)
    with pytest.raises(OSError, match="mount of"):
        directory.restore()
    directory.destroy()
    assert not directory.root.exists()


def test_a_process_killed_with_a_device_in_its_hands_leaves_none(work_dir: Path) -> None:
    (work_dir / "image").write_bytes(b"\0" * MIB)
    program = (
        "import os, signal, sys, pathlib\n"
        "from workers.loop_device import attached\n"
        "with attached(pathlib.Path(sys.argv[1])) as device:\n"
        "    print(device, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(work_dir / "image")], capture_output=True, check=False)
    assert done.stdout.startswith(b"/dev/loop")
    eventually("the device is free", lambda: not loop_devices_below(work_dir))


def test_the_gauge_of_an_image_sees_that_it_is_full_and_that_it_was(directory: AttemptDirectory) -> None:
    gauge = DiskGauge(directory, SIZE)
    assert gauge.is_image
    gauge.look()
    assert (gauge.full, gauge.peak_bytes < MIB) == (None, True)
    with pytest.raises(OSError, match="No space left"):
        fill(directory.home / "fill")
    gauge.look()
    (directory.home / "fill").unlink()
    gauge.look()
    assert (gauge.full, gauge.peak_bytes >= SIZE - disk_gauge.MARGIN_BYTES) == (SPACE, True)
    assert not gauge.measure()  # the kernel holds it to its size; nobody has to end it
    directory.destroy()


def test_a_disk_that_the_kernel_writes_no_more_is_seen_after_a_failure(work_dir: Path) -> None:
    with small_disk(work_dir, 32 * MIB) as host:
        made = AttemptDirectory.of(host.top, Claim("task", 1, 1), lambda root: ImageDisk().create(root, 256 * MIB))
        made.create()
        before, later = DiskGauge(made, 256 * MIB), DiskGauge(made, 256 * MIB)
        before.look_at_end()
        assert not before.broken
        host.fill()

        def refused() -> bool:
            try:
                with (made.workspace / "more").open("ab", buffering=0) as file:
                    file.write(bytes(MIB))
                    os.fsync(file.fileno())
            except OSError as error:
                return error.errno == errno.EROFS
            return False

        eventually("the kernel stops writing", refused)
        host.free()
        later.look_at_end()
        assert later.broken
        made.destroy()


def test_a_disk_on_a_host_without_room_is_none_that_keeps_what_is_written(work_dir: Path) -> None:
    with small_disk(work_dir, 32 * MIB) as host:
        made = AttemptDirectory.of(host.top, Claim("task", 1, 1), lambda root: ImageDisk().create(root, 256 * MIB))
        made.create()
        gauge = DiskGauge(made, 256 * MIB)
        gauge.look()
        assert not gauge.broken
        host.fill()
        gauge.look()
        host.free()
        assert gauge.broken
        made.destroy()


def test_a_disk_for_which_the_host_has_no_device_says_so(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.loop_device.CONTROL", work_dir / "none")
    why = task_disk.why_no_images(work_dir, lambda _: True)
    assert why is not None
    assert "no file system can be mounted" in why
    assert list(work_dir.iterdir()) == []


def test_an_engine_that_does_not_see_the_mount_is_no_engine_for_images(work_dir: Path) -> None:
    asked: list[Path] = []

    def sees(path: Path) -> bool:
        asked.append(path)
        assert path.is_dir()
        assert len(mounts_below(work_dir)) == 1
        return False

    assert "does not see" in (why_no_images(work_dir, sees) or "")
    assert asked[0].is_relative_to(work_dir)
