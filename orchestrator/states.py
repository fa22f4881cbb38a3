"""The life cycle of a task: one table, keyed by (state, event). Nothing else decides a state.

The picture in the README is drawn from `TRANSITIONS` by `mermaid()`; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What is true of a task (contract §2)."""

    PENDING = "pending"
    """Accepted and stored. A submission or a retry moves a task in; a worker's claim moves it out."""
    STAGING = "staging"
    """A worker owns it and makes the workspace: secrets, disk, clone."""
    PROVISIONING = "provisioning"
    """The image and the container are being made."""
    READY = "ready"
    """The sandbox is started and inspected; the command waits at its gate."""
    RUNNING = "running"
    """The gate is open: the command runs."""
    COMPLETING = "completing"
    """It ended or is being stopped; artifacts and the log's tail are being stored."""
    COMPLETED = "completed"
    """Exit code 0, everything stored."""
    FAILED = "failed"
    """Anything else that was not asked for."""
    FAILED_PRESERVED = "failed_preserved"
    """Failed, and the sandbox is kept to look inside."""
    CANCELLED = "cancelled"
    """Cancelled, and the engine has reported the sandbox gone."""


class Event(StrEnum):
    """What happens to a task."""

    CLAIM = "claim"  # pending -> staging: a worker took the attempt
    WORKSPACE_MADE = "workspace_made"  # staging -> provisioning
    SANDBOX_VERIFIED = "sandbox_verified"  # provisioning -> ready
    GATE_OPENED = "gate_opened"  # ready -> running
    ENDED = "ended"  # running -> completing: the command ended or is being stopped
    SUCCEED = "succeed"  # completing -> completed
    FAIL = "fail"  # any non-terminal state -> failed
    PRESERVE = "preserve"  # running, completing -> failed_preserved
    CANCEL = "cancel"  # any non-terminal state -> cancelled
    RETRY = "retry"  # any owned state -> pending: a new attempt is due


_WAITING = (State.PENDING,)
_OWNED = (State.STAGING, State.PROVISIONING, State.READY, State.RUNNING, State.COMPLETING)

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.PENDING, Event.CLAIM): State.STAGING,
    (State.STAGING, Event.WORKSPACE_MADE): State.PROVISIONING,
    (State.PROVISIONING, Event.SANDBOX_VERIFIED): State.READY,
    (State.READY, Event.GATE_OPENED): State.RUNNING,
    (State.RUNNING, Event.ENDED): State.COMPLETING,
    (State.COMPLETING, Event.SUCCEED): State.COMPLETED,
    (State.RUNNING, Event.PRESERVE): State.FAILED_PRESERVED,
    (State.COMPLETING, Event.PRESERVE): State.FAILED_PRESERVED,
    **{(state, Event.FAIL): State.FAILED for state in _WAITING + _OWNED},
    **{(state, Event.CANCEL): State.CANCELLED for state in _WAITING + _OWNED},
    **{(state, Event.RETRY): State.PENDING for state in _OWNED},
}

TERMINAL = frozenset(State) - {state for state, _ in TRANSITIONS}
"""The states no event leaves: derived, never listed."""
ACTIVE = frozenset(state for state, event in TRANSITIONS if event is Event.RETRY)
"""The states in which a worker owns the task."""
RAN = frozenset(state for state, event in TRANSITIONS if event is Event.PRESERVE)
"""The states in which the command has begun to run: there is something to look into."""
BEFORE_RUNNING = ACTIVE - RAN
"""A worker owns the task, and nothing of it has run yet."""


class IllegalTransition(Exception):
    """The table has no row for this state and event."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a task in state {state} has no transition for {event}")
        self.state = state
        self.event = event


def after(state: State, event: Event) -> State:
    """Return the state that `event` leads to from `state`; raise `IllegalTransition` if there is none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def mermaid() -> str:
    """Return the life cycle as a Mermaid state diagram: the README's picture."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.PENDING}"]
    lines += [f"    {start} --> {end}: {event}" for (start, event), end in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
