"""How the agent is started: its command line, environment and files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.manifest import Manifest
from tests.unit.agents.recorded import AGENT, manifest
from workers.agents import AGENTS, agent_of
from workers.agents.claude import ClaudeAgent
from workers.agents.claude.input_lines import number_of
from workers.agents.port import Launch, Places, Session
from workers.model_api.address import BASE_URL, MODEL_PORT

PLACES = Places("/opt/inbox/script", "/opt/private", "/opt/inbox/input")
SESSION = "7c7f2b5e-4b3a-4a55-9e0c-0d6b3f0f4f10"


def launch(
    *, secrets: dict[str, str] | None = None, session_id: str = SESSION, resumed: Session | None = None, **claude: Any
) -> Launch:
    return AGENT.launch(manifest(**claude), PLACES, secrets or {}, session_id, resumed)


def value_of(option: str, found: Launch) -> str:
    return found.command[list(found.command).index(option) + 1]


def prompt_of(found: Launch) -> dict[str, Any]:
    text = found.files[found.stdin or ""]
    assert text.endswith("\n")
    assert text.count("\n") == 1
    said: dict[str, Any] = json.loads(text)
    return said


def test_the_agent_of_a_claude_manifest_is_claude() -> None:
    assert agent_of(manifest()) is AGENTS["claude"]
    assert isinstance(AGENTS["claude"], ClaudeAgent)


def test_it_speaks_lines_of_json_in_both_directions() -> None:
    command = " ".join(launch().command)
    assert command.startswith("claude -p ")
    assert "--input-format stream-json --output-format stream-json --verbose --replay-user-messages" in command


def test_a_repository_s_own_settings_hooks_and_servers_do_not_run() -> None:
    found = launch()
    assert value_of("--setting-sources", found) == "user"
    assert "--strict-mcp-config" in found.command


def test_model_and_session_are_those_asked_for() -> None:
    found = launch(model="some-model")
    assert value_of("--model", found) == "some-model"
    assert value_of("--session-id", found) == SESSION
    assert "--resume" not in found.command


def test_it_goes_on_from_an_earlier_session_in_one_of_its_own() -> None:
    found = launch(resumed=Session("b6b3a5a0-3c39-4d13-8b4e-6c9d4f6d1a11"))
    assert value_of("--resume", found) == "b6b3a5a0-3c39-4d13-8b4e-6c9d4f6d1a11"
    assert "--fork-session" in found.command
    assert value_of("--session-id", found) == SESSION


def test_limits_are_given_where_the_manifest_has_them() -> None:
    found = launch(max_turns=7, max_budget_usd=2.5)
    assert value_of("--max-turns", found) == "7"
    assert value_of("--max-budget-usd", found) == "2.5"
    assert not {"--max-turns", "--max-budget-usd"} & set(launch().command)


def test_a_tiny_budget_is_written_without_an_exponent() -> None:
    assert value_of("--max-budget-usd", launch(max_budget_usd=0.0000001)) == "0.0000001"


def test_the_way_to_the_model_is_the_sandbox_s_own_loopback_and_the_key_is_none() -> None:
    environment = launch().environment
    assert environment["ANTHROPIC_BASE_URL"] == BASE_URL == f"http://127.0.0.1:{MODEL_PORT}"
    assert environment["ANTHROPIC_API_KEY"] == "the-worker-adds-the-key"
    assert AGENT.needs_model


@pytest.mark.parametrize(
    "switch",
    ["DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"],
)
def test_it_reaches_for_nothing_but_the_model(switch: str) -> None:
    assert launch().environment[switch] == "1"


def test_its_patience_with_a_failing_api_is_bounded() -> None:
    assert 1 <= int(launch().environment["CLAUDE_CODE_MAX_RETRIES"]) <= 10


def test_the_prompt_is_a_line_in_a_private_file_and_in_no_argument() -> None:
    found = launch(prompt='two\nlines with "quotes" and ünïcode')
    assert found.stdin == "/opt/private/prompt.jsonl"
    assert prompt_of(found)["message"] == {
        "role": "user",
        "content": [{"type": "text", "text": 'two\nlines with "quotes" and ünïcode'}],
    }
    assert not any("two" in argument for argument in found.command)


def test_a_prompt_that_begins_with_a_slash_is_no_command() -> None:
    assert prompt_of(launch(prompt="/compact"))["message"]["content"][0]["text"] == "\n/compact"


def test_the_prompt_s_id_tells_that_it_is_the_prompt_and_of_which_session() -> None:
    first, second = prompt_of(launch()), prompt_of(launch(session_id="0c0a9b1e-6a53-4d2c-bb0f-5b3c4b1f2a22"))
    assert number_of(first["uuid"]) == number_of(second["uuid"]) == 0
    assert first["uuid"] != second["uuid"]
    assert prompt_of(launch())["uuid"] == first["uuid"]


def test_only_an_interactive_agent_is_fed() -> None:
    assert launch(interactive=True).feeds_inbox
    assert not launch().feeds_inbox


def test_without_mcp_servers_there_is_no_file_for_them() -> None:
    found = launch()
    assert "--mcp-config" not in found.command
    assert list(found.files) == [found.stdin]


def test_mcp_servers_are_told_in_a_private_file_with_the_secrets_they_name() -> None:
    servers = {
        "docs": {"url": "https://docs.example.com/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        "local": {"command": "serve", "args": ["${TOKEN}"], "env": {"A": "${TOKEN}${OTHER}", "B": "$TOKEN"}},
        "old": {"type": "sse", "url": "https://old.example.com/${TOKEN}"},
    }
    found = launch(secrets={"TOKEN": 's3"cret'}, mcp_config={"mcpServers": servers})
    assert value_of("--mcp-config", found) == "/opt/private/mcp.json"
    assert json.loads(found.files["/opt/private/mcp.json"]) == {
        "mcpServers": {
            "docs": {
                "type": "http",
                "url": "https://docs.example.com/mcp",
                "headers": {"Authorization": 'Bearer s3"cret'},
            },
            "local": {"command": "serve", "args": ["${TOKEN}"], "env": {"A": 's3"cret${OTHER}', "B": "$TOKEN"}},
            "old": {"type": "sse", "url": "https://old.example.com/${TOKEN}"},
        }
    }
    assert not any("cret" in argument for argument in found.command)


def test_a_command_cannot_be_run_as_an_agent() -> None:
    run = Manifest.from_definition(
        {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "run": {"command": ["true"]}}
    )
    with pytest.raises(ValueError, match="is no `claude` task"):
        AGENT.launch(run, PLACES, {}, SESSION, None)


def test_its_image_is_the_profile_s_and_it_has_no_script() -> None:
    assert (AGENT.image(manifest()), AGENT.script(manifest())) == (None, None)
    assert ".claude/projects" in AGENT.session_paths
