"""`claude.allowed_tools` and `claude.skip_permissions` as options, as the real command line was seen to take them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.agents.recorded import manifest
from workers.agents.claude.tool_limits import permission_options, tool_options

SKIP = "--dangerously-skip-permissions"
ASK = ["--permission-prompt-tool", "stdio"]
SERVERS = {"mcpServers": {"git hub": {"command": "x"}, "docs": {"url": "https://docs.example.com"}}}


def options(**claude: Any) -> list[str]:
    section = manifest(**claude).claude
    assert section is not None
    return [*permission_options(section), *tool_options(section)]


def test_without_a_list_everything_may_be_used() -> None:
    assert options() == [SKIP]


def test_tools_that_are_not_named_are_taken_away() -> None:
    assert options(allowed_tools=["Read", "Bash"]) == [SKIP, "--tools=Read,Bash", "--allowedTools=Read,Bash"]


def test_servers_that_are_not_named_are_taken_away() -> None:
    assert options(allowed_tools=["Read", "mcp__docs"], mcp_config=SERVERS) == [
        SKIP,
        "--tools=Read",
        "--allowedTools=Read,mcp__docs",
        "--disallowedTools=mcp__git_hub",
    ]


def test_a_list_of_servers_alone_leaves_no_tool_of_the_agent() -> None:
    assert options(allowed_tools=["mcp__docs__*", "mcp__git_hub"], mcp_config=SERVERS) == [
        SKIP,
        "--tools=",
        "--allowedTools=mcp__docs__*,mcp__git_hub",
    ]


@pytest.mark.parametrize("entry", ["Bash(git *)", "mcp__docs__search", "mcp__docs__search*"])
def test_the_rest_of_a_tool_or_server_of_which_a_part_is_allowed_is_denied(entry: str) -> None:
    found = options(allowed_tools=["Read", entry], mcp_config=SERVERS)
    assert found[:2] == ["--permission-mode", "dontAsk"]
    assert SKIP not in found
    assert f"--allowedTools=Read,{entry}" in found


def test_several_parts_of_a_tool_are_one_tool() -> None:
    assert "--tools=Bash" in options(allowed_tools=["Bash(git *)", "Bash(make *)"])


def test_an_interactive_agent_may_ask_its_questions_whatever_the_list_says() -> None:
    found = options(interactive=True, allowed_tools=["Read"])
    assert found == [SKIP, *ASK, "--tools=Read,AskUserQuestion", "--allowedTools=Read"]


def test_people_are_asked_about_the_rest_where_there_are_people() -> None:
    found = options(interactive=True, allowed_tools=["Bash(git *)"])
    assert found[:2] == ASK
    assert not {SKIP, "--permission-mode"} & set(found)


def test_without_skipping_permissions_nobody_is_asked_or_people_are() -> None:
    assert options(skip_permissions=False) == []
    assert options(skip_permissions=False, interactive=True) == ASK


def test_an_entry_cannot_become_an_option() -> None:
    assert all(
        option.startswith(("--tools=", "--allowedTools=", SKIP))
        for option in options(allowed_tools=["x", "--settings={}"])
    )
