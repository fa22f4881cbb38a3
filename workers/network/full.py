"""The network of `network_mode: full`: allowed by the operator, filtered by the host, or not there at all.

A sandbox on it reaches public addresses, and nothing of the host, of private networks or of other sandboxes. That
holds by rules of the host's packet filter (`plan`), which anybody with root may take away: so they are looked at before
each sandbox's start, and every few seconds. A start without them is refused; what runs gets them back.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.addresses import is_own_address
from orchestrator.settings import Settings
from workers.network.packet_filter import FilterUnusable, PacketFilter
from workers.network.plan import Plan, make_plan, resolvers_in
from workers.sandbox.labels import INSTALLATION, ROLE, ROLE_NETWORK, WORKER
from workers.sandbox.port import BridgeSpec, EngineUnavailable, NamedNetwork, SandboxBackend, SandboxError

log = logging.getLogger(__name__)

RESOLV_CONF = Path("/etc/resolv.conf")
BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved names its own servers, when /etc/resolv.conf names nothing but its loopback."""
BRIDGE_FILTERED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
SETTING = "SANDBOX_ALLOW_FULL_NETWORK"


class FullNetworkUnavailable(Exception):
    """The network is not there or not closed where it must be; no sandbox may start on it. The task is not at fault."""


class FullNetwork:
    """One a worker. Thread-safe. `trouble` says why no task may use it; None when they may."""

    def __init__(self, backend: SandboxBackend, plan: Plan, *, allowed: bool) -> None:
        self._backend = backend
        self._plan = plan
        self._filter = PacketFilter(plan)
        self._lock = threading.Lock()
        self._allowed = allowed
        self._gone = False
        self._kept_by = ""
        self.trouble: str | None = "it is not made yet" if allowed else f"the operator does not allow it ({SETTING})"

    @classmethod
    def of(cls, backend: SandboxBackend, settings: Settings, installation: str) -> FullNetwork:
        return cls(backend, plan_of(settings, installation), allowed=settings.allow_full_network)

    @property
    def network(self) -> NamedNetwork:
        """What a sandbox is given."""
        return NamedNetwork(self._plan.network, self._plan.resolvers)

    def look(self) -> None:
        """Make the network when it is allowed and not in order; remove it when it is not allowed. Never raises.

        At the worker's start and every few seconds.
        """
        with self._lock:
            if not self._allowed:
                self._gone = self._gone or self._removed()
                return
            try:
                if not self._filter.made:
                    self._make()  # a worker before this one may have had other settings
                elif fault := self._fault():
                    log.error("full network was open or gone, it is made again", extra={"why": fault})
                    self._make()
                self.trouble = None
            except (FullNetworkUnavailable, FilterUnusable, SandboxError, EngineUnavailable) as error:
                if self.trouble != str(error):
                    log.warning("full network unavailable", extra={"why": str(error)})
                self.trouble = str(error)

    def check(self) -> None:
        """Raise `FullNetworkUnavailable` unless a sandbox may start now. Raises `EngineUnavailable`, `SandboxError`."""
        with self._lock:
            if not self._allowed:
                raise FullNetworkUnavailable(
                    f"network_mode full is refused: {self.trouble}; set {SETTING}=1 for this worker, or take the mode "
                    "out of the manifest"
                )
            try:
                fault = self._fault()
            except FilterUnusable as error:
                fault = str(error)
        if fault:
            raise FullNetworkUnavailable(
                f"network {self._plan.network} is not closed as it must be, so no sandbox starts on it: {fault}; the "
                "worker makes it again within a heartbeat: find out who changed it"
            )

    def remove(self) -> None:
        """Take away the network and the rules, for good; what still runs on it keeps both. Never raises."""
        with self._lock:
            self._allowed, self.trouble = False, "the worker is stopping"  # a look that comes later makes nothing
            self._removed()

    def _make(self) -> None:
        """The rules first: they name the interface, which need not be there. Raises what stands in the way."""
        if fault := resolver_fault(self._plan):
            raise FullNetworkUnavailable(fault)
        self._filter.make()
        self._backend.make_bridge(bridge_spec(self._plan))
        if fault := self._fault():
            raise FullNetworkUnavailable(fault)

    def _fault(self) -> str | None:
        fault = self._filter.fault() or "; ".join(self._backend.bridge_faults(bridge_spec(self._plan)))
        return fault or host_fault(self._plan)

    def _removed(self) -> bool:
        """Remove both, the rules last: only when nothing can be connected any more. Tell whether nothing is left."""
        try:
            self._backend.remove_bridge(self._plan.network)
        except (SandboxError, EngineUnavailable) as error:
            if self._kept_by != str(error):
                log.warning("full network not removed yet", extra={"network": self._plan.network, "why": str(error)})
            self._kept_by = str(error)
            return False
        with suppress(FilterUnusable):  # who may not read the filter has made no rules
            self._filter.remove()
        return True


def bridge_spec(plan: Plan) -> BridgeSpec:
    """What the engine is asked for."""
    labels = {INSTALLATION: plan.installation, WORKER: plan.worker, ROLE: ROLE_NETWORK}
    return BridgeSpec(plan.network, plan.bridge, labels)


def resolver_fault(plan: Plan) -> str | None:
    """Why no sandbox could resolve names on the network, with what to do; None when it can."""
    advice = "name one elsewhere in SANDBOX_FULL_NETWORK_DNS"
    if not plan.resolvers:
        return f"the host's resolver answers on loopback only, which no sandbox reaches; {advice}"
    for one in plan.resolvers:
        if is_own_address(ipaddress.ip_address(one)):
            return f"resolver {one} is this host's own, which no sandbox reaches; {advice}"
    return None


def host_fault(plan: Plan) -> str | None:
    """The rules close the bridge only where both are: on the engine's own host, in its network namespace."""
    try:
        socket.if_nametoindex(plan.bridge)
    except OSError:
        return f"there is no interface {plan.bridge} here: the worker must run in the network of the engine"
    try:
        filtered = BRIDGE_FILTERED.read_text().strip() == "1"
    except OSError:
        filtered = False
    if not filtered:
        return f"{BRIDGE_FILTERED} is not 1, so sandboxes on one bridge are not kept apart; set it to 1"
    return None


def plan_of(settings: Settings, installation: str) -> Plan:
    """The plan by the settings in force and this host's resolvers."""
    resolvers: Sequence[str] = settings.full_network_dns
    for file in (RESOLV_CONF, BEHIND_STUB):
        if not resolvers:
            with suppress(OSError):
                resolvers = resolvers_in(file.read_text(errors="replace"))
    return make_plan(installation, settings.worker_name, resolvers, settings.egress_private_cidrs)
