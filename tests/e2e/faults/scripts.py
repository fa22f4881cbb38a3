"""What the tasks of the fault suite run: numbered lines, so that a lost or repeated one shows."""

from __future__ import annotations

from typing import Any

from tests.e2e.submitting import Json, run_manifest

FIRST_LINE = "begin "
COUNT_LINE = "ticks "
TICK = "tick "
ARTIFACT = "result.txt"


def ticking(count: int, seconds: float, *, exit_code: int = 0, artifact: bool = False) -> str:
    """A script that says which run it is and how many lines come, and prints them within about `seconds`."""
    pause = seconds / max(1, count // 10)
    lines = [
        f'echo "{FIRST_LINE}$(cat /proc/sys/kernel/random/uuid)"',
        f'echo "{COUNT_LINE}{count}"',
        "i=0",
        f"while [ $i -lt {count} ]; do",
        "  i=$((i + 1))",
        f'  echo "{TICK}$i"',
        f"  if [ $((i % 10)) = 0 ]; then sleep {pause:.3f}; fi",  # ten at a time: a sleep is a process
        "done",
    ]
    if artifact:
        lines += [f"seq 1 {count} > {ARTIFACT}"]
    return "\n".join([*lines, f"exit {exit_code}"])


def ticking_task(
    count: int = 50,
    seconds: float = 1.0,
    *,
    exit_code: int = 0,
    artifact: bool = False,
    lifecycle: Json | None = None,
    **sections: Any,
) -> Json:
    """A manifest that runs `ticking`; with `artifact` it leaves one."""
    rules = dict(lifecycle or {})
    if artifact:
        rules["artifact_patterns"] = [ARTIFACT]
    script = ticking(count, seconds, exit_code=exit_code, artifact=artifact)
    return run_manifest(script=script, lifecycle=rules, **sections)
