"""A tool's call and its result in one line (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workers.agents.claude.json_lines import cut, objects

SUMMARY_BYTES = 300
_LOOKED_AT = 64 << 10

_TELLING = {
    "Bash": "command",
    "Read": "file_path",
    "Write": "file_path",
    "Edit": "file_path",
    "NotebookEdit": "notebook_path",
    "Glob": "pattern",
    "Grep": "pattern",
    "WebFetch": "url",
    "WebSearch": "query",
    "Task": "description",
    "Agent": "description",
    "TaskCreate": "subject",
    "Skill": "skill",
    "ToolSearch": "query",
    "AskUserQuestion": "question",
    "ExitPlanMode": "plan",
}
"""What of a tool's input tells most; of other tools, what comes first."""


def call_summary(tool: str, given: Mapping[str, Any], limit_bytes: int = SUMMARY_BYTES) -> tuple[str, bool]:
    """What a tool was called for, and whether some of it is missing."""
    told = next(objects(given.get("questions")), given)
    telling = told.get(_TELLING.get(tool, ""))
    if not isinstance(telling, str):
        telling = next((one for one in told.values() if isinstance(one, str)), None)
    return one_line(telling if telling is not None else as_json(given) if given else "", limit_bytes)


def result_summary(content: object) -> tuple[str, bool]:
    """What a tool answered: a text, or blocks of which some are texts."""
    if not isinstance(content, str):
        content = "\n".join(_block(one) for one in objects(content))
    return one_line(content.replace("<tool_use_error>", "").replace("</tool_use_error>", ""))


def one_line(value: str, limit_bytes: int = SUMMARY_BYTES) -> tuple[str, bool]:
    text, is_cut = cut(" ".join(value[:_LOOKED_AT].split()), limit_bytes)
    return text, is_cut or len(value) > _LOOKED_AT


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _block(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    return text if isinstance(text, str) else f"[{block.get('type', 'something')}]"
