"""The kernel's own limits against what was asked for, in both versions of control groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_spec import SPEC
from workers import cgroups
from workers.cgroup_limits import faults

SANDBOX = "f" * 64


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(cgroups, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path / "cgroup")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def version_1(kernel: Path, memory: str = "268435456", pids: str = "64", quota: str = "150000") -> None:
    group = f"docker/{SANDBOX}"
    write(kernel / "proc/7/cgroup", f"3:cpu,cpuacct:/{group}\n2:pids:/{group}\n1:memory:/{group}\n0::/\n")
    write(kernel / f"cgroup/memory/{group}/memory.limit_in_bytes", memory)
    write(kernel / f"cgroup/pids/{group}/pids.max", pids)
    write(kernel / f"cgroup/cpu/{group}/cpu.cfs_quota_us", quota)
    write(kernel / f"cgroup/cpu/{group}/cpu.cfs_period_us", "100000")


def version_2(kernel: Path, memory: str = "268435456", pids: str = "64", cpu: str = "150000 100000") -> None:
    group = f"system.slice/docker-{SANDBOX}.scope"
    write(kernel / "proc/7/cgroup", f"0::/{group}\n")
    for name, text in (("memory.max", memory), ("pids.max", pids), ("cpu.max", cpu)):
        write(kernel / "cgroup" / group / name, text)


def test_limits_that_the_kernel_has_as_asked_for_are_no_fault(kernel: Path) -> None:
    version_1(kernel)
    assert list(faults(7, SANDBOX, SPEC)) == []
    version_2(kernel)
    assert list(faults(7, SANDBOX, SPEC)) == []
    odd = replace(SPEC, memory_bytes=(256 << 20) + 1)  # the kernel counts whole pages
    assert list(faults(7, SANDBOX, odd)) == []


@pytest.mark.parametrize("version", [version_1, version_2])
def test_each_limit_that_the_kernel_has_otherwise_is_named(kernel: Path, version: object) -> None:
    if version is version_1:
        version_1(kernel, "9223372036854771712", "max", "-1")
    else:
        version_2(kernel, "max", "max", "max 100000")
    found = list(faults(7, SANDBOX, SPEC))
    assert [words.split(" to ")[0] for words in found] == [
        "the kernel limits memory", "the kernel limits processes", "the kernel limits cpus",
    ]  # fmt: skip


def test_of_a_process_that_is_not_the_sandbox_s_nothing_is_said(kernel: Path) -> None:
    version_1(kernel, "max", "max", "-1")
    assert list(faults(7, "e" * 64, SPEC)) == []
    assert list(faults(8, SANDBOX, SPEC)) == []
    assert list(faults(None, SANDBOX, SPEC)) == []


def test_where_the_control_groups_are_not_in_sight_nothing_is_said(kernel: Path) -> None:
    write(kernel / "proc/7/cgroup", f"1:memory:/docker/{SANDBOX}\n")
    assert list(faults(7, SANDBOX, SPEC)) == []
