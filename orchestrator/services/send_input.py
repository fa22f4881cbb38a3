"""Send something to a running agent: stored first, in one transaction with its record; the worker hands it over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.answers import MAX_INPUTS, check_answer
from orchestrator.manifest import Manifest
from orchestrator.models import Input, Kind, NewRecord, Question, Task
from orchestrator.product import Product
from orchestrator.services.cancel import AlreadyTerminal, TaskNotFound
from orchestrator.states import State
from orchestrator.store import conversation, tasks

log = logging.getLogger(__name__)

MAX_INPUT_BYTES = 16 << 20
"""Of one task, all texts and answers together."""
MAX_TEXT_BYTES = 1 << 20
NAMED = 20
"""Of more open questions than these, an error names no more."""
TOLD_BYTES = 64 << 10
"""So much of a text is in its record of the journal."""


class NotInteractive(Exception):
    """The task takes no input: it is no agent, or its manifest does not say that people talk to it."""

    def __init__(self, task: Task) -> None:
        why = "it runs a command, not an agent; put what the command needs into its manifest"
        if "claude" in task.definition:
            why = (
                "its agent is not interactive; submit it anew with "
                f"`sandbox task rerun {task.id} --set claude.interactive=true`, or wait for its end and go on with "
                f"`sandbox task resume {task.id} PROMPT` if its session is kept"
            )
        super().__init__(f"task {task.id} takes no input: {why}")


class InputClosed(Exception):
    """The agent of the present attempt takes nothing more: its end is near."""

    def __init__(self, task: Task) -> None:
        why = "its agent is done, and the task is about to end"
        if task.cancellation is not None:
            why = "it is being cancelled"
        elif task.state is State.COMPLETING:
            why = "its agent has ended, and the task is about to"
        super().__init__(f"task {task.id} takes no input any more: {why}; when it has ended, {_go_on(task)}")


class NotWaitingForInput(Exception):
    """Nobody asked for this answer, or the question is not open any more."""


class TooManyInputs(Exception):
    """The task was sent as much as one task may be."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"task {task.id} takes {MAX_INPUTS:,} messages and answers, of {MAX_INPUT_BYTES >> 20} MiB in all, and "
            "this one would be more; let it end, and go on in another one"
        )


class InvalidInput(Exception):
    """A `parameter` of what was sent cannot be used."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def send_message(product: Product, task_id: str, text: str, by: str) -> Input:
    """Store a message for the agent: one that runs is given it now, one that waits for its worker when it begins.

    Raises `InvalidInput`, `TaskNotFound`, `AlreadyTerminal`, `NotInteractive`, `InputClosed`, `TooManyInputs`,
    `StoreUnavailable`; nothing is stored then.
    """
    if not text.strip():
        raise InvalidInput("text", "text is empty: there would be nothing to tell the agent; say something")
    _check_size("text", text)

    def message(_tx: sa.Connection, _task: Task, number: int, at: datetime) -> Input:
        return Input(number, at, text=text)

    return _send(product, task_id, by, message)


def answer(product: Product, task_id: str, question_id: str | None, given: str, by: str) -> Input:
    """Store the answer to a question; without an id, to the only one that is open.

    Raises what `send_message` does, and `NotWaitingForInput`.
    """
    _check_size("answer", given)

    def answered(tx: sa.Connection, task: Task, number: int, at: datetime) -> Input:
        question = _question(tx, task, question_id)
        try:
            check_answer(question, given)
        except ValueError as error:
            raise InvalidInput("answer", str(error)) from error
        return Input(number, at, question_id=question.id, answer=given, request=question.request)

    return _send(product, task_id, by, answered)


def _check_size(name: str, text: str) -> None:
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise InvalidInput(
            name, f"{name} has {size:,} bytes: at most {MAX_TEXT_BYTES:,} are allowed; shorten it, or send it in parts"
        )


def _send(
    product: Product, task_id: str, by: str, make: Callable[[sa.Connection, Task, int, datetime], Input]
) -> Input:
    at = clock.now()
    with product.database.write() as tx:
        task = tasks.get(tx, task_id, for_update=True)
        if task is None:
            raise TaskNotFound(task_id)
        _check_open(task)
        number = conversation.next_number(tx, task_id)
        if number > MAX_INPUTS:
            raise TooManyInputs(task)
        given = make(tx, task, number, at)
        size = len((given.text or given.answer or "").encode())
        if conversation.sent_bytes(tx, task_id) + size > MAX_INPUT_BYTES:
            raise TooManyInputs(task)
        conversation.send(tx, task_id, task.attempt, given, by)
        journal.append(tx, task.claim, [NewRecord(Kind.EVENT, at, body=_told(given, by))])
    log.info("input stored", extra={"task": task_id, "number": given.number, "by": by})
    return given


def _check_open(task: Task) -> None:
    if task.is_terminal:
        raise AlreadyTerminal(task, f"; {_go_on(task)}" if "claude" in task.definition else "")
    claude = Manifest.from_definition(task.definition).claude
    if claude is None or not claude.interactive:
        raise NotInteractive(task)
    # A task that is pending again is given what is sent in its next attempt.
    done = task.state is not State.PENDING and task.input_closed == task.attempt
    if done or task.state is State.COMPLETING or task.cancellation is not None:
        raise InputClosed(task)


def _question(tx: sa.Connection, task: Task, question_id: str | None) -> Question:
    # What an attempt that was lost had asked may come late, when the task waits for its next one.
    waiting = []
    if task.state is State.RUNNING:
        waiting = conversation.open_questions(tx, task.id, task.attempt, question_id=question_id)
    if len(waiting) > 1:
        ids = ", ".join(one.id for one in waiting[:NAMED]) + (", …" if len(waiting) > NAMED else "")
        raise InvalidInput("id", f"task {task.id} waits for answers to {len(waiting)} questions: name one in id: {ids}")
    if waiting:
        return waiting[0]
    fate = conversation.fate_of(tx, task.id, task.attempt, question_id)
    why = f"question {question_id or '(the last one)'} is not open: {fate}" if fate else "nobody asked for this answer"
    raise NotWaitingForInput(
        f"task {task.id}: {why}; `sandbox task status {task.id}` shows what it waits for, and a message can be sent at "
        "any time"
    )


def _go_on(task: Task) -> str:
    return f"go on with `sandbox task resume {task.id} PROMPT` if its session is kept"


def _told(given: Input, by: str) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "input", "number": given.number, "by": by}
    said = given.text if given.text is not None else given.answer or ""
    shown = said.encode()[:TOLD_BYTES].decode("utf-8", "ignore")
    if given.text is not None:
        body |= {"kind": "message", "text": shown}
    else:
        body |= {"kind": "answer", "question_id": given.question_id, "answer": shown}
    return body | ({"truncated": True} if shown != said else {})
