"""Which profiles a worker offers: those whose runtime its engine has, and holds to limits (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.profiles import Profile
from workers.sandbox.port import EngineFacts, Runtime

_NOT_ASKED = Runtime(limits=True, loopback=True)


def offered(profiles: Iterable[Profile], engine: EngineFacts | None) -> tuple[str, ...]:
    """Names of the profiles that tasks may have here."""
    return tuple(one.name for one in profiles if withheld(one, engine) is None)


def withheld(profile: Profile, engine: EngineFacts | None) -> str | None:
    """Why a profile is not offered, with what to do; None when it is. `engine` is None while it never answered."""
    if profile.runtime is None:
        return None
    if engine is None:
        return f"whether the engine has the runtime {profile.runtime} is not known yet: it has not answered"
    runtime = engine.runtimes.get(profile.runtime)
    if runtime is None:
        return (
            f'the engine does not know the runtime {profile.runtime}; name it under "runtimes" in '
            "/etc/docker/daemon.json and restart the engine, or correct SANDBOX_PROFILES"
        )
    if not runtime.limits:
        return (
            f"the engine calls the runtime {profile.runtime} with --ignore-cgroups: no limit of cpu, memory and "
            "processes would hold; take that out of its runtimeArgs in /etc/docker/daemon.json"
        )
    return None


def runtime_of(profile: Profile, engine: EngineFacts) -> tuple[str, Runtime]:
    """The runtime that sandboxes of the profile have, by its name. One the engine names only is taken for usual."""
    name = profile.runtime or engine.default_runtime
    return name, engine.runtimes.get(name, _NOT_ASKED)
