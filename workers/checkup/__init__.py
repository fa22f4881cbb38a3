"""The checks of `sandbox doctor`: each one function, each finding with consequence and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import docker

from orchestrator.settings import Settings
from workers.checkup import (
    agents,
    engine,
    machine,
    model_api,
    network,
    profiles,
    secret_sources,
    servers,
    sockets,
    work_directory,
)
from workers.checkup_container import container
from workers.finding import Finding, problem
from workers.sandbox.docker.connection import ENGINE_ERRORS, connect

Check = Callable[[Settings], Iterator[Finding]]
EngineCheck = Callable[[docker.APIClient, Settings], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    machine.settings_in_force, machine.user, machine.disk, network.ways_out, machine.clock,
    machine.keeper, secret_sources.sources, secret_sources.ssh_hosts, model_api.access, servers.store, servers.broker,
    servers.artifacts, sockets.listening,
)  # fmt: skip
ENGINE_CHECKS: tuple[EngineCheck, ...] = (
    engine.version, engine.storage, engine.restarts, engine.user_ids, engine.swap, engine.logs, profiles.runtimes,
    container, work_directory.seen_by_engine, work_directory.disk_limit, profiles.images, profiles.registries,
    agents.command_lines, network.full, engine.clock,
)  # fmt: skip


def examine(settings: Settings) -> list[Finding]:
    """Run every check. Never raises for a part that is missing: that is a finding."""
    found = [finding for check in CHECKS for finding in _done(check, settings)]
    try:
        client = connect()
    except ENGINE_ERRORS as error:
        advice = "install docker.io and start dockerd, or set DOCKER_HOST; this user needs access to its socket"
        return [problem("engine", f"the Docker Engine does not answer: {error}", advice), *found]
    with closing(client):
        for check in ENGINE_CHECKS:
            try:
                found += check(client, settings)
            except ENGINE_ERRORS as error:
                found.append(problem("engine", f"it failed to answer: {error}", "see the engine's log"))
    return found


def _done(check: Check, settings: Settings) -> list[Finding]:
    """What a check finds; what keeps it from looking is a finding too."""
    try:
        return list(check(settings))
    except OSError as error:
        subject = check.__name__.replace("_", " ")
        return [
            problem(subject, f"this could not be looked at: {error}", "correct that; run doctor as the worker's user")
        ]
