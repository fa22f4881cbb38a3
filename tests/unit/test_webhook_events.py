"""Which records are events, who hears of them, and what is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.models import Kind, Record, Task, TaskFacts, Webhook
from orchestrator.outcomes import Outcome, Reason
from orchestrator.states import State
from orchestrator.store.rows import LISTED
from orchestrator.webhooks.events import Event, body_of, chosen, event_id, events_of, hears

AT = datetime(2026, 1, 29, 10, 15, 2, 131207, UTC)
FACTS = TaskFacts("t", "A task", {"team": "a", "env": "test"}, None, "alice")
EVERYTHING = tuple(event.value for event in Event)
HOOK = Webhook("wh_1", "https://hooks.example.org/", EVERYTHING, AT, owner=None)
SECRETS = {"claude": {"prompt": "the prompt"}, "notify": [{"secret": "the secret"}]}


def record(kind: Kind, /, **body: Any) -> Record:
    return Record(7, "t", 1, 5, 5, AT, kind, None, body, None, 3)


def moved(new_state: str) -> Record:
    return record(Kind.STATE_CHANGE, previous_state="running", new_state=new_state, state_message="why")


def task(**changes: Any) -> Task:
    listed = dict.fromkeys(LISTED) | {"id": "t", "name": "A task", "labels": {"team": "a"}, "output_bytes": 10}
    rest = {name: None for name in Task.__dataclass_fields__ if name not in listed}
    known = {"state": State.COMPLETED, "attempt": 1, "worker": "w", "exit_code": 0, "definition": SECRETS}
    return Task(**{**listed, **rest, **known, **changes})


@pytest.mark.parametrize(
    ("of", "events"),
    [
        (moved("running"), [Event.STATE_CHANGE]),
        (moved("completed"), [Event.STATE_CHANGE, Event.TERMINAL]),
        (moved("failed_preserved"), [Event.STATE_CHANGE, Event.TERMINAL]),
        (record(Kind.ARTIFACT, artifact={}), [Event.ARTIFACT]),
        (record(Kind.EVENT, type="input_required"), [Event.INPUT_REQUIRED]),
        (record(Kind.EVENT, type="tool_use"), []),
        (record(Kind.OUTPUT), []),
        (record(Kind.METRICS), []),
    ],
)
def test_records_are_events_or_none(of: Record, events: list[Event]) -> None:
    assert events_of(of) == events


@pytest.mark.parametrize(
    ("changes", "hears_of_it"),
    [
        ({}, True),
        ({"events": ("artifact",)}, False),
        ({"owner": "alice"}, True),
        ({"owner": "bob"}, False),
        ({"labels": {"team": "a"}}, True),
        ({"labels": {"team": "a", "env": "test"}}, True),
        ({"labels": {"team": "a", "env": "live"}}, False),
        ({"labels": {"other": "a"}}, False),
        ({"created_at": AT + timedelta(microseconds=1)}, False),
        ({"task_id": "t", "created_at": AT + timedelta(seconds=1)}, True),
        ({"task_id": "another"}, False),
    ],
)
def test_a_webhook_hears_of_its_events_its_owners_tasks_all_its_labels_and_what_came_after_it(
    changes: dict[str, Any], hears_of_it: bool
) -> None:
    assert hears(replace(HOOK, **changes), moved("running"), Event.STATE_CHANGE, FACTS) is hears_of_it


def test_an_owner_does_not_hear_of_tasks_of_the_time_before_there_were_owners() -> None:
    assert not hears(replace(HOOK, owner="alice"), moved("running"), Event.STATE_CHANGE, replace(FACTS, owner=None))


def test_an_id_is_the_same_for_the_same_and_another_for_anything_else() -> None:
    one = moved("completed")
    ids = {
        event_id(HOOK, one, Event.TERMINAL),
        event_id(HOOK, one, Event.STATE_CHANGE),
        event_id(replace(HOOK, id="wh_2"), one, Event.TERMINAL),
        event_id(HOOK, replace(one, first_seq=6), Event.TERMINAL),
        event_id(HOOK, replace(one, task_id="u"), Event.TERMINAL),
        event_id(HOOK, replace(one, at=AT + timedelta(microseconds=1)), Event.TERMINAL),
    }
    assert len(ids) == 6
    assert event_id(HOOK, replace(one, position=99, transaction_id=9), Event.TERMINAL) in ids


def test_the_end_of_a_task_is_sent_with_its_outcome_and_nothing_of_its_definition() -> None:
    outcome = Outcome(Reason.EXIT_NONZERO, "the command exited with 3", exit_code=3)
    body = body_of("msg_1", moved("failed"), Event.TERMINAL, task(outcome=outcome, exit_code=3))
    assert json.loads(body) == {
        "id": "msg_1",
        "type": "task.terminal",
        "timestamp": "2026-01-29T10:15:02.131207Z",
        "data": {
            "task": {
                "id": "t",
                "name": "A task",
                "state": "completed",
                "labels": {"team": "a"},
                "parent_id": None,
                "attempt": 1,
                "worker": "w",
                "exit_code": 3,
                "outcome": outcome.to_dict(),
            },
            "previous_state": "running",
            "new_state": "failed",
            "state_message": "why",
        },
    }


def test_an_artifact_is_sent_with_its_address_which_names_an_attempt_that_is_not_the_latest() -> None:
    stored = record(Kind.ARTIFACT, artifact={"path": "out/a b.txt", "name": "a b.txt", "size_bytes": 5})
    sent = json.loads(body_of("msg_1", stored, Event.ARTIFACT, task()))["data"]["artifact"]
    assert sent["download_url"] == "/api/v1/tasks/t/artifacts/out/a%20b.txt"
    later = json.loads(body_of("msg_1", stored, Event.ARTIFACT, task(attempt=2)))["data"]["artifact"]
    assert later == {**sent, "download_url": f"{sent['download_url']}?attempt=1"}


def test_a_question_is_sent_with_its_options_and_only_what_the_product_knows_of_it() -> None:
    asked = record(Kind.EVENT, type="input_required", id="q", kind="question", text="which?", options=["a"], more="x")
    assert json.loads(body_of("msg_1", asked, Event.INPUT_REQUIRED, task()))["data"]["input_required"] == {
        "id": "q",
        "kind": "question",
        "text": "which?",
        "options": ["a"],
        "asked_at": "2026-01-29T10:15:02.131207Z",
    }


def test_what_is_sent_is_ascii_whatever_a_task_is_called() -> None:
    body = body_of("msg_1", moved("running"), Event.STATE_CHANGE, task(name="Größe\u2028\ud800"))
    assert body.isascii()


def test_events_are_kept_once_each_and_in_one_order() -> None:
    assert chosen(["terminal", "state_change", "terminal"]) == ("state_change", "terminal")
