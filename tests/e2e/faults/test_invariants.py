"""Each invariant can fail: a made-up history is consistent, and one change to it is found by the right check."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from tests.e2e.faults.evidence import ArtifactSeen, Evidence, TaskSeen
from tests.e2e.faults.invariants import violations
from tests.e2e.faults.witness import EngineEvent, Life, lives
from tests.e2e.submitting import Json

SECOND = 1_000_000_000
STATES = ("pending", "staging", "provisioning", "ready", "running", "completing", "completed")

STEPS: tuple[tuple[str | None, str], ...] = ((None, "pending"), *pairwise(STATES))


@dataclass
class Story:
    """A task's history in parts that a test may change before it becomes evidence."""

    view: Json | None = field(
        default_factory=lambda: {
            "id": "t",
            "state": "completed",
            "state_message": "",
            "attempt": 1,
            "finished_at": "1970-01-01T00:00:10.000000Z",
            "outcome": {"reason": "exit_zero", "exit_code": 0},
            "attempts": [{"attempt": 1, "started_at": "x", "outcome": {"reason": "exit_zero"}}],
        }
    )
    states: list[tuple[str | None, str]] = field(
        default_factory=lambda: list(zip((None, *STATES), STATES, strict=False))
    )
    said: list[str] = field(default_factory=lambda: ["begin a", "ticks 3", "tick 1", "tick 2", "tick 3"])
    seqs: list[int] | None = None
    runs: list[Life] = field(default_factory=lambda: [life(1, 1, 5)])
    artifact: ArtifactSeen = field(default_factory=lambda: ArtifactSeen("a", 1, "sha256:ab", 1, "ab", "ab"))
    leftovers: list[str] = field(default_factory=list)
    log: str = "2026-01-01T00:00:00Z info x: all well\n"

    def records(self) -> list[Json]:
        changes = [
            {"stream": "event", "type": "state_change", "previous_state": before, "new_state": after}
            for before, after in self.states
        ]
        output = [
            {"stream": "gap"} if line == "GAP" else {"stream": "stdout", "data": f"{line}\n"} for line in self.said
        ]
        seqs = self.seqs or list(range(1, len(changes) + len(output) + 1))
        return [{"seq": seq, **one} for seq, one in zip(seqs, [*changes, *output], strict=True)]

    def evidence(self) -> Evidence:
        records = tuple(self.records())
        seen = TaskSeen("t", self.view, records, {1: records, 2: ()}, (self.artifact,))
        return Evidence((seen,), tuple(self.runs), tuple(self.leftovers), {"w1.log": self.log})


def life(attempt: int, start: int, end: int | None, code: int = 0) -> Life:
    ended = None if end is None else end * SECOND
    return Life(f"c{attempt}", "t", attempt, "task", "w1", start * SECOND, ended, code)


def lost(story: Story) -> None:
    story.view = None


def resting(story: Story) -> None:
    assert story.view
    story.view["state"] = "running"
    del story.states[5:]


def seq_with_hole(story: Story) -> None:
    story.seqs = [*range(1, 12), 13]


def seq_twice(story: Story) -> None:
    story.seqs = [*range(1, 12), 11]


def leap(story: Story) -> None:
    story.states[1:3] = [("pending", "provisioning")]


def ended_twice(story: Story) -> None:
    story.states.append(("completed", "failed"))


def untold_step(story: Story) -> None:
    del story.states[2]


def told_otherwise(story: Story) -> None:
    assert story.view
    story.view["state"] = "failed"


def two_at_once(story: Story) -> None:
    assert story.view
    story.view["attempts"].append({"attempt": 2, "started_at": "x", "outcome": None})
    story.view["attempt"] = 2
    story.runs.append(life(2, 4, 8))


def never_ended(story: Story) -> None:
    two_at_once(story)
    story.runs = [life(1, 1, None), life(2, 6, 8)]


def started_twice(story: Story) -> None:
    story.runs.append(life(1, 6, 8))


def unknown_attempt(story: Story) -> None:
    story.runs.append(life(3, 6, 8))


def never_started(story: Story) -> None:
    story.runs = []


def other_exit_code(story: Story) -> None:
    story.runs = [life(1, 1, 5, code=3)]


def started_after_the_end(story: Story) -> None:
    story.runs = [life(1, 11, 12)]


def lived_on_when_cancelled(story: Story) -> None:
    assert story.view
    story.view |= {"state": "cancelled", "outcome": {"reason": "cancelled"}}
    story.states[-1] = ("completing", "cancelled")
    story.runs = [life(1, 1, 11, code=137)]


def line_twice(story: Story) -> None:
    story.said.insert(3, "tick 1")


def line_missing(story: Story) -> None:
    story.said.remove("tick 2")


def last_line_missing(story: Story) -> None:
    story.said.remove("tick 3")


def ran_twice(story: Story) -> None:
    story.said.insert(1, "begin b")


def something_left(story: Story) -> None:
    story.leftovers.append("container c1 is left in the engine")


def wrong_checksum(story: Story) -> None:
    story.artifact = replace(story.artifact, received_sha256="cd")


def wrong_size(story: Story) -> None:
    story.artifact = replace(story.artifact, received_bytes=0)


def traceback(story: Story) -> None:
    story.log += "2026-01-01T00:00:01Z error x: broke\nTraceback (most recent call last):\n  File x\nKeyError: 1\n"


def keeper_fault(story: Story) -> None:
    story.log = '{"at": 1.0, "event": "fault", "pid": 1, "error": "KeyError(1)"}\n'


BROKEN: list[tuple[str, Callable[[Story], None]]] = [
    ("I1", lost),
    ("I1", resting),
    ("I2", seq_with_hole),
    ("I2", seq_twice),
    ("I2", leap),
    ("I2", ended_twice),
    ("I2", untold_step),
    ("I2", told_otherwise),
    ("I3", two_at_once),
    ("I3", never_ended),
    ("I4", started_twice),
    ("I4", unknown_attempt),
    ("I4", never_started),
    ("I4", other_exit_code),
    ("I4", started_after_the_end),
    ("I4", lived_on_when_cancelled),
    ("I5", line_twice),
    ("I5", line_missing),
    ("I5", last_line_missing),
    ("I5", ran_twice),
    ("I6", something_left),
    ("I7", wrong_checksum),
    ("I7", wrong_size),
    ("I8", traceback),
    ("I8", keeper_fault),
]


def test_a_history_as_it_should_be_has_no_violation() -> None:
    assert violations(Story().evidence()) == []


@pytest.mark.parametrize(("invariant", "breaks"), BROKEN, ids=[breaks.__name__ for _, breaks in BROKEN])
def test_one_wrong_thing_is_found_by_its_invariant(invariant: str, breaks: Callable[[Story], None]) -> None:
    story = deepcopy(Story())
    breaks(story)
    found = violations(story.evidence())
    assert {text[:2] for text in found} == {invariant}, found


def test_lines_may_be_missing_inside_a_gap_and_at_the_end_of_a_lost_attempt() -> None:
    story = Story(said=["begin a", "ticks 9", "tick 1", "GAP", "tick 5"])
    assert story.view
    story.view["attempts"][0]["outcome"] = {"reason": "worker_lost"}
    assert violations(story.evidence()) == []


def test_a_traceback_that_a_test_names_is_allowed_and_no_other() -> None:
    story = Story()
    traceback(story)
    assert violations(story.evidence(), allowed=["x: broke"]) == []
    assert violations(story.evidence(), allowed=["y: broke"])


def test_instants_say_nothing_when_clocks_differ() -> None:
    story = Story()
    started_after_the_end(story)
    assert violations(replace(story.evidence(), clocks_agree=False)) == []


def test_a_container_whose_die_was_missed_has_ended_when_it_was_destroyed() -> None:
    labels = {"sandbox.task": "t", "sandbox.attempt": "1", "sandbox.role": "task", "sandbox.worker": "w"}
    events = [EngineEvent(1, "start", "c", labels), EngineEvent(9, "destroy", "c", labels)]
    [found] = lives(events)
    assert (found.ended_ns, found.exit_code) == (9, None)
