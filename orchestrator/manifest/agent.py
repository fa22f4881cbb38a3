"""The rules about the coding agent of a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.documents.parts import Path
from orchestrator.manifest.errors import Finding, field_name, shown
from orchestrator.manifest.policy import ManifestPolicy
from orchestrator.manifest.values import entries, text, value

MAX_PROMPT_BYTES = 1 << 20

_RESERVED_PREFIXES = ("ANTHROPIC_", "CLAUDE_CODE_")
_RESERVED_NAMES = frozenset({"CLAUDE_CONFIG_DIR"})
_ONLY_INTERACTIVE = (("lifecycle", "input_timeout"), ("lifecycle", "pause_clock_on_input"))


def prompt_says_something(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    path = ("claude", "prompt")
    prompt = text(data, *path) or ""
    size = len(prompt.encode())
    if size > MAX_PROMPT_BYTES:
        message = f"claude.prompt has {size:,} bytes: at most {MAX_PROMPT_BYTES:,} are allowed; shorten it, "
        yield Finding(path, "length", message + "or put the text into a file of the repository")
    elif prompt and not prompt.strip():
        message = "claude.prompt is nothing but white space: the agent would not know what to do; say what it shall do"
        yield Finding(path, "blank", message)


def agent_has_no_terminal(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    path = ("claude", "headless")
    if value(data, *path) is False:
        message = (
            "claude.headless is false: a sandbox has no terminal that somebody could sit at; remove it, and set "
            "claude.interactive: true to answer what the agent asks and to send it messages while it runs"
        )
        yield Finding(path, "headless", message)


def input_is_waited_for_by_interactive_agents(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    if value(data, "claude", "interactive") is True:
        return
    for path in _ONLY_INTERACTIVE:
        given = value(data, *path)
        if given is True or isinstance(given, str):
            message = (
                f"{field_name(path)} is {shown(given)}: it is without effect, because only an agent with "
                "claude.interactive: true waits for input; set that, or remove this"
            )
            yield Finding(path, "input_mode", message)


def sessions_are_kept_of_agents(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    path = ("lifecycle", "keep_session")
    if value(data, *path) is True and "run" in data:
        message = (
            "lifecycle.keep_session is true: a command (run) has no session that another task could go on from; "
            "remove it, and name the files to keep in lifecycle.artifact_patterns"
        )
        yield Finding(path, "keep_session", message)


def variables_of_the_agent_are_not_set(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    if "claude" not in data:
        return
    for index, secret in entries(data, "secrets"):
        name = text(secret, "name") or ""
        if name.startswith(_RESERVED_PREFIXES) or name in _RESERVED_NAMES:
            path: Path = ("secrets", index, "name")
            message = (
                f"{field_name(path)}: the variable {name[:60]} is reserved in an agent's task: the worker sets it, to "
                "lead the agent to the model API without giving it the key; choose another name"
            )
            yield Finding(path, "reserved_name", message)


AGENT_RULES = (
    prompt_says_something,
    agent_has_no_terminal,
    input_is_waited_for_by_interactive_agents,
    sessions_are_kept_of_agents,
    variables_of_the_agent_are_not_set,
)
