"""The operator's profiles on this engine: runtimes, images, and the credentials images are pulled with."""

from __future__ import annotations

from collections.abc import Iterator

import docker
from docker.errors import ImageNotFound

from orchestrator.settings import Settings
from workers.finding import Finding, note, ok, problem
from workers.images.advice import how_to_get
from workers.offered import runtime_of, withheld
from workers.sandbox.docker import registry_config
from workers.sandbox.docker.facts import facts_of
from workers.sandbox.port import SandboxError


def runtimes(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    try:
        facts = facts_of(engine.info())
    except SandboxError:
        return  # the check of user ids says so
    there = sorted(facts.runtimes)
    gvisor = "is there: a profile may ask for it" if "runsc" in there else "is not there; it needs gVisor"
    yield ok("runtime", f"{', '.join(there) or 'the default'}; runsc {gvisor}")
    for profile in settings.profiles.values():
        why = withheld(profile, facts)
        if why is not None:
            fault, _, todo = why.rpartition("; ")
            seen = f"profile {profile.name} is not offered, and its tasks wait for another worker: {fault}"
            yield problem("runtime", seen, todo)
        elif not runtime_of(profile, facts)[1].loopback:
            seen = f"profile {profile.name}: {profile.runtime} has a network of its own, so network_mode outbound and"
            advice = f"add --network=host to the runtimeArgs of {profile.runtime} in /etc/docker/daemon.json"
            yield note("runtime", f"{seen} clones over the network are refused", advice)


def registries(_: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    """The credentials that pulls are made with."""
    path = settings.registry_config
    if path is None:
        yield ok("registries", "images are pulled without credentials (SANDBOX_REGISTRY_CONFIG is not set)")
        return
    try:
        known = registry_config.read(path)
    except registry_config.UnusableRegistryConfig as error:
        yield problem("registries", str(error), "the worker does not start until then")
        return
    if path.stat().st_mode & 0o077:
        seen = f"{path} holds passwords, and others than its owner may read it"
        yield note("registries", seen, f"chmod 600 {path}")
    else:
        yield ok("registries", f"credentials for {', '.join(sorted(known)) or 'none'}")


def images(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    for profile in settings.profiles.values():
        try:
            found = engine.inspect_image(profile.image)
            yield ok("image", f"{profile.image} of profile {profile.name} is here ({found['Id'][7:19]})")
        except ImageNotFound:
            seen = f"{profile.image} of profile {profile.name} is missing on this host"
            yield problem("image", seen, how_to_get(profile.image))
