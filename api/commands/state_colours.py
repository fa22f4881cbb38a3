"""The colour of each state on a terminal."""

from __future__ import annotations

from orchestrator.states import TERMINAL, State


def colour_of(state: object) -> str:
    """Return the name of the colour; empty for what is no state."""
    if state not in list(State):
        return ""
    if state == State.COMPLETED:
        return "green"
    if state == State.CANCELLED:
        return "yellow"
    return "red" if state in TERMINAL else "cyan"
