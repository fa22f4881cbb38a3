"""What the kernel counts of a sandbox, in both versions of control groups, and what the engine tells instead."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_engine import FakeEngine
from workers import cgroups
from workers.cgroup_use import used
from workers.cgroups import groups_of
from workers.sandbox.docker.stats import use_of
from workers.sandbox.port import EngineUnavailable, SandboxUse
from workers.use_gauge import UseGauge

SANDBOX = "f" * 64
MIB = 1 << 20


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(cgroups, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path / "cgroup")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def version_1(kernel: Path, cpu_seconds: float, memory_bytes: int, inactive_bytes: int = 0) -> None:
    group = f"docker/{SANDBOX}"
    write(kernel / "proc/7/cgroup", f"4:cpuset:/{group}\n3:cpu,cpuacct:/{group}\n1:memory:/{group}\n0::/\n")
    write(kernel / f"cgroup/cpuacct/{group}/cpuacct.usage", f"{round(cpu_seconds * 1e9)}\n")
    write(kernel / f"cgroup/memory/{group}/memory.usage_in_bytes", f"{memory_bytes}\n")
    stat = f"cache 9\ninactive_file 5\nhierarchical_memory_limit 1\ntotal_inactive_file {inactive_bytes}\n"
    write(kernel / f"cgroup/memory/{group}/memory.stat", stat)


def version_2(kernel: Path, cpu_seconds: float, memory_bytes: int, inactive_bytes: int = 0) -> None:
    group = f"system.slice/docker-{SANDBOX}.scope"
    write(kernel / "proc/7/cgroup", f"0::/{group}\n")
    stat = f"usage_usec {round(cpu_seconds * 1e6)}\nuser_usec 1\nsystem_usec 1\n"
    write(kernel / "cgroup" / group / "cpu.stat", stat)
    write(kernel / "cgroup" / group / "memory.current", f"{memory_bytes}\n")
    write(kernel / "cgroup" / group / "memory.stat", f"anon 1\nfile 2\ninactive_file {inactive_bytes}\n")


Version = Callable[..., None]
both_versions = pytest.mark.parametrize("version", [version_1, version_2])


@both_versions
def test_memory_is_without_the_cache_that_can_be_dropped(kernel: Path, version: Version) -> None:
    version(kernel, 1.25, 100 * MIB, 30 * MIB)
    assert used(groups_of(7, SANDBOX)) == SandboxUse(1.25, 70 * MIB)


@both_versions
def test_a_cache_that_is_counted_a_moment_later_and_seems_larger_than_all_is_not_taken_off(
    kernel: Path, version: Version
) -> None:
    version(kernel, 0, 10 * MIB, 11 * MIB)
    assert used(groups_of(7, SANDBOX)) == SandboxUse(0, 10 * MIB)


@both_versions
def test_of_a_sandbox_that_has_ended_or_of_another_process_nothing_is_known(kernel: Path, version: Version) -> None:
    version(kernel, 1, MIB)
    groups = groups_of(7, SANDBOX)
    shutil.rmtree(kernel / "cgroup")
    assert used(groups) is None
    assert groups_of(7, "e" * 64).directories == {}
    assert groups_of(8, SANDBOX).directories == {}
    assert groups_of(None, SANDBOX).directories == {}
    assert used(groups_of(None, SANDBOX)) is None


def test_what_is_no_count_is_no_use(kernel: Path) -> None:
    version_2(kernel, 1, MIB)
    group = kernel / f"cgroup/system.slice/docker-{SANDBOX}.scope"
    (group / "cpu.stat").write_text("nr_periods 1\n")
    assert used(groups_of(7, SANDBOX)) is None
    version_2(kernel, 1, MIB)
    (group / "memory.current").write_text("max\n")
    assert used(groups_of(7, SANDBOX)) is None


STATS: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
    "memory_stats": {"usage": 100 * MIB, "stats": {"inactive_file": 30 * MIB}},
}


def test_the_engine_s_word_is_read_as_the_kernel_s() -> None:
    assert use_of(STATS) == SandboxUse(2.5, 70 * MIB)
    first = {"usage": 100 * MIB, "stats": {"inactive_file": 1, "total_inactive_file": 40 * MIB}}
    assert use_of({**STATS, "memory_stats": first}) == SandboxUse(2.5, 60 * MIB)
    assert use_of({**STATS, "memory_stats": {"usage": MIB, "stats": {"inactive_file": 2 * MIB}}}) == SandboxUse(
        2.5, MIB
    )


def test_a_container_that_does_not_run_uses_nothing_that_is_known() -> None:
    assert use_of({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}}) is None
    assert use_of({}) is None


# --- the gauge of one attempt


@both_versions
def test_a_gauge_asks_the_engine_once_where_the_kernel_counts(kernel: Path, version: Version) -> None:
    engine, gauge = FakeEngine(process_id=7), UseGauge()
    version(kernel, 1, 10 * MIB)
    assert gauge.look(engine, SANDBOX) == SandboxUse(1, 10 * MIB)
    version(kernel, 2, 5 * MIB)
    assert gauge.look(engine, SANDBOX) == SandboxUse(2, 5 * MIB)
    assert (gauge.cpu_seconds, gauge.memory_peak_bytes, gauge.asks_engine) == (2, 10 * MIB, False)
    assert engine.calls == ["inspect"]


def test_another_process_of_the_same_number_is_not_measured(kernel: Path) -> None:
    version_1(kernel, 1, MIB)
    engine, gauge = FakeEngine(process_id=7, use=SandboxUse(3, 4)), UseGauge()
    assert gauge.look(engine, "e" * 64) == SandboxUse(3, 4)
    assert gauge.asks_engine
    assert gauge.look(engine, "e" * 64) == SandboxUse(3, 4)
    assert engine.calls == ["inspect", "used", "used"]


def test_of_a_sandbox_that_has_ended_the_last_look_is_kept_and_the_engine_is_left_alone(kernel: Path) -> None:
    engine, gauge = FakeEngine(process_id=7, use=SandboxUse(3, 4)), UseGauge()
    assert gauge.look(engine, SANDBOX) == SandboxUse(3, 4)
    engine.use = None
    assert [gauge.look(engine, SANDBOX) for _ in range(3)] == [None, None, None]
    assert engine.calls == ["inspect", "used", "used"]
    assert (gauge.cpu_seconds, gauge.memory_peak_bytes) == (3, 4)
    engine.process_id = None
    never = UseGauge()
    assert [never.look(engine, SANDBOX) for _ in range(2)] == [None, None]
    assert engine.calls == ["inspect", "used", "used", "inspect"]
    assert never.cpu_seconds is None
    engine.gone = True
    assert UseGauge().look(engine, SANDBOX) is None


def test_an_engine_that_is_away_is_asked_again(kernel: Path) -> None:
    engine, gauge = FakeEngine(process_id=7), UseGauge()
    engine.away = True
    with pytest.raises(EngineUnavailable):
        gauge.look(engine, SANDBOX)
    engine.away = False
    version_2(kernel, 1, MIB)
    assert gauge.look(engine, SANDBOX) == SandboxUse(1, MIB)
