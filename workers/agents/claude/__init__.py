"""The `claude` agent: the coding agent's command line interface, as it was observed (version 2.1.330).

`command`, `tool_limits`, `mcp_file` and `input_lines` say what is run and what it is told; `stream` and its neighbours
read what it prints; `probing` and `ending` judge. No other module knows a word of its interface.
"""

from __future__ import annotations

from workers.agents.claude.agent import ClaudeAgent

__all__ = ["ClaudeAgent"]
