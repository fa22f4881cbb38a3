"""How the agent is started: its command line, environment and files (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from orchestrator.manifest import Claude
from workers.agents.claude.input_lines import prompt_line
from workers.agents.claude.mcp_file import mcp_file
from workers.agents.claude.tool_limits import permission_options, tool_options
from workers.agents.port import Launch, Places, Session
from workers.model_api.address import BASE_URL

PLACEHOLDER = "the-worker-adds-the-key"
"""The agent wants a key; the real one is added outside the sandbox."""

ENVIRONMENT = {
    "ANTHROPIC_BASE_URL": BASE_URL,
    "ANTHROPIC_API_KEY": PLACEHOLDER,
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    # With growing delays: some minutes. Longer troubles are for lifecycle.retry.
    "CLAUDE_CODE_MAX_RETRIES": "10",
}

# Both streams as lines of JSON: only so can it be talked to, and only so does it tell what it does. A cloned
# repository's own settings, hooks and MCP servers are left out by the last two.
_ALWAYS = (
    "claude", "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
    "--replay-user-messages", "--setting-sources", "user", "--strict-mcp-config",
)  # fmt: skip


def launch(
    claude: Claude, places: Places, secrets: Mapping[str, str], session_id: str, resumed: Session | None
) -> Launch:
    prompt, servers = f"{places.private}/prompt.jsonl", f"{places.private}/mcp.json"
    files = {prompt: prompt_line(claude.prompt, session_id) + "\n"}
    command = [*_ALWAYS, "--model", claude.model, "--session-id", session_id]
    if resumed is not None:
        command += ["--resume", resumed.id, "--fork-session"]
    command += [*permission_options(claude), *tool_options(claude)]
    if claude.max_turns is not None:
        command += ["--max-turns", str(claude.max_turns)]
    if claude.max_budget_usd is not None:
        command += ["--max-budget-usd", f"{Decimal(str(claude.max_budget_usd)):f}"]
    if claude.mcp_config is not None:
        files[servers] = mcp_file(claude.mcp_config, secrets)
        command += ["--mcp-config", servers]
    return Launch(command, ENVIRONMENT, files, prompt, feeds_inbox=claude.interactive)
