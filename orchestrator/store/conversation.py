"""What agents ask and what people send them: the questions and inputs of a task.

Every writer holds the row of the task first (`journal.append`, a transition, `tasks.get(for_update=True)`), so that an
answer, a message and the end of a conversation come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator import clock, journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, Input, Question
from orchestrator.store.tables import attempts, inputs, questions, tasks

MOST_OPEN = 200
"""Of the questions of one attempt, so many are looked at."""
# Literals, as in the partial index.
_OPEN = (questions.c.answered_at.is_(None), questions.c.withdrawn_at.is_(None))


def ask(tx: sa.Connection, claim: Claim, asked: Sequence[Question]) -> None:
    """Store what an attempt's agent waits for; one that is there already is left as it is."""
    if not asked:
        return
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    values = [
        {
            "task_id": claim.task_id,
            "attempt": claim.attempt,
            "id": one.id,
            "asked_at": one.asked_at,
            "kind": one.kind,
            "text": one.text,
            "options": list(one.options),
            "request": one.request,
        }
        for one in asked
    ]
    tx.execute(insert(questions).on_conflict_do_nothing(), values)


def withdraw(tx: sa.Connection, claim: Claim, ids: Iterable[str], at: datetime) -> None:
    """The agent waits no more for these; what was answered stays answered."""
    where = (*_of(claim.task_id, claim.attempt), questions.c.id.in_(list(ids)), *_OPEN)
    tx.execute(questions.update().where(*where).values(withdrawn_at=at))


def abandon(tx: sa.Connection, claim: Claim, at: datetime) -> None:
    """The attempt's agent has ended: it waits for nothing any more."""
    tx.execute(questions.update().where(*_of(claim.task_id, claim.attempt), *_OPEN).values(withdrawn_at=at))


def open_questions(tx: sa.Connection, task_id: str, attempt: int, *, question_id: str | None = None) -> list[Question]:
    """What the agent of an attempt waits for, oldest first, at most `MOST_OPEN`; `question_id`: that one alone."""
    query = sa.select(questions).where(*_of(task_id, attempt), *_OPEN).order_by(*_FIRST).limit(MOST_OPEN)
    if question_id is not None:
        query = query.where(questions.c.id == question_id)
    return [_question(row) for row in tx.execute(query).mappings()]


def open_of(tx: sa.Connection, task_ids: Sequence[str]) -> dict[str, Question]:
    """The first thing that each of these tasks waits for in its present attempt, without its `request`; those that
    wait for nothing are left out."""
    if not task_ids:
        return {}
    # An attempt may have been ended by a reaper of the version before, which withdraws nothing.
    live = sa.exists().where(
        attempts.c.task_id == tasks.c.id, attempts.c.number == tasks.c.attempt, attempts.c.finished_at.is_(None)
    )
    one = questions.alias()
    still_open = (one.c.answered_at.is_(None), one.c.withdrawn_at.is_(None))
    mine = (one.c.task_id == tasks.c.id, one.c.attempt == tasks.c.attempt)
    first = sa.select(one.c.id).where(*mine, *still_open).order_by(one.c.asked_at, one.c.id).limit(1)
    shown = [questions.c[name] for name in ("task_id", "id", "asked_at", "kind", "text", "options")]
    query = (
        sa.select(*shown)
        .join_from(tasks, questions, (questions.c.task_id == tasks.c.id) & (questions.c.attempt == tasks.c.attempt))
        .where(tasks.c.id.in_(task_ids), live, questions.c.id == first.correlate(tasks).scalar_subquery())
    )
    return {row["task_id"]: _question(row) for row in tx.execute(query).mappings()}


def fate_of(tx: sa.Connection, task_id: str, attempt: int, question_id: str | None) -> str | None:
    """In words, why a question is not open; None when it was never asked. Without an id: of the last one asked."""
    query = sa.select(questions.c.answered_at, questions.c.withdrawn_at).where(*_of(task_id, attempt))
    if question_id is not None:
        query = query.where(questions.c.id == question_id)
    row = tx.execute(query.order_by(questions.c.asked_at.desc(), questions.c.id.desc()).limit(1)).first()
    if row is None:
        return None
    if row.answered_at is not None:
        return f"it is answered already, at {clock.text(row.answered_at)}"
    if row.withdrawn_at is not None:
        return f"the agent withdrew it at {clock.text(row.withdrawn_at)}"
    return "the agent that asked has ended"


def send(tx: sa.Connection, task_id: str, attempt: int, given: Input, sent_by: str) -> None:
    """Store an input; one that answers a question closes it."""
    tx.execute(
        inputs.insert().values(
            task_id=task_id,
            number=given.number,
            at=given.at,
            attempt=attempt,
            text=given.text,
            question_id=given.question_id,
            answer=given.answer,
            request=given.request,
            sent_by=sent_by,
        )
    )
    if given.question_id is not None:
        where = (*_of(task_id, attempt), questions.c.id == given.question_id)
        tx.execute(questions.update().where(*where).values(answered_at=given.at))


def sent_bytes(tx: sa.Connection, task_id: str) -> int:
    """The size of all texts and answers that the task was sent."""
    said = sa.func.coalesce(inputs.c.text, inputs.c.answer, "")
    size = (
        sa.func.octet_length(said) if tx.dialect.name == "postgresql" else sa.func.length(sa.cast(said, sa.LargeBinary))
    )
    return int(tx.scalar(sa.select(sa.func.sum(size)).where(inputs.c.task_id == task_id)) or 0)


def next_number(tx: sa.Connection, task_id: str) -> int:
    """The number of the task's next input, in a transaction that holds the task's row."""
    return int(tx.scalar(sa.select(sa.func.max(inputs.c.number)).where(inputs.c.task_id == task_id)) or 0) + 1


def inputs_after(tx: sa.Connection, claim: Claim, number: int) -> list[Input]:
    """What an attempt's agent is to be given behind `number`, in order: every message to the task, and the answers
    to what this attempt asked."""
    query = sa.select(inputs).where(*_given_to(claim), inputs.c.number > number)
    return [_input(row) for row in tx.execute(query.order_by(inputs.c.number)).mappings()]


def close(tx: sa.Connection, claim: Claim, after: int) -> bool:
    """End the conversation of an attempt that was given everything up to the input `after`: nothing more is accepted.

    False, and nothing is changed, when something was sent behind that. Raises `StaleClaim`.
    """
    # PostgreSQL would look for inputs as of before it waited for the row, and miss the one it waited for.
    journal.wait_for_writers(tx, claim.task_id)
    ours = (tasks.c.id == claim.task_id, tasks.c.attempt == claim.attempt, tasks.c.fence == claim.fence)
    left = sa.exists().where(*_given_to(claim), inputs.c.number > after)
    if tx.execute(tasks.update().where(*ours, ~left).values(input_closed=claim.attempt)).rowcount:
        return True
    if tx.scalar(sa.select(tasks.c.id).where(*ours)) is None:
        raise StaleClaim(claim)
    return False


def waited_seconds(tx: sa.Connection, claim: Claim, until: datetime) -> float:
    """How long, up to `until`, at least one question of the attempt was open."""
    ended = sa.func.coalesce(questions.c.answered_at, questions.c.withdrawn_at)
    query = sa.select(questions.c.asked_at, ended).where(*_of(claim.task_id, claim.attempt))
    waited, covered = 0.0, None
    for asked_at, ended_at in tx.execute(query.order_by(questions.c.asked_at)):
        start = asked_at if covered is None else max(asked_at, covered)
        end = until if ended_at is None else min(ended_at, until)
        if end > start:
            waited += (end - start).total_seconds()
            covered = end
    return waited


def delete_of(tx: sa.Connection, task_id: str) -> None:
    for table in (questions, inputs):
        tx.execute(table.delete().where(table.c.task_id == task_id))


_FIRST = (questions.c.asked_at, questions.c.id)


def _of(task_id: str, attempt: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (questions.c.task_id == task_id, questions.c.attempt == attempt)


def _given_to(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    mine = sa.or_(inputs.c.question_id.is_(None), inputs.c.attempt == claim.attempt)
    return (inputs.c.task_id == claim.task_id, mine)


def _question(row: sa.RowMapping) -> Question:
    known: dict[str, Any] = {name: row[name] for name in ("id", "asked_at", "kind", "text", "request") if name in row}
    return Question(**known, options=tuple(row["options"]))


def _input(row: sa.RowMapping) -> Input:
    return Input(**{name: row[name] for name in ("number", "at", "text", "question_id", "answer", "request")})
