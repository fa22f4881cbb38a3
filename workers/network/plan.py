"""The network of `network_mode: full` on one worker: how it is named, and what its packets may not reach (pure).

The rules stand in the table `mangle`, in a chain of their own each for what the host itself would receive and for
what it would pass on. That table is run through before `filter` and after addresses were translated: no rule of
`filter` can let a packet by before ours see it, a port that some container publishes is judged by where it leads,
and `iptables --flush` leaves ours alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.addresses import ALWAYS_DENIED, PRIVATE

TABLE = "mangle"
HOOKS = ("INPUT", "FORWARD")
DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Plan:
    """Names, and addresses: `resolvers` answer sandboxes' DNS, `opened` are private ranges they may reach."""

    installation: str
    worker: str
    resolvers: tuple[str, ...]
    opened: tuple[str, ...]

    @property
    def _short(self) -> str:
        """An interface's name has 15 characters, a chain's 28. Each worker has its own: none undoes another's."""
        return hashlib.sha256(f"{self.installation}\0{self.worker}".encode()).hexdigest()[:12]

    @property
    def network(self) -> str:
        """The engine's name for it."""
        return f"sandbox-full-{self._short}"

    @property
    def bridge(self) -> str:
        """The host's interface."""
        return f"sb-{self._short}"

    @property
    def chain(self) -> str:
        """The chain for what the host would pass on."""
        return f"SANDBOX-{self._short}"

    @property
    def host_chain(self) -> str:
        """The chain for what the host itself would receive."""
        return f"SANDBOX-{self._short}-HOST"


def make_plan(installation: str, worker: str, resolvers: Sequence[str], private_cidrs: Iterable[str]) -> Plan:
    """Return the plan; of `private_cidrs` (networks of either version) IPv6 has no effect: there is none inside."""
    networks = [ipaddress.ip_network(one, strict=False) for one in private_cidrs]
    return Plan(installation, worker, tuple(resolvers), tuple(str(one) for one in networks if one.version == 4))


def resolvers_in(text: str) -> tuple[str, ...]:
    """The IPv4 name servers of a resolv.conf that can be asked from elsewhere than this host's loopback."""
    words = [line.split() for line in text.splitlines()]
    named = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return tuple(dict.fromkeys(one for one in named if _can_be_asked(one)))


def _can_be_asked(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback and not address.is_unspecified


def restore_text(plan: Plan, version: int, listed: str) -> str:
    """What `iptables-restore --noflush` makes of the present rules (`listed`: `-S`) ours, in one step.

    Both chains are written anew and called first by their hooks. `version` is that of IP; nothing of 6 gets out.
    """
    forwarded = _forwarded(plan) if version == 4 else [_rule("", "DROP", "no IPv6")]
    lines = [f"*{TABLE}", f":{plan.chain} - [0:0]", f":{plan.host_chain} - [0:0]"]
    lines += [f"-A {plan.chain} {rule}" for rule in forwarded]
    lines.append(f"-A {plan.host_chain} {_rule('', 'DROP', 'the host itself')}")
    lines += _jumps_removed(plan, listed)
    for hook, chain in zip(HOOKS, (plan.host_chain, plan.chain), strict=True):
        lines.append(f"-I {hook} 1 {_rule(f'-i {plan.bridge}', chain, 'sandboxes with network_mode full')}")
    return "\n".join([*lines, "COMMIT", ""])


def removal_text(plan: Plan, listed: str) -> str:
    """What `iptables-restore --noflush` takes all of ours away with; "" when there is nothing."""
    lines = _jumps_removed(plan, listed)
    chains = [one for one in (plan.chain, plan.host_chain) if f"-N {one}" in listed.splitlines()]
    lines += [f"-F {one}" for one in chains] + [f"-X {one}" for one in chains]
    return "\n".join([f"*{TABLE}", *lines, "COMMIT", ""]) if lines else ""


def ours(plan: Plan, listed: str) -> tuple[str, ...]:
    """The lines of `-S` that are ours, in their order."""
    return tuple(line for line in listed.splitlines() if plan.chain in line)


def missing_in(plan: Plan, version: int, listed: str) -> str | None:
    """What of the rules is not as `restore_text` makes them, in words; None when they are in place."""
    lines = listed.splitlines()
    for hook, chain in zip(HOOKS, (plan.host_chain, plan.chain), strict=True):
        first = next((line for line in lines if line.startswith(f"-A {hook} ") and "-j SANDBOX-" not in line), None)
        calls = [line for line in lines if line.startswith(f"-A {hook} ") and line.endswith(f" -j {chain}")]
        if not calls or f"-i {plan.bridge} " not in calls[0]:
            return f"{hook} does not call {chain}"
        if first is not None and lines.index(first) < lines.index(calls[0]):
            return f"another rule stands before {chain} in {hook}"
    wanted = {plan.chain: len(_forwarded(plan)) if version == 4 else 1, plan.host_chain: 1}
    for chain, number in wanted.items():
        found = sum(line.startswith(f"-A {chain} ") for line in lines)
        if found != number:
            return f"{chain} has {found} of {number} rules"
    return None


def _jumps_removed(plan: Plan, listed: str) -> list[str]:
    jumps = [line for line in listed.splitlines() if line.startswith(tuple(f"-A {hook} " for hook in HOOKS))]
    ends = (f" -j {plan.chain}", f" -j {plan.host_chain}")
    return [line.replace("-A", "-D", 1) for line in jumps if line.endswith(ends)]


def _forwarded(plan: Plan) -> list[str]:
    """The first rule that fits decides; a packet that none drops goes where the engine's own rules let it."""
    rules = [_rule(f"-o {plan.bridge}", "DROP", "other sandboxes")]
    for resolver in plan.resolvers:
        for protocol in ("udp", "tcp"):
            match = f"-d {resolver}/32 -p {protocol} -m {protocol} --dport {DNS_PORT}"
            rules.append(_rule(match, "RETURN", "a resolver"))
    rules += [_rule(f"-d {one}", "DROP", "never public") for one in _of_version_4(ALWAYS_DENIED)]
    rules += [_rule(f"-d {one}", "RETURN", "SANDBOX_EGRESS_PRIVATE_CIDRS") for one in plan.opened]
    rules += [_rule(f"-d {one}", "DROP", "private") for one in _of_version_4(PRIVATE)]
    return rules


def _of_version_4(networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> list[str]:
    return [str(one) for one in networks if one.version == 4]


def _rule(match: str, target: str, why: str) -> str:
    return f'{match} -m comment --comment "{why}" -j {target}'.strip()
