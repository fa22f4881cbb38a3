"""The life cycle: contract §2, one sentence a test."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.states import ACTIVE, TERMINAL, TRANSITIONS, Event, IllegalTransition, State, after, mermaid

HAPPY_PATH = (
    Event.CLAIM,
    Event.WORKSPACE_MADE,
    Event.SANDBOX_VERIFIED,
    Event.GATE_OPENED,
    Event.ENDED,
    Event.SUCCEED,
)


def reachable(start: State) -> set[State]:
    """Every state that some sequence of events leads to from `start`."""
    found, new = {start}, {start}
    while new:
        new = {end for (state, _), end in TRANSITIONS.items() if state in new} - found
        found |= new
    return found


def test_every_state_is_reached_from_pending() -> None:
    assert reachable(State.PENDING) == set(State)


def test_every_event_moves_some_state() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_the_happy_path_passes_all_states_in_the_order_of_the_contract() -> None:
    states = list(itertools.accumulate(HAPPY_PATH, after, initial=State.PENDING))
    assert [state.value for state in states] == [
        "pending", "staging", "provisioning", "ready", "running", "completing", "completed",
    ]  # fmt: skip


def test_the_terminal_states_are_those_of_the_contract() -> None:
    assert {state.value for state in TERMINAL} == {"completed", "failed", "failed_preserved", "cancelled"}


def test_a_worker_owns_a_task_from_staging_to_completing() -> None:
    assert set(State) - TERMINAL - {State.PENDING} == ACTIVE


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("event", Event)
def test_a_task_never_leaves_a_terminal_state(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"{state} has no transition for {event}"):
        after(state, event)


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_failed_and_cancelled_are_reached_from_every_state_that_is_not_terminal(state: State) -> None:
    assert after(state, Event.FAIL) is State.FAILED
    assert after(state, Event.CANCEL) is State.CANCELLED


def test_a_sandbox_is_preserved_only_where_one_exists_and_ran() -> None:
    starts = {state for (state, _), end in TRANSITIONS.items() if end is State.FAILED_PRESERVED}
    assert starts == {State.RUNNING, State.COMPLETING}


def test_a_new_attempt_returns_the_task_to_pending_from_every_owned_state_and_no_other() -> None:
    starts = {state for (state, _), end in TRANSITIONS.items() if end is State.PENDING}
    assert starts == ACTIVE
    assert {event for (_, event), end in TRANSITIONS.items() if end is State.PENDING} == {Event.RETRY}


def test_a_task_is_completed_only_after_its_artifacts_were_stored() -> None:
    assert {state for (state, _), end in TRANSITIONS.items() if end is State.COMPLETED} == {State.COMPLETING}


def test_nobody_works_on_a_task_before_it_was_claimed() -> None:
    assert {event for state, event in TRANSITIONS if state is State.PENDING} == {Event.CLAIM, Event.FAIL, Event.CANCEL}


def test_the_picture_shows_every_transition_and_every_end() -> None:
    lines = [line.strip() for line in mermaid().splitlines()]
    assert lines[:2] == ["stateDiagram-v2", "[*] --> pending"]
    arrows = {f"{start} --> {end}: {event}" for (start, event), end in TRANSITIONS.items()}
    assert set(lines[2:]) == arrows | {f"{state} --> [*]" for state in TERMINAL}
