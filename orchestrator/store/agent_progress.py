"""How far a task's agent is: what lists show of it while it runs."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.models import Claim
from orchestrator.states import State
from orchestrator.store.tables import tasks


def save(tx: sa.Connection, claim: Claim, tool_calls: int, current_tool: str | None) -> None:
    """Store the tools used so far and the one in use; once the command has ended, none is.

    Beside output, whose writer is refused when its claim is stale (`journal.append`). What an attempt left on its
    worker and comes late (`journal.append_late`) changes nothing: the task tells of another attempt, or has ended.
    """
    ours = (tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
    in_use = sa.case((tasks.c.state == State.RUNNING.value, current_tool), else_=None)
    tx.execute(tasks.update().where(*ours).values(tool_calls=tool_calls, current_tool=in_use))
