"""MCP servers of a manifest: one that is missing is told, one that starts is used, with secrets that nobody sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.agents.agent_tasks import agent_manifest, artifact, artifact_paths, events, tool_results
from tests.e2e.agents.model import Model, words
from tests.e2e.submitting import Json, ended, raw_output, submit
from tests.integration.sandbox.repositories import commit
from tests.model_api.scenarios import answer, tool

pytestmark = pytest.mark.docker

SERVER = '''
"""A small MCP server: one tool, which tells what the server was given."""
import json, os, sys
TOOL = {"name": "reveal", "description": "tell the token", "inputSchema": {"type": "object", "properties": {}}}
for line in sys.stdin:
    asked = json.loads(line)
    method, result = asked.get("method"), {}
    if method == "initialize":
        result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}}}
        result["serverInfo"] = {"name": "tiny", "version": "1"}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": "token: " + os.environ["TOKEN"]}]}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
'''
TOKEN = {"name": "MCP_TOKEN", "source": "env", "key": "MCP_TOKEN"}
CONFIG = {"tiny": {"command": "python3", "args": ["/workspace/server.py"], "env": {"TOKEN": "${MCP_TOKEN}"}}}


@pytest.fixture
def with_server(repository: Path) -> Path:
    commit(repository, {"server.py": SERVER})
    return repository


def with_servers(repository: Path, prompt: str, servers: Json, **more: Any) -> Json:
    return agent_manifest(repository, prompt, mcp_config={"mcpServers": servers}, secrets=[TOKEN], **more)


def test_a_server_that_cannot_be_started_is_told_and_the_work_goes_on(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    servers = {"missing": {"command": "/nonexistent/server"}, "refused": {"url": "http://127.0.0.1:1/mcp"}}
    task = submit(api, with_servers(repository, model.plays(answer("Without them.")), servers))
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    told = {one["server"]: one["status"] for one in events(api, task, "mcp_failed")}
    assert told == {"missing": "failed", "refused": "failed"}
    assert "MCP server missing is not there (failed)" in found["outcome"]["message"]
    assert "MCP server refused is not there (failed)" in found["outcome"]["message"]


def test_a_server_starts_with_its_secret_and_what_it_says_of_it_is_masked_everywhere(
    api: httpx.Client, model: Model, with_server: Path, secret: str
) -> None:
    mark = model.plays(answer(tool("mcp__tiny__reveal")), answer("I know it."))
    task = submit(api, with_servers(with_server, mark, CONFIG))
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    [started] = events(api, task, "agent_started")
    assert started["mcp_servers"] == [{"name": "tiny", "status": "connected"}]
    assert f"token: {secret}" in words(model.asked(mark)[-1].messages), "the server has it"

    assert "token: ***" in str(tool_results(api, task))
    shown = [
        raw_output(api, task),
        raw_output(api, task, "stderr"),
        *(api.get(f"/tasks/{task}/logs", params={"format": form}).content for form in ("text", "ndjson")),
        api.get(f"/tasks/{task}").content,
        *(artifact(api, task, path) for path in artifact_paths(api, task)),
    ]
    assert not any(secret.encode() in one for one in shown)


def test_a_server_whose_tools_are_not_allowed_cannot_be_used(
    api: httpx.Client, model: Model, with_server: Path, secret: str
) -> None:
    mark = model.plays(answer(tool("mcp__tiny__reveal")), answer("I tried."))
    task = submit(api, with_servers(with_server, mark, CONFIG, allowed_tools=["Read"]))
    assert ended(api, task)["state"] == "completed"
    assert model.asked(mark)[0].tools == ["Read"]
    [result] = tool_results(api, task)
    assert result["is_error"], result
    assert secret not in words(model.asked(mark)[-1].messages)


def test_a_name_that_no_secret_has_is_refused_with_the_manifest(api: httpx.Client, repository: Path) -> None:
    servers = {"tiny": {**CONFIG["tiny"], "env": {"TOKEN": "${OTHER}"}}}
    refused = api.post("/tasks", json=with_servers(repository, "Work.", servers))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_manifest")
    assert "OTHER" in refused.json()["message"]
