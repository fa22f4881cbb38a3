"""What this machine gives a worker: its user, its disk, its clock, its keeper."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from orchestrator.settings import Settings
from orchestrator.settings_report import report
from workers.finding import Finding, note, ok, problem
from workers.host_space import floor_bytes
from workers.probe import keeper_trouble

GIB = 1 << 30
CAP_SYS_ADMIN = 21
_TIMEX_BYTES = 512
"""More than `struct timex` has on any machine."""
_TIME_ERROR = 5
"""What adjtimex(2) answers when nothing keeps the clock right."""


def settings_in_force(settings: Settings) -> Iterator[Finding]:
    shown = report(settings)
    if not settings.embedded:
        shown["in `sandbox up`"] = "wider overcommits, and file:// repositories, unless they are set"
    yield ok("settings", ", ".join(f"{name}={_text(value)}" for name, value in shown.items()))


def _text(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def user(_: Settings) -> Iterator[Finding]:
    if os.geteuid() != 0:
        advice = "run the worker as root to give sandboxes a user of their own"
        yield note("user", f"uid {os.geteuid()}: sandboxes run as this user", advice)
    elif not has_capability(CAP_SYS_ADMIN):
        advice = "run the worker outside of a container, or in a privileged one with pid: host, as compose.yaml does"
        yield note("user", "root without CAP_SYS_ADMIN: nothing can be mounted, no namespace be entered", advice)
    else:
        yield ok("user", "root: workspaces belong to the sandbox's own user id 1000")


def has_capability(number: int) -> bool:
    """Tell whether this process has a capability now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> number & 1)
    return False


def disk(settings: Settings) -> Iterator[Finding]:
    """Free space against the marks of the worker's own watch (`workers.disk`)."""
    usage = shutil.disk_usage(nearest(settings.work_dir))
    percent, floor = 100 * usage.free / max(usage.total, 1), floor_bytes(settings, usage.total)
    seen = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB ({percent:.0f} %) free at {settings.data_dir}"
    advice = "free space, or point SANDBOX_DATA_DIR to a larger file system"
    if usage.free < floor:
        limit = f"below {floor / GIB:.1f} GiB (SANDBOX_DISK_STOP_PERCENT, SANDBOX_DISK_STOP_BYTES)"
        yield problem("disk", f"{seen}: {limit} the worker takes no tasks", advice)
    elif percent < settings.disk_reap_percent:
        limit = f"below {settings.disk_reap_percent:g} % (SANDBOX_DISK_REAP_PERCENT)"
        yield note("disk", f"{seen}: {limit} preserved sandboxes are destroyed before their time", advice)
    else:
        yield ok("disk", seen)


def nearest(path: Path) -> Path:
    """The directory, or the nearest one above it that exists: to look at it must not make it."""
    while not path.is_dir():
        path = path.parent
    return path


def clock(_: Settings) -> Iterator[Finding]:
    state = _clock_state()
    if state < 0:
        yield ok("time", "whether something keeps the clock right cannot be seen here")
    elif state == _TIME_ERROR:
        seen = "nothing keeps this clock right: queue timeouts and the times in logs differ between hosts"
        yield note("time", seen, "install chrony, or enable systemd-timesyncd")
    else:
        yield ok("time", "the system's clock is kept right")


def _clock_state() -> int:
    """What adjtimex(2) answers to a question that changes nothing; negative where it is not allowed."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))


def keeper(settings: Settings) -> Iterator[Finding]:
    """The keeper of the worker of these settings: it must answer while that worker runs."""
    directory = settings.run_dir / f"keeper-{settings.worker_name}"
    trouble = keeper_trouble(directory)
    if trouble is None:
        yield ok("keeper", f"answers in {directory}")
    elif settings.keeper_service:
        seen = f"{trouble} (SANDBOX_KEEPER_SERVICE is set, so no worker starts one)"
        yield problem("keeper", seen, "start the keeper's service: without it no sandbox can be started")
    elif _worker_runs(settings):
        yield problem("keeper", trouble, "restart the worker; keeper.log in that directory says more")
    else:
        yield ok("keeper", f"is started by worker {settings.worker_name}, which does not run here now")


def _worker_runs(settings: Settings) -> bool:
    """Tell whether a worker of this name holds its lock here."""
    try:
        lock = os.open(settings.run_dir / f"worker-{settings.worker_name}.lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
