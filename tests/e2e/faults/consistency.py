"""After every test: wait until the installation rests, look at it from outside, judge."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.e2e.faults.evidence import Evidence, look_at
from tests.e2e.faults.installation import Installation, end_keepers, start_all
from tests.e2e.faults.invariants import violations
from tests.e2e.faults.leftovers import left_in_artifacts, left_in_engine, left_in_work, left_on_host
from tests.e2e.faults.witness import Life, lives
from tests.e2e.submitting import Json

REST_SECONDS = 180.0
CLEAN_SECONDS = 30.0


def assert_consistent(installation: Installation) -> Evidence:
    """Check I1–I8. Every server and host must be there again; those that are not running are started.

    Ends with the workers stopped and their keepers gone.
    """
    evidence = gather(installation)
    found = violations(evidence, allowed=installation.allowed_tracebacks)
    assert not found, f"{len(found)} violations:\n" + "\n".join(found)
    return evidence


def gather(installation: Installation, rest_seconds: float = REST_SECONDS) -> Evidence:
    """Bring the installation to rest and collect the evidence."""
    start_all([part for part in installation.parts() if not part.running])
    api, deadline = installation.api, time.monotonic() + rest_seconds
    for task_id in api.accepted:
        try:
            api.ended(task_id, seconds=max(1.0, deadline - time.monotonic()))
        except AssertionError:
            break  # I1 tells which
    tasks = tuple(look_at(api, task_id) for task_id in api.accepted)
    leftovers = _settled(installation, [task.view for task in tasks if task.view])
    for host in installation.hosts.values():
        if (count := len(host.keepers())) > 1:
            leftovers.append(f"{count} keepers serve {host.name}")
        host.worker.stop()
    leftovers += end_keepers(installation)
    return Evidence(
        tasks,
        tuple(_lives(installation)),
        tuple(leftovers),
        installation.logs(),
        clocks_agree=installation.clocks_agree,
    )


def _settled(installation: Installation, views: list[Json]) -> list[str]:
    """What is left once the undo of the last attempt had time."""
    deadline = time.monotonic() + CLEAN_SECONDS
    while (left := list(_left(installation, views))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _left(installation: Installation, views: list[Json]) -> Iterator[str]:
    preserved = [(view, one) for view in views for one in view["attempts"] if one["preserved"]]
    sandboxes = [one["container_id"] for _, one in preserved]
    directories = [f"{view['id']}.{one['attempt']}" for view, one in preserved]
    identifier = installation.id
    for engine in {tuple(host.engine.items()) for host in installation.hosts.values()}:
        yield from left_in_engine(dict(engine), identifier, sandboxes)
    for host in installation.hosts.values():
        yield from left_in_work(host.work_dir, directories)
    # A test may have laid a host's directory elsewhere, and mounts are known by where they really are.
    for directory in {installation.directory, *(host.data_dir.resolve() for host in installation.hosts.values())}:
        yield from left_on_host(directory, directories)
    yield from left_in_artifacts(installation.artifacts_dir)


def _lives(installation: Installation) -> list[Life]:
    identifier = installation.id
    found = [life for witness in installation.witnesses for life in lives(witness.events(identifier))]
    return sorted(found, key=lambda one: one.started_ns)
