"""Nothing is collected onto a disk of the host that is nearly full: the artifacts wait a while where they lie."""

from __future__ import annotations

import logging
import time

from orchestrator.artifacts.location import DirectoryLocation, parse_location
from orchestrator.services import claim as claims
from orchestrator.settings import Settings
from workers.attempt import Attempt
from workers.host_space import Space, floor_bytes
from workers.patience import patiently

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LONGEST_SECONDS = 3600.0
"""What waits holds its task's disk, which may be what fills the host: no `collect_timeout` lets it wait for longer."""


def wait_for_room(attempt: Attempt) -> str | None:
    """Return None when there is room for the artifacts, or something asks the attempt to end. Raises `StaleClaim`.

    Else return why there is none, after `collect_timeout`. The operator is told by the task and by the worker.
    """
    settings = attempt.equipment.product.settings
    trouble = no_room(settings)
    if trouble is None:
        return None
    deadline = time.monotonic() + min(attempt.manifest.lifecycle.collect_timeout_seconds, LONGEST_SECONDS)
    log.warning("collection waits", extra={"task": attempt.claim.task_id, "why": trouble})
    attempt.say(f"the artifacts are not collected yet: {trouble}")
    _announce(attempt, f"the command ended; its artifacts wait: {trouble}")
    while not attempt.interrupted() and (trouble := no_room(settings)):
        if time.monotonic() >= deadline:
            return trouble
        time.sleep(LOOK_SECONDS)
    log.info("collection goes on", extra={"task": attempt.claim.task_id})
    _announce(attempt, "the command ended; its output is being stored")
    return None


def _announce(attempt: Attempt, message: str) -> None:
    patiently(lambda: claims.say(attempt.equipment.product, attempt.claim, message))


def no_room(settings: Settings) -> str | None:
    """Why nothing may be collected now: the storage fills the disk of the workspaces, which is nearly full.

    A storage elsewhere is no reason to wait: there, collecting makes room here.
    """
    location = parse_location(settings.artifacts_url)
    if not isinstance(location, DirectoryLocation):
        return None
    try:
        if location.root.stat().st_dev != settings.work_dir.stat().st_dev:
            return None
        space = Space.of(settings.work_dir)
    except OSError:  # the storage is away, which collecting says itself
        return None
    if space.free >= floor_bytes(settings, space.total):
        return None
    return f"the disk of worker {settings.worker_name} is nearly full: {space} are free below {settings.work_dir}"
