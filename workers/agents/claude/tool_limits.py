"""`claude.allowed_tools` as options of the command line: what is not named cannot be used (pure).

The command line has no option that means this. `--tools` restricts the built-in tools, by bare names and silently;
`--disallowedTools` takes away whole MCP servers; and where an entry allows less than a tool or server (`Bash(git *)`,
`mcp__github__create_issue`), the rest of it is what `--allowedTools` does not approve in advance: it must be denied or
asked for, so permissions cannot be skipped altogether.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.manifest import Claude

ASK = "AskUserQuestion"
_MCP = "mcp__"
_NOT_IN_A_TOOL_NAME = re.compile(r"[^A-Za-z0-9_-]")


def tool_options(claude: Claude) -> list[str]:
    """Options as `--name=value`, so that no entry is taken for another option; none when everything is allowed."""
    if not claude.allowed_tools:
        return []
    names = [*dict.fromkeys(built_in_names(claude.allowed_tools)), *([ASK] if claude.interactive else [])]
    options = [f"--tools={','.join(names)}", f"--allowedTools={','.join(claude.allowed_tools)}"]
    blocked = [f"{_MCP}{server}" for server in _servers(claude) if not any(_entries_of(server, claude.allowed_tools))]
    return [*options, f"--disallowedTools={','.join(blocked)}"] if blocked else options


def permission_options(claude: Claude) -> list[str]:
    """Who decides about a tool that was not approved in advance: nobody need, nobody can, or a person."""
    skips = claude.skip_permissions and not _allows_parts(claude)
    options = ["--dangerously-skip-permissions"] if skips else []
    if claude.interactive:
        # Its undocumented value `stdio` lets the agent ask over its streams, permissions skipped or not.
        return [*options, "--permission-prompt-tool", "stdio"]
    if claude.skip_permissions and not skips:
        return ["--permission-mode", "dontAsk"]
    return options


def built_in_names(allowed: Iterable[str]) -> list[str]:
    """The built-in tools that the entries are about."""
    return [entry.partition("(")[0] for entry in allowed if not entry.startswith(_MCP)]


def _servers(claude: Claude) -> list[str]:
    """The configured MCP servers, as the names of their tools spell them."""
    configured = (claude.mcp_config or {}).get("mcpServers", {})
    return [_NOT_IN_A_TOOL_NAME.sub("_", name) for name in configured]


def _entries_of(server: str, allowed: Iterable[str]) -> list[str]:
    whole = f"{_MCP}{server}"
    return [entry for entry in allowed if entry == whole or entry.startswith(f"{whole}__")]


def _allows_parts(claude: Claude) -> bool:
    whole = {f"{_MCP}{server}{rest}" for server in _servers(claude) for rest in ("", "__*")}
    return any("(" in entry or (entry.startswith(_MCP) and entry not in whole) for entry in claude.allowed_tools)
