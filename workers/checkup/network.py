"""The networks of sandboxes: how their way out is opened, and whether the full network is closed where it must be."""

from __future__ import annotations

from collections.abc import Iterator

import docker

from orchestrator.host_addresses import THE_HOST
from orchestrator.settings import Settings
from workers.egress.namespace import why_not
from workers.finding import Finding, note, ok, problem
from workers.network.full import SETTING, bridge_spec, host_fault, plan_of, resolver_fault
from workers.network.packet_filter import FilterUnusable, PacketFilter
from workers.network.plan import Plan
from workers.sandbox.docker.bridge import bridge_faults
from workers.sandbox.docker.connection import engine_process
from workers.sandbox.labels import INSTALLATION, ROLE, ROLE_NETWORK, WORKER

SUBJECT = "full network"


def ways_out(_: Settings) -> Iterator[Finding]:
    """How `outbound` tasks and clones reach their hosts, and which host they might reach besides."""
    yield from host_addresses_seen()
    trouble = why_not(engine_process())
    if trouble is None:
        yield ok("network", "isolated and outbound are enforced; this user's listeners enter the sandboxes' namespaces")
        return
    seen = f"outbound tasks and clones get a sidecar each, which costs them a container's start: {trouble}"
    yield note("network", seen, "run the worker as root on the engine's host to do without")


def host_addresses_seen() -> Iterator[Finding]:
    """Whether names that lead to the host itself are refused. A worker in a container has other addresses."""
    if engine_process() != 0 and THE_HOST.seen():
        yield ok("host addresses", "no task reaches this host by a name that leads to one of its addresses")
        return
    yield note(
        "host addresses",
        "the addresses of the engine's host cannot be seen from here (its processes, or their network, are hidden): "
        "a name that leads to one is let through, where it is a public address",
        "deny the worker's address the host's own public addresses at the host's firewall, or run the worker on the "
        "host or with its process ids (pid: host)",
    )


def full(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    """Whether `network_mode: full` is offered, and what is wrong with it."""
    if not settings.allow_full_network:
        yield ok(SUBJECT, f"network_mode full is refused here; {SETTING}=1 would allow it")
        return
    if fault := resolver_fault(plan_of(settings, "")):
        seen, _, advice = fault.partition("; ")
        yield problem(SUBJECT, f"network_mode full is allowed, and refused all the same: {seen}", advice)
        return
    plans = [plan_of(settings, one) for one in _installations(engine, settings.worker_name)]
    if not plans:
        yield ok(SUBJECT, "network_mode full is allowed; the worker makes its network when it starts")
    for plan in plans:
        yield _looked_at(engine, plan)


def _installations(engine: docker.APIClient, worker: str) -> list[str]:
    labels = [f"{ROLE}={ROLE_NETWORK}", f"{WORKER}={worker}"]
    return [one["Labels"][INSTALLATION] for one in engine.networks(filters={"label": labels})]


def _looked_at(engine: docker.APIClient, plan: Plan) -> Finding:
    try:
        fault = PacketFilter(plan).fault() or "; ".join(bridge_faults(engine, bridge_spec(plan))) or host_fault(plan)
    except FilterUnusable as error:
        return problem(SUBJECT, f"whether {plan.network} is closed cannot be seen: {error}", "run doctor as root")
    if fault:
        advice = "the running worker makes it again within a heartbeat; find out who changed it"
        return problem(SUBJECT, f"{plan.network} is not closed as it must be, no task starts on it: {fault}", advice)
    return ok(SUBJECT, f"{plan.network} is closed to the host, to private networks and to other sandboxes")
