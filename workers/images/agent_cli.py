"""Which command line of the coding agent the images hold, and what its bytes must be: claude_cli.lock.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

AGENT_LABEL = "sandbox.agent.claude"
"""On an image: the version of the command line that it holds."""
LOCK = "claude_cli.lock.toml"
PROGRAM = "claude"
"""The program's file name: in the cache, in the build context, on PATH."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package on a Python index. `sha256` is the whole archive's; `member` is the program's path in it."""

    package: str
    version: str
    platform: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """A package on an npm registry. `member` is the program's path in it."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class AgentCli:
    """The program for one architecture. `sha256` is its own; both packages carry it, `wheel` is asked for first."""

    version: str
    sha256: str
    wheel: Wheel
    npm: NpmPackage


def locked() -> dict[str, AgentCli]:
    """Return the programs of the lock file by architecture (`amd64`), as the engine names it."""
    text = resources.files("workers.images").joinpath(LOCK).read_text()
    return read_lock(tomllib.loads(text))


def read_lock(document: dict[str, Any]) -> dict[str, AgentCli]:
    """Return the programs of a lock file's content. Raises `KeyError` and `TypeError` where it lacks a field."""
    return {
        architecture: AgentCli(
            document["version"], entry["sha256"], Wheel(**entry["wheel"]), NpmPackage(**entry["npm"])
        )
        for architecture, entry in document["program"].items()
    }
