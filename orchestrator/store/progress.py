"""How far a task is: what lists show of its agent or command while it runs, and what that said of its results.

All of it is stored beside output, whose writer is refused when its claim is stale (`journal.append`). What an attempt
left on its worker and comes late (`journal.append_late`) changes nothing: the task tells of another attempt, or has
ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from orchestrator.models import Claim
from orchestrator.states import State
from orchestrator.store.tables import tasks

FRESH: dict[str, Any] = {"tool_calls": 0, "progress_percent": None, "progress_text": None, "outputs": None}
"""The columns of a task whose attempt begins."""


def save_tools(tx: sa.Connection, claim: Claim, tool_calls: int, current_tool: str | None) -> None:
    """Store the tools that an agent has used and the one in use; once it has ended, none is."""
    in_use = sa.case((tasks.c.state == State.RUNNING.value, current_tool), else_=None)
    tx.execute(tasks.update().where(*_ours(claim)).values(tool_calls=tool_calls, current_tool=in_use))


def save_said(tx: sa.Connection, claim: Claim, percent: float, text: str | None) -> None:
    """Store how far a command says it is: 0 to 100, and what it does."""
    tx.execute(tasks.update().where(*_ours(claim)).values(progress_percent=percent, progress_text=text))


def save_outputs(tx: sa.Connection, claim: Claim, outputs: Mapping[str, str]) -> None:
    """Store all that a command has said of its results so far."""
    tx.execute(tasks.update().where(*_ours(claim)).values(outputs=dict(outputs)))


def forget_words(tx: sa.Connection, task_id: str) -> None:
    """Remove what a command said; how far it came, a number, stays."""
    tx.execute(tasks.update().where(tasks.c.id == task_id).values(progress_text=None, outputs=None))


def _ours(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
