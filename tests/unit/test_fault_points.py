"""Faults happen where and as often as a test asked for, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.fault_points import Fault, parse

PROGRAM = """
import sys
from pathlib import Path
from orchestrator import fault_points
fault_points.arm(fault_points.parse(sys.argv[1]), Path(sys.argv[2]))
fault_points.reach("claimed")
print("passed", flush=True)
"""


def run(faults: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, faults, str(directory)], capture_output=True, text=True, check=False
    )


def test_the_setting_is_a_list_of_action_point_and_times() -> None:
    assert parse("kill@claimed,sleep:0.5@output_held*3,kill@ended*always") == (
        Fault("claimed", None, 1),
        Fault("output_held", 0.5, 3),
        Fault("ended", None, None),
    )


@pytest.mark.parametrize("text", ["kill", "kill@", "stop@claimed", "sleep@claimed", "kill@claimed*", "kill@A"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault; write it like kill@sandbox_created"):
        parse(text)


def test_a_fault_kills_as_often_as_asked_across_restarts(tmp_path: Path) -> None:
    codes = [run("kill@claimed*2", tmp_path).returncode for _ in range(3)]
    assert codes == [-9, -9, 0]


def test_a_fault_elsewhere_and_no_fault_change_nothing(tmp_path: Path) -> None:
    assert run("kill@concluded", tmp_path).stdout == "passed\n"
    assert run("", tmp_path / "never").stdout == "passed\n"
    assert not (tmp_path / "never").exists()
