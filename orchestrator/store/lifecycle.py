"""The one statement that changes a state: compare-and-set, with its journal record in the same transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator import journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, Kind, NewRecord
from orchestrator.outcomes import Outcome
from orchestrator.states import TERMINAL, Event, State, after
from orchestrator.store.tables import attempts, tasks


def transition(
    tx: sa.Connection,
    claim: Claim,
    expected: State,
    event: Event,
    *,
    at: datetime,
    message: str | None = None,
    next_claim: Claim | None = None,
    failed: Outcome | None = None,
    **columns: Any,
) -> State:
    """Move a task from `expected` by `event`; return the new state.

    Writes only if the row still has this state, attempt and fence, else raises `StaleClaim` and nothing is
    stored. `next_claim` gives the row a new attempt or fence. `failed` is how the present attempt failed,
    whether or not it is the task's last. `columns` are set beside the state.
    Raises `IllegalTransition` when the table has no such move.
    """
    new_state = after(expected, event)
    owner = next_claim or claim
    values: dict[str, Any] = {
        "state": new_state.value,
        "state_message": message,
        "state_changed_at": at,
        "attempt": owner.attempt,
        "fence": owner.fence,
        "current_tool": None,  # no tool of an agent is in use across a change of state
        **columns,
    }
    if new_state in TERMINAL:
        values["finished_at"] = at
    if columns.get("outcome"):
        values["outcome_reason"] = columns["outcome"]["reason"]
    if expected is State.PENDING:
        values["started_at"] = sa.func.coalesce(tasks.c.started_at, sa.literal(at, tasks.c.started_at.type))
    body = {"previous_state": expected.value, "new_state": new_state.value, "state_message": message}
    if columns.get("outcome"):
        body["outcome"] = columns["outcome"]
    elif failed is not None:
        body["reason"] = failed.reason.value
    new = [NewRecord(Kind.STATE_CHANGE, at, body=body)]
    if failed is not None:
        error = {"error": failed.reason.value, "message": failed.message, "details": failed.to_dict()}
        new.insert(0, NewRecord(Kind.ERROR, at, body=error))
    expectation = (
        tasks.c.id == claim.task_id,
        tasks.c.state == expected.value,
        tasks.c.attempt == claim.attempt,
        tasks.c.fence == claim.fence,
    )
    places = journal.take_places(tx, new, *expectation, **values)
    if places is None:
        raise StaleClaim(claim)
    journal.insert(tx, claim.task_id, owner.attempt, places, new)
    if owner.attempt and next_claim is None:
        number = (attempts.c.task_id == owner.task_id, attempts.c.number == owner.attempt)
        live = attempts.c.finished_at.is_(None)
        tx.execute(attempts.update().where(*number, live).values(state=new_state.value))
    return new_state
