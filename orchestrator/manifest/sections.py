"""The typed sections of a manifest; times are seconds, sizes bytes, None is what the contract calls null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.manifest import hosts
from orchestrator.quantities import duration_seconds, size_bytes


@dataclass(frozen=True, slots=True)
class Repository:
    """What is cloned. `branch` None is the remote's HEAD, `commit` None the tip, `depth` None all history.

    `credential` is the name of an entry of `secrets`, or None. It is in a definition only where it was given: a worker
    of the version before does not know it, and takes the others.
    """

    url: str
    branch: str | None
    commit: str | None
    depth: int | None
    submodules: bool
    subpath: str | None
    credential: str | None = None

    @classmethod
    def from_definition(cls, section: Mapping[str, Any]) -> Repository:
        return cls(**section)


@dataclass(frozen=True, slots=True)
class Run:
    """A command or a script, exactly one; `image` None is the profile's."""

    command: tuple[str, ...] | None
    script: str | None
    image: str | None
    env: Mapping[str, str]

    @classmethod
    def from_definition(cls, section: Mapping[str, Any]) -> Run:
        command = section.get("command")
        return cls(
            command=None if command is None else tuple(command),
            script=section.get("script"),
            image=section["image"],
            env=section["env"],
        )


@dataclass(frozen=True, slots=True)
class Claude:
    """A coding agent with a prompt; no `allowed_tools` means all. `max_budget_usd`: at list prices."""

    prompt: str
    headless: bool
    interactive: bool
    skip_permissions: bool
    output_format: str
    model: str
    allowed_tools: tuple[str, ...]
    mcp_config: Mapping[str, Any] | None
    max_turns: int | None
    max_budget_usd: float | None

    @classmethod
    def from_definition(cls, section: Mapping[str, Any]) -> Claude:
        return cls(**{**section, "allowed_tools": tuple(section["allowed_tools"])})


@dataclass(frozen=True, slots=True)
class Vm:
    """Size and network of the sandbox; `allowed_hosts` in their one spelling (`orchestrator.manifest.hosts`)."""

    profile: str
    cpus: float
    memory_bytes: int
    disk_bytes: int
    network_mode: str
    allowed_hosts: tuple[str, ...]

    @classmethod
    def from_definition(cls, section: Mapping[str, Any]) -> Vm:
        return cls(
            profile=section["profile"],
            cpus=float(section["cpus"]),
            memory_bytes=size_bytes(section["memory"]),
            disk_bytes=size_bytes(section["disk"]),
            network_mode=section["network_mode"],
            allowed_hosts=tuple(str(hosts.parse_host_rule(host)) for host in section["allowed_hosts"]),
        )


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a value that the worker fetches and sets as the variable `name`."""

    name: str
    source: str
    key: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told of the task's events. What is sent is signed with `secret`; None: nothing signs it."""

    url: str
    events: tuple[str, ...]
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def from_definition(cls, entry: Mapping[str, Any]) -> Notify:
        return cls(**{**entry, "events": tuple(entry["events"])})


@dataclass(frozen=True, slots=True)
class Retry:
    """`on` holds values of `orchestrator.outcomes.Reason`."""

    max_attempts: int
    on: tuple[str, ...]
    backoff_seconds: int


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Limits and endings; a timeout that is None does not exist.

    `input_timeout_seconds`: how long an interactive agent may wait for one answer; `pause_clock_on_input`: such waits
    are no part of `timeout_seconds`.
    """

    timeout_seconds: int
    stage_timeout_seconds: int
    provision_timeout_seconds: int
    collect_timeout_seconds: int
    queue_timeout_seconds: int | None
    idle_timeout_seconds: int | None
    input_timeout_seconds: int | None
    pause_clock_on_input: bool
    stop_grace_seconds: int
    failure_action: str
    preserve_for_seconds: int
    keep_session: bool
    artifact_patterns: tuple[str, ...]
    retry: Retry

    @classmethod
    def from_definition(cls, section: Mapping[str, Any]) -> Lifecycle:
        retry = section["retry"]
        return cls(
            timeout_seconds=duration_seconds(section["timeout"]),
            stage_timeout_seconds=duration_seconds(section["stage_timeout"]),
            provision_timeout_seconds=duration_seconds(section["provision_timeout"]),
            collect_timeout_seconds=duration_seconds(section["collect_timeout"]),
            queue_timeout_seconds=_seconds_or_none(section["queue_timeout"]),
            idle_timeout_seconds=_seconds_or_none(section["idle_timeout"]),
            input_timeout_seconds=_seconds_or_none(section["input_timeout"]),
            pause_clock_on_input=section["pause_clock_on_input"],
            stop_grace_seconds=duration_seconds(section["stop_grace"]),
            failure_action=section["failure_action"],
            preserve_for_seconds=duration_seconds(section["preserve_for"]),
            keep_session=section["keep_session"],
            artifact_patterns=tuple(section["artifact_patterns"]),
            retry=Retry(retry["max_attempts"], tuple(retry["on"]), duration_seconds(retry["backoff"])),
        )


def _seconds_or_none(text: str | None) -> int | None:
    return None if text is None else duration_seconds(text)
