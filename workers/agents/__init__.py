"""The agents this worker can run, by the manifest's key."""

from __future__ import annotations

from orchestrator.manifest import Manifest
from workers.agents.claude import ClaudeAgent
from workers.agents.port import Agent
from workers.agents.run import RunAgent

_ALL: tuple[Agent, ...] = (RunAgent(), ClaudeAgent())
AGENTS: dict[str, Agent] = {agent.name: agent for agent in _ALL}


def agent_of(manifest: Manifest) -> Agent:
    """The agent a manifest asks for; placement never sends one that is not here (`KeyError`)."""
    return AGENTS[manifest.agent]
