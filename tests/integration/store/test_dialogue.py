"""What people send reaches a running agent once and in order, whoever of its workers dies in between."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import clock
from orchestrator.models import Claim, Input, Question
from orchestrator.product import Product
from orchestrator.services.send_input import InputClosed, answer, send_message
from orchestrator.states import State
from orchestrator.store import conversation
from tests.integration.store.given import talking
from workers import dialogue
from workers.attempt import Attempt
from workers.dialogue import Dialogue
from workers.supervisor import Limits, Signals, Verdict
from workers.workspace import AttemptDirectory


class Agent:
    def said(self, given: Input) -> str:
        return f"{given.number}:{given.text or given.answer}"


class Talking(SimpleNamespace):
    """As much of an attempt as a dialogue asks for. `seen` is what its agent's reader knows."""

    def __init__(self, product: Product, claim: Claim, root: Path) -> None:
        directory = AttemptDirectory(root)
        self.seen: dict[str, Any] = {"idle": False, "taken": [0]}
        super().__init__(
            equipment=SimpleNamespace(product=product),
            claim=claim,
            state=State.RUNNING,
            directory=directory,
            agent=Agent(),
            pump=SimpleNamespace(seen=self.seen),
            signals=Signals(),
        )

    @property
    def inbox(self) -> dict[str, str]:
        return {one.name: one.read_text() for one in sorted(self.directory.input.iterdir())}


@pytest.fixture
def attempt(product: Product, tmp_path: Path) -> Talking:
    made = Talking(product, talking(product), tmp_path / "attempt")
    made.directory.input.mkdir(parents=True)
    return made


def look(attempt: Talking, times: int = 1) -> bool:
    """What a worker that has just taken the attempt does in its first rounds; true when the conversation is over."""
    fresh = Dialogue(cast(Attempt, attempt))
    return [fresh._look() for _ in range(times)][-1]


def asked(product: Product, claim: Claim) -> None:
    with product.database.write() as tx:
        conversation.ask(tx, claim, [Question("q", clock.now(), "question", "which?", ("a", "b"))])


def test_everything_is_handed_over_once_and_in_order_by_whichever_worker(product: Product, attempt: Talking) -> None:
    send_message(product, "t", "first", "alice")
    look(attempt, times=2)
    asked(product, attempt.claim)
    answer(product, "t", "q", "a", "bob")
    send_message(product, "t", "third", "alice")
    look(attempt)
    look(attempt)
    assert attempt.inbox == {"1": "1:first\n", "2": "2:a\n", "3": "3:third\n"}


def test_a_worker_that_died_while_it_wrote_left_nothing_that_counts(product: Product, attempt: Talking) -> None:
    (attempt.directory.input / ".1").write_text("half")
    send_message(product, "t", "first", "alice")
    look(attempt)
    assert attempt.inbox == {"1": "1:first\n"}


def test_a_question_is_told_to_the_supervisor_until_it_is_answered(product: Product, attempt: Talking) -> None:
    asked(product, attempt.claim)
    look(attempt)
    limits = Limits(0.0, 1e9, 1.0, input_timeout=0.0)
    assert attempt.signals.supervise(limits) is Verdict.INPUT
    answer(product, "t", "q", "b", "alice")
    look(attempt)
    attempt.signals.exited()
    assert attempt.signals.supervise(limits) is Verdict.EXITED


def test_it_ends_when_the_agent_rests_and_has_taken_in_all_messages(product: Product, attempt: Talking) -> None:
    assert not look(attempt)
    send_message(product, "t", "first", "alice")
    attempt.seen["idle"] = True
    assert not look(attempt, times=2)
    attempt.seen["taken"].append(1)
    assert look(attempt)
    assert attempt.inbox == {"1": "1:first\n", "end": "1\n"}
    with pytest.raises(InputClosed):
        send_message(product, "t", "late", "alice")


def test_a_worker_that_died_between_the_end_and_telling_of_it_tells_it_again(
    product: Product, attempt: Talking
) -> None:
    attempt.seen["idle"] = True
    with product.database.write() as tx:
        assert conversation.close(tx, attempt.claim, 0)
    assert look(attempt)
    assert attempt.inbox == {"end": "0\n"}
    assert look(attempt)


def test_a_message_that_comes_first_keeps_it_open(
    product: Product, attempt: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.seen["idle"] = True
    send_message(product, "t", "just in time", "alice")
    monkeypatch.setattr(dialogue.conversation, "inputs_after", lambda _tx, _claim, _after: [])
    assert not look(attempt)
    monkeypatch.undo()
    assert not look(attempt)
    assert attempt.inbox == {"1": "1:just in time\n"}


def test_an_agent_that_waits_for_an_answer_is_not_done(product: Product, attempt: Talking) -> None:
    attempt.seen["idle"] = True
    asked(product, attempt.claim)
    assert not look(attempt)
    assert attempt.inbox == {}


def test_the_thread_goes_on_after_a_fault_and_ends_with_the_command(
    product: Product, attempt: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "LOOK_SECONDS", 0.01)
    put, faults = AttemptDirectory.put_input, [OSError(28, "No space left on device")]

    def full_once(self: AttemptDirectory, name: str, text: str) -> None:
        if faults:
            raise faults.pop()
        put(self, name, text)

    monkeypatch.setattr(AttemptDirectory, "put_input", full_once)
    send_message(product, "t", "first", "alice")
    attempt.seen |= {"idle": True, "taken": [0, 1]}
    going = Dialogue(cast(Attempt, attempt))
    going.start()
    going._thread.join(30)
    assert attempt.inbox == {"1": "1:first\n", "end": "1\n"}
