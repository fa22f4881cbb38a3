"""The agent begins a turn: the first one tells what it is and has, each one how its MCP servers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.manifest import Claude
from workers.agents.claude.json_lines import cut, name, objects
from workers.agents.claude.seen import MAX_KEPT, ClaudeSeen, keep
from workers.agents.claude.summaries import SUMMARY_BYTES
from workers.agents.claude.tool_limits import ASK, built_in_names
from workers.agents.port import AgentEvent, Told

CONNECTED, PENDING = "connected", "pending"
_SAME_TOOL = {"Agent": "Task", "KillShell": "TaskStop"}
"""Names that the agent takes, and what it calls these tools itself."""


def begun(seen: ClaudeSeen, claude: Claude, said: Mapping[str, Any], _at: float) -> Told:
    events = []
    if seen.session_id is None:
        seen.session_id, seen.version = name(said.get("session_id")), name(said.get("claude_code_version"))
        events.append(_started(seen, claude, said))
    seen.resting = False
    return Told([*events, *_servers_that_are_not_there(seen, said)])


def _started(seen: ClaudeSeen, claude: Claude, said: Mapping[str, Any]) -> AgentEvent:
    tools = said.get("tools")
    servers = list(objects(said.get("mcp_servers")))[:MAX_KEPT]
    body: dict[str, Any] = {
        "session_id": seen.session_id,
        "model": name(said.get("model")),
        "version": seen.version,
        "tools": len(tools) if isinstance(tools, list) else 0,
        "mcp_servers": [{"name": name(one.get("name")), "status": name(one.get("status"))} for one in servers],
    }
    unknown = sorted(_not_there(claude, tools if isinstance(tools, list) else []))
    if unknown:
        body["unknown_tools"] = unknown
        seen.add_problem(f"claude.allowed_tools names what this agent does not have: {', '.join(unknown)}")
    return AgentEvent("agent_started", body)


def _not_there(claude: Claude, tools: list[Any]) -> set[str]:
    """The built-in tools that the manifest allows, in vain."""
    return {one for one in built_in_names(claude.allowed_tools) if _SAME_TOOL.get(one, one) not in tools} - {ASK}


def _servers_that_are_not_there(seen: ClaudeSeen, said: Mapping[str, Any]) -> Iterator[AgentEvent]:
    """Each is told once in each status; one that is still `pending` had its time to start before."""
    skipped = objects(said.get("mcp_server_errors"))
    why = {name(one.get("name")): cut(one.get("message"), SUMMARY_BYTES)[0] for one in skipped}
    now = dict.fromkeys(why, "skipped")
    now |= {name(one.get("name")): name(one.get("status")) for one in objects(said.get("mcp_servers"))}
    for server, status in now.items():
        if seen.servers.get(server) == status:
            continue
        keep(seen.servers, server, status)
        if status != CONNECTED:
            error = why.get(server) or ("it had not started when the agent began" if status == PENDING else "")
            seen.add_problem(f"MCP server {server} is not there ({status})")
            yield AgentEvent("mcp_failed", {"server": server, "status": status} | ({"error": error} if error else {}))
