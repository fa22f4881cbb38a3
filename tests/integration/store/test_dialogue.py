"""What people send reaches a running agent once and in order, whoever of its workers dies in between."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import timedelta
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
from orchestrator.store.database import StoreUnavailable
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
    return [fresh.look_now() for _ in range(times)][-1]


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


def test_a_worker_that_takes_it_up_knows_at_once_how_long_it_has_waited(
    product: Product, attempt: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a task whose clock stands still while it waits would be over its time before anybody looked."""
    monkeypatch.setattr(dialogue, "LOOK_SECONDS", 1e6)
    attempt.manifest = SimpleNamespace(claude=SimpleNamespace(interactive=True))
    attempt.undo, attempt.dialogue = ExitStack(), None
    attempt.pause = lambda _: None
    with product.database.write() as tx:
        asked_at = clock.now() - timedelta(hours=5)
        conversation.ask(tx, attempt.claim, [Question("q", asked_at, "question", "which?")])
    faults = [StoreUnavailable("away")]
    open_questions = conversation.open_questions

    def away_once(*given: Any) -> list[Question]:
        if faults:
            raise faults.pop()
        return open_questions(*given)

    monkeypatch.setattr(dialogue.conversation, "open_questions", away_once)
    with attempt.undo:
        dialogue.start_dialogue(cast(Attempt, attempt))
        attempt.signals.exited()
        an_hour = Limits(time.monotonic() - 5 * 3600, 3600.0, None, input_timeout=1e6, pauses=True)
        assert attempt.signals.supervise(an_hour) is Verdict.EXITED
        assert attempt.signals.waits_for_input()


def test_a_jump_of_the_wall_clock_ends_no_wait(
    product: Product, attempt: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = Dialogue(cast(Attempt, attempt))
    asked(product, attempt.claim)
    going.look_now()
    now = clock.now
    monkeypatch.setattr(dialogue.clock, "now", lambda: now() + timedelta(hours=1))
    going.look_now()
    attempt.signals.exited()
    assert attempt.signals.supervise(Limits(time.monotonic(), 1e6, None, input_timeout=1800.0)) is Verdict.EXITED


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
