"""Named places where a test may kill or delay a process. Without the test setting, `reach` does nothing.

`SANDBOX_TEST_FAULTS` holds a comma list of `action@point[*times]`: `kill@sandbox_created` ends the process with
SIGKILL when it gets there, `sleep:2@output_held*3` makes it wait three times; `*always` never stops. The times are
counted across restarts, by files in the process's data directory. Only the fault suite sets it.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_FORM = re.compile(r"(?P<action>kill|sleep:(?P<seconds>\d+(\.\d+)?))@(?P<point>[a-z_]+)(\*(?P<times>\d+|always))?")
_armed: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a point. `seconds` None: the process is killed; `times` None: always."""

    point: str
    seconds: float | None
    times: int | None


def parse(text: str) -> tuple[Fault, ...]:
    """Read the setting. Raises `ValueError` for anything else than its form."""
    faults = []
    for part in filter(None, text.split(",")):
        found = _FORM.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no fault; write it like kill@sandbox_created or sleep:2@claimed*3")
        seconds = float(found["seconds"]) if found["seconds"] else None
        times = None if found["times"] == "always" else int(found["times"] or 1)
        faults.append(Fault(found["point"], seconds, times))
    return tuple(faults)


def arm(faults: Sequence[Fault], directory: Path) -> None:
    """Let the faults happen in this process from now on; `directory` keeps count. Nothing to do without faults."""
    global _armed  # noqa: PLW0603 - one switch a process; a parameter would run through every part of the product
    if not faults:
        return
    directory.mkdir(parents=True, exist_ok=True)
    log.warning("fault points are armed: for tests only", extra={"faults": [str(one) for one in faults]})

    def happen(point: str) -> None:
        for fault in faults:
            if fault.point == point and _counted(fault, directory):
                _happen(fault)

    _armed = happen


def reach(point: str) -> None:
    """Say that the process got here."""
    if _armed is not None:
        _armed(point)


def _counted(fault: Fault, directory: Path) -> bool:
    """Take one of the times that are left; the file system decides between threads and processes."""
    if fault.times is None:
        return True
    for number in range(fault.times):
        try:
            (directory / f"{fault.point}.{number}").open("x").close()
        except FileExistsError:
            continue
        return True
    return False


def _happen(fault: Fault) -> None:
    log.warning("fault point reached", extra={"point": fault.point})
    if fault.seconds is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        time.sleep(fault.seconds)
