"""What agents ask and what people send them: stored once, in order, and never after the conversation has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, Input, Kind, Question
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services.cancel import AlreadyTerminal, TaskNotFound, Wish, cancel
from orchestrator.services.claim import advance
from orchestrator.services.conclude import conclude, lose
from orchestrator.services.expire import expire_log, forget
from orchestrator.services.place import take_turn
from orchestrator.services.purge import purge
from orchestrator.services.send_input import (
    MAX_INPUTS,
    MAX_TEXT_BYTES,
    TOLD_BYTES,
    InputClosed,
    InvalidInput,
    NotInteractive,
    NotWaitingForInput,
    TooManyInputs,
    answer,
    send_message,
)
from orchestrator.states import Event, State
from orchestrator.store import conversation, older_version, progress
from orchestrator.store.conversation import MOST_OPEN
from orchestrator.store.database import Database
from orchestrator.store.tables import inputs, questions
from tests.integration.store.given import claimed, now, registered, running, submitted, talking, together
from tests.integration.store.plans import heard, plan_of

AT = datetime(2026, 1, 29, 12, 0, 0, tzinfo=UTC)
RETRIED = {"retry": {"max_attempts": 3, "on": ["exit_nonzero"], "backoff": "0s"}}


def question(number: int = 1, seconds: float = 0, **fields: Any) -> Question:
    known: dict[str, Any] = {"kind": "question", "text": f"What about {number}?", "options": ("a", "b")}
    return Question(f"q{number}", AT + timedelta(seconds=seconds), **{**known, "request": {"n": number}, **fields})


def asked(product: Product, claim: Claim, *found: Question) -> None:
    with product.database.write() as tx:
        conversation.ask(tx, claim, found)


def waiting(product: Product, task_id: str = "t") -> list[str]:
    """The questions that are open in the present attempt."""
    with product.database.read() as tx:
        return [one.id for one in conversation.open_questions(tx, task_id, now(product, task_id).attempt)]


def given_to(product: Product, claim: Claim, after: int = 0) -> list[Input]:
    with product.database.read() as tx:
        return conversation.inputs_after(tx, claim, after)


def closed(product: Product, claim: Claim, after: int) -> bool:
    with product.database.write() as tx:
        return conversation.close(tx, claim, after)


def again(product: Product, claim: Claim) -> Claim:
    """The attempt fails, and the next one runs."""
    conclude(product, claim, of_exit(1, oom_killed=False))
    following = claimed(product, claim.task_id, attempt=claim.attempt + 1)
    for state, event in ((State.STAGING, Event.WORKSPACE_MADE), (State.PROVISIONING, Event.SANDBOX_VERIFIED),
                         (State.READY, Event.GATE_OPENED)):  # fmt: skip
        advance(product, following, state, event, event)
    return following


# --- questions


def test_questions_wait_oldest_first_and_asking_again_changes_nothing(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question(2, 5), question(1, 9), question(3, 5))
    asked(product, claim, question(1, 99, text="changed"), question(4, 20))
    with product.database.read() as tx:
        found = conversation.open_questions(tx, "t", 1)
    assert found == [question(2, 5), question(3, 5), question(1, 9), question(4, 20)]
    asked(product, claim)
    assert waiting(product) == ["q2", "q3", "q1", "q4"]


def test_what_is_withdrawn_is_not_open_and_what_was_answered_stays_answered(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question(1), question(2), question(3))
    answer(product, "t", "q2", "a", "alice")
    with product.database.write() as tx:
        conversation.withdraw(tx, claim, ["q1", "q2", "unknown"], AT)
    assert waiting(product) == ["q3"]
    with product.database.read() as tx:
        assert "answered already, at" in str(conversation.fate_of(tx, "t", 1, "q2"))
        assert conversation.fate_of(tx, "t", 1, "q1") == "the agent withdrew it at 2026-01-29T12:00:00.000000Z"
        assert conversation.fate_of(tx, "t", 1, "unknown") is None


def ended(product: Product, claim: Claim) -> None:
    advance(product, claim, State.RUNNING, Event.ENDED, "it ended")


def failed(product: Product, claim: Claim) -> None:
    conclude(product, claim, of_exit(1, oom_killed=False))


def lost(product: Product, claim: Claim) -> None:
    with product.database.write() as tx:
        take_turn(tx)
        lose(tx, now(product, claim.task_id), "w", clock.now())


@pytest.mark.parametrize("end", [ended, failed, lost])
@pytest.mark.parametrize("lifecycle", [{}, RETRIED])
def test_an_agent_that_has_ended_waits_for_nothing(
    product: Product, end: Callable[[Product, Claim], None], lifecycle: dict[str, Any]
) -> None:
    claim = talking(product, lifecycle=lifecycle)
    asked(product, claim, question())
    with product.database.read() as tx:
        assert conversation.open_of(tx, ["t"]) == {"t": question(request={})}
    end(product, claim)
    assert waiting(product) == []
    with product.database.read() as tx:
        assert conversation.open_of(tx, ["t"]) == {}


def test_each_task_shows_the_first_thing_its_present_attempt_waits_for(product: Product) -> None:
    first = talking(product, "t", lifecycle=RETRIED)
    asked(product, first, question(9))
    second = again(product, first)
    asked(product, second, question(2, 2), question(1, 1))
    asked(product, talking(product, "other"), question(5))
    talking(product, "silent")
    with product.database.read() as tx:
        assert conversation.open_of(tx, ["t", "other", "silent", "unknown"]) == {
            "t": question(1, 1, request={}),
            "other": question(5, request={}),
        }
        assert conversation.open_of(tx, []) == {}


def test_an_attempt_that_a_reaper_of_the_version_before_ended_waits_for_nothing(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question())
    with product.database.write() as tx:  # it knows no questions
        tx.execute(sa.text("UPDATE attempts SET finished_at = 7 WHERE task_id = 't'"))
        tx.execute(sa.text("UPDATE tasks SET state = 'failed', finished_at = 7 WHERE id = 't'"))
    living = talking(product, "living")
    asked(product, living, question())
    with product.database.read() as tx:
        assert conversation.open_of(tx, ["t"]) == {}
    with product.database.write() as tx:
        older_version.mend(tx)
        assert conversation.fate_of(tx, "t", 1, "q1") == "the agent withdrew it at 1970-01-01T00:00:00.000007Z"
    assert (waiting(product), waiting(product, "living")) == ([], ["q1"])
    with pytest.raises(AlreadyTerminal):
        answer(product, "t", None, "a", "alice")


def test_what_lists_ask_about_questions_is_found_by_an_index(product: Product) -> None:
    talking(product)
    with product.database.read() as tx:
        with heard(product.database) as statements:
            conversation.open_of(tx, ["t", "u"])
        plan = plan_of(tx, statements)
    assert "questions_open" in plan or "questions_pkey" in plan or "sqlite_autoindex_questions" in plan, plan
    assert "SCAN" not in plan
    assert "Seq Scan" not in plan


# --- inputs


def test_messages_are_given_to_every_attempt_and_answers_to_the_one_that_asked(product: Product) -> None:
    first = talking(product, lifecycle=RETRIED)
    send_message(product, "t", "one", "alice")
    asked(product, first, question())
    answer(product, "t", "q1", "a", "alice")
    second = again(product, first)
    assert [one.text for one in given_to(product, second)] == ["one"]
    send_message(product, "t", "three", "bob")
    asked(product, second, question(request={"again": True}))
    answer(product, "t", "q1", "b", "bob")
    assert [(one.number, one.text, one.question_id, one.answer) for one in given_to(product, second)] == [
        (1, "one", None, None), (3, "three", None, None), (4, None, "q1", "b"),
    ]  # fmt: skip
    assert [one.number for one in given_to(product, second, 3)] == [4]
    assert given_to(product, second, 3)[0].request == {"again": True}
    assert [one.number for one in given_to(product, first)] == [1, 2, 3]


def test_what_is_sent_is_in_the_journal_with_who_sent_it(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question())
    sent = send_message(product, "t", "hello", "alice (token ci)")
    answered = answer(product, "t", None, "a", "10.0.0.1")
    with product.database.read() as tx:
        told = journal.after(tx, "t", 0, kinds=(Kind.EVENT,))
    assert [one.body for one in told] == [
        {"type": "input", "number": 1, "kind": "message", "text": "hello", "by": "alice (token ci)"},
        {"type": "input", "number": 2, "kind": "answer", "question_id": "q1", "answer": "a", "by": "10.0.0.1"},
    ]
    assert [one.at for one in told] == [sent.at, answered.at]
    assert {one.attempt for one in told} == {1}


def test_a_long_text_is_whole_for_the_agent_and_cut_in_the_journal(product: Product) -> None:
    claim = talking(product)
    text = "é" * (MAX_TEXT_BYTES // 2)
    send_message(product, "t", text, "alice")
    assert given_to(product, claim)[0].text == text
    with product.database.read() as tx:
        (told,) = journal.after(tx, "t", 0, kinds=(Kind.EVENT,))
    assert (told.body["text"], told.body["truncated"]) == ("é" * (TOLD_BYTES // 2), True)


def test_what_is_sent_before_an_agent_runs_is_given_to_it_when_it_does(product: Product) -> None:
    registered(product, agents=("run", "claude"))
    submitted(product, "t", claude={"prompt": "do it", "interactive": True})
    assert send_message(product, "t", "and this", "alice").number == 1
    claim = claimed(product)
    assert [one.text for one in given_to(product, claim)] == ["and this"]
    with pytest.raises(NotWaitingForInput, match="nobody asked for this answer"):
        answer(product, "t", None, "a", "alice")


def test_what_a_lost_attempt_had_asked_and_comes_late_is_not_waited_for(product: Product) -> None:
    claim = talking(product, lifecycle=RETRIED)
    failed(product, claim)
    asked(product, claim, question())
    with product.database.read() as tx:
        assert conversation.open_of(tx, ["t"]) == {}
    for named in (None, "q1"):
        with pytest.raises(NotWaitingForInput, match=r"question .* is not open: the agent that asked has ended"):
            answer(product, "t", named, "a", "alice")


def test_of_very_many_questions_the_first_are_looked_at_and_each_can_be_answered(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, *(question(number, number) for number in range(MOST_OPEN + 5)))
    assert waiting(product) == [f"q{number}" for number in range(MOST_OPEN)]
    with pytest.raises(InvalidInput, match=r"q18, q19, …$"):
        answer(product, "t", None, "a", "alice")
    last = f"q{MOST_OPEN + 4}"
    assert answer(product, "t", last, "a", "alice").question_id == last


def test_of_several_open_questions_one_must_be_named(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question(1), question(2))
    with pytest.raises(InvalidInput, match="waits for answers to 2 questions: name one in id: q1, q2") as caught:
        answer(product, "t", None, "a", "alice")
    assert caught.value.parameter == "id"
    assert answer(product, "t", "q2", "a", "alice").question_id == "q2"
    assert answer(product, "t", None, "a", "alice").question_id == "q1"


def test_an_answer_that_is_none_of_this_question_is_refused_and_it_stays_open(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question(kind="permission", options=("allow", "deny")))
    with pytest.raises(InvalidInput, match="does not fit question q1") as caught:
        answer(product, "t", None, "perhaps", "alice")
    assert caught.value.parameter == "answer"
    assert waiting(product) == ["q1"]
    assert given_to(product, claim) == []
    answer(product, "t", None, "allow", "alice")


@pytest.mark.parametrize("text", ["", " \n\t", "x" * (MAX_TEXT_BYTES + 1)])
def test_a_text_that_says_nothing_or_too_much_is_refused(product: Product, text: str) -> None:
    claim = talking(product)
    with pytest.raises(InvalidInput) as caught:
        send_message(product, "t", text, "alice")
    assert caught.value.parameter == "text"
    assert given_to(product, claim) == []


def test_an_answer_nobody_asked_for_or_asked_before_is_refused_with_why(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question())
    with pytest.raises(NotWaitingForInput, match="nobody asked for this answer"):
        answer(product, "t", "q7", "a", "alice")
    answer(product, "t", "q1", "a", "alice")
    with pytest.raises(NotWaitingForInput, match="question q1 is not open: it is answered already, at"):
        answer(product, "t", "q1", "b", "bob")
    with pytest.raises(NotWaitingForInput, match=r"question \(the last one\) is not open: it is answered already"):
        answer(product, "t", None, "b", "bob")
    assert [one.answer for one in given_to(product, claim)] == ["a"]


def test_only_an_interactive_agent_takes_input_and_the_refusal_says_what_to_do(product: Product) -> None:
    talking(product, "silent", claude={"interactive": False})
    running(product, "command")
    with pytest.raises(NotInteractive, match=r"rerun silent --set claude.interactive=true"):
        send_message(product, "silent", "hi", "alice")
    with pytest.raises(NotInteractive, match="it runs a command, not an agent; put what"):
        answer(product, "command", None, "hi", "alice")
    with pytest.raises(TaskNotFound):
        send_message(product, "nobody", "hi", "alice")


def test_an_agent_that_has_ended_takes_nothing(product: Product) -> None:
    claim = talking(product)
    ended(product, claim)
    with pytest.raises(InputClosed, match="its agent has ended, and the task is about to"):
        send_message(product, "t", "hi", "alice")
    conclude(product, claim, of_exit(0, oom_killed=False))
    with pytest.raises(AlreadyTerminal, match="it is completed; go on with `sandbox task resume t PROMPT`"):
        send_message(product, "t", "hi", "alice")
    with pytest.raises(AlreadyTerminal):
        answer(product, "t", "q1", "hi", "alice")
    assert given_to(product, claim) == []


def test_a_command_that_has_ended_is_not_said_to_have_a_session(product: Product) -> None:
    registered(product)
    conclude(product, running(product, "command", until=State.COMPLETING), of_exit(0, oom_killed=False))
    with pytest.raises(AlreadyTerminal, match=r"it is completed$"):
        send_message(product, "command", "hi", "alice")


def test_a_task_that_is_being_cancelled_takes_nothing(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question())
    cancel(product, "t", Wish("bob"))
    assert now(product, "t").state is State.RUNNING
    with pytest.raises(InputClosed, match="it is being cancelled"):
        send_message(product, "t", "hi", "alice")
    with pytest.raises(InputClosed, match="it is being cancelled"):
        answer(product, "t", "q1", "a", "alice")
    assert given_to(product, claim) == []


def test_a_task_takes_so_many_bytes(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.services.send_input.MAX_INPUT_BYTES", 10)
    claim = talking(product)
    asked(product, claim, question())
    send_message(product, "t", "éééé", "alice")
    with pytest.raises(TooManyInputs):
        send_message(product, "t", "éé", "alice")
    answer(product, "t", None, "a", "alice")
    send_message(product, "t", "z", "alice")
    with pytest.raises(TooManyInputs):
        send_message(product, "t", "z", "alice")
    assert len(given_to(product, claim)) == 3


def test_a_task_takes_a_thousand_inputs(product: Product) -> None:
    claim = talking(product)
    with product.database.write() as tx:
        row = {"task_id": "t", "at": AT, "attempt": 1, "text": "x", "request": {}, "sent_by": "a"}
        tx.execute(inputs.insert(), [{**row, "number": number} for number in range(1, MAX_INPUTS)])
    assert send_message(product, "t", "the last", "alice").number == MAX_INPUTS
    with pytest.raises(TooManyInputs, match=f"takes {MAX_INPUTS:,} messages and answers, of 16 MiB in all"):
        send_message(product, "t", "one more", "alice")
    assert len(given_to(product, claim)) == MAX_INPUTS


# --- the end of a conversation


def test_a_conversation_ends_only_when_all_that_was_sent_was_given(product: Product) -> None:
    claim = talking(product)
    send_message(product, "t", "one", "alice")
    assert not closed(product, claim, 0)
    assert now(product, "t").input_closed is None
    assert closed(product, claim, 1)
    assert closed(product, claim, 1)  # its answer may have been lost
    assert now(product, "t").input_closed == 1
    for send in (lambda: send_message(product, "t", "two", "a"), lambda: answer(product, "t", None, "two", "a")):
        with pytest.raises(InputClosed):
            send()


def test_only_the_attempts_worker_can_end_its_conversation(product: Product) -> None:
    claim = talking(product, lifecycle=RETRIED)
    for stale in (replace(claim, fence=9), replace(claim, attempt=2), replace(claim, task_id="nobody")):
        with pytest.raises(StaleClaim):
            closed(product, stale, 0)
    send_message(product, "t", "one", "alice")
    with pytest.raises(StaleClaim):
        closed(product, replace(claim, fence=9), 0)
    assert now(product, "t").input_closed is None


def test_a_new_attempt_has_a_conversation_of_its_own(product: Product) -> None:
    first = talking(product, lifecycle=RETRIED)
    asked(product, first, question())
    answer(product, "t", None, "a", "alice")
    assert closed(product, first, 1)
    conclude(product, first, of_exit(1, oom_killed=False))
    assert send_message(product, "t", "for the next one", "alice").number == 2  # pending again: not closed
    second = claimed(product, attempt=2)
    assert not closed(product, second, 1)
    assert closed(product, second, 2)  # the answer is the first attempt's


def held(product: Product, act: Callable[[sa.Connection], None], meanwhile: Callable[[], Any]) -> Any:
    """What `meanwhile` gives when it begins while a transaction in which `act` was done is not committed yet."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(meanwhile())
        except Exception as error:  # noqa: BLE001 - a result like any other
            result.append(error)

    thread = threading.Thread(target=run)
    with product.database.write() as tx:
        act(tx)
        thread.start()
        if not product.database.is_sqlite:  # which lets nobody begin
            wait_for_a_waiter(product.database)
    thread.join(60)
    assert result, "it hangs"
    return result[0]


def wait_for_a_waiter(database: Database) -> None:
    deadline = time.monotonic() + 30
    query = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while time.monotonic() < deadline:
        with database.read() as tx:
            if tx.scalar(query):
                return
        time.sleep(0.005)
    raise AssertionError("nobody waits for the row")


def test_a_message_that_is_being_stored_keeps_the_conversation_open(product: Product) -> None:
    """PostgreSQL would look for inputs as of before it waited, and close over the message."""
    claim = talking(product)

    def sending(tx: sa.Connection) -> None:
        journal.wait_for_writers(tx, "t")
        conversation.send(tx, "t", 1, Input(1, AT, text="wait"), "alice")

    assert held(product, sending, lambda: closed(product, claim, 0)) is False
    assert [one.text for one in given_to(product, claim)] == ["wait"]
    assert closed(product, claim, 1)


def test_a_message_behind_the_end_of_a_conversation_is_refused(product: Product) -> None:
    claim = talking(product)

    def closing(tx: sa.Connection) -> None:
        assert conversation.close(tx, claim, 0)

    assert isinstance(held(product, closing, lambda: send_message(product, "t", "late", "alice")), InputClosed)
    assert given_to(product, claim) == []


@pytest.fixture
def another(product: Product, open_database: Callable[[], Database]) -> Callable[[], Product]:
    """The product as one more process holds it: with connections of its own."""
    return lambda: replace(product, database=open_database())


def test_a_message_is_either_given_or_refused_whenever_the_conversation_ends(
    product: Product, another: Callable[[], Product]
) -> None:
    talking(product, "first")
    sender, closer = another(), another()
    for number in range(20):
        claim = talking(product, f"t{number}")
        sent, over = together(
            lambda claim=claim: send_message(sender, claim.task_id, "hi", "alice"),
            lambda claim=claim: closed(closer, claim, 0),
        )
        assert isinstance(sent, InputClosed) if over else isinstance(sent, Input)
        assert len(given_to(product, claim)) == (0 if over else 1)


def test_an_answer_is_either_given_or_refused_whenever_the_conversation_ends(
    product: Product, another: Callable[[], Product]
) -> None:
    sender, closer = another(), another()
    for number in range(20):
        claim = talking(product, f"t{number}")
        asked(product, claim, question())
        sent, over = together(
            lambda claim=claim: answer(sender, claim.task_id, "q1", "a", "alice"),
            lambda claim=claim: closed(closer, claim, 0),
        )
        assert isinstance(sent, InputClosed) if over else isinstance(sent, Input)


def test_of_several_answers_at_once_one_is_taken(product: Product, another: Callable[[], Product]) -> None:
    claim = talking(product)
    asked(product, claim, question())
    senders = [another() for _ in range(4)]
    results = together(
        *[
            lambda one=one, word=word: answer(one, "t", "q1", word, word)
            for one, word in zip(senders, "abcd", strict=True)
        ]
    )
    (taken,) = [one for one in results if isinstance(one, Input)]
    assert [type(one) for one in results if one is not taken] == [NotWaitingForInput] * 3
    assert [one.answer for one in given_to(product, claim)] == [taken.answer]
    with product.database.read() as tx:
        assert len(journal.after(tx, "t", 0, kinds=(Kind.EVENT,))) == 1


def test_an_answer_and_its_withdrawal_at_once_leave_one_of_the_two(
    product: Product, another: Callable[[], Product]
) -> None:
    sender, worker = another(), another()

    def withdrawn(claim: Claim) -> None:
        with worker.database.write() as tx:
            journal.append(tx, claim, [])
            conversation.withdraw(tx, claim, ["q1"], clock.now())

    for number in range(10):
        claim = talking(product, f"t{number}")
        asked(product, claim, question())
        sent, error = together(
            lambda claim=claim: answer(sender, claim.task_id, "q1", "a", "alice"), lambda claim=claim: withdrawn(claim)
        )
        assert error is None
        with product.database.read() as tx:
            row = tx.execute(questions.select().where(questions.c.task_id == claim.task_id)).mappings().one()
        assert (row["answered_at"] is None) == (row["withdrawn_at"] is not None) == isinstance(sent, NotWaitingForInput)


def test_messages_at_once_have_numbers_of_their_own(product: Product, another: Callable[[], Product]) -> None:
    claim = talking(product)
    senders = [another() for _ in range(4)]

    def send_all(one: Product, name: int) -> list[int]:
        return [send_message(one, "t", f"{name}/{index}", "alice").number for index in range(10)]

    numbers = together(*[lambda one=one, name=name: send_all(one, name) for name, one in enumerate(senders)])
    assert sorted(chain.from_iterable(numbers)) == list(range(1, 41))
    found = given_to(product, claim)
    assert [one.number for one in found] == list(range(1, 41))
    for name in range(4):  # each sender's in its order
        assert [one.text for one in found if str(one.text).startswith(f"{name}/")] == [f"{name}/{n}" for n in range(10)]


# --- how long it waits


def test_the_time_an_agent_waits_counts_once_however_many_questions_are_open(product: Product) -> None:
    claim = talking(product)

    def at(seconds: float) -> datetime:
        return AT + timedelta(seconds=seconds)

    def waited(until: float) -> float:
        with product.database.read() as tx:
            return conversation.waited_seconds(tx, claim, at(until))

    assert waited(100) == 0
    asked(product, claim, question(1, 10), question(2, 12), question(3, 40), question(4, 41))
    assert waited(20) == 10
    with product.database.write() as tx:
        ends = {"q1": ("answered_at", 20.0), "q2": ("withdrawn_at", 15.0), "q3": ("answered_at", 50.0)}
        for name, (column, seconds) in ends.items():
            tx.execute(questions.update().where(questions.c.id == name).values({column: at(seconds)}))
    assert waited(30) == 10
    assert waited(45) == 15  # 10 to 20, 40 to 45
    assert waited(60.5) == 30.5  # the fourth is still open
    assert waited(5) == 0
    with product.database.read() as tx:
        assert conversation.waited_seconds(tx, replace(claim, attempt=2), at(60)) == 0


# --- progress


def test_progress_is_what_the_present_attempts_agent_does(product: Product) -> None:
    def save(claim: Claim, calls: int, tool: str | None) -> None:
        with product.database.write() as tx:
            progress.save_tools(tx, claim, calls, tool)

    def shown() -> tuple[int, str | None]:
        task = now(product, "t")
        return task.tool_calls, task.current_tool

    first = talking(product, lifecycle=RETRIED)
    assert shown() == (0, None)
    save(first, 3, "Bash")
    assert shown() == (3, "Bash")
    save(replace(first, fence=9), 9, "Read")  # what was lost, and comes late
    assert shown() == (3, "Bash")
    ended(product, first)
    assert shown() == (3, None)
    save(first, 4, "Bash")  # the end of its output, read later: nothing runs any more
    assert shown() == (4, None)
    conclude(product, first, of_exit(1, oom_killed=False))
    save(first, 5, None)
    assert shown() == (4, None)
    claimed(product, attempt=2)
    assert shown() == (0, None)


# --- what goes with a task


@pytest.mark.parametrize("remove", [purge, forget])
def test_what_was_said_goes_with_a_tasks_data(product: Product, remove: Callable[[Product, str], None]) -> None:
    claim = talking(product)
    asked(product, claim, question())
    answer(product, "t", None, "a", "alice")
    failed(product, claim)
    remove(product, "t")
    with product.database.read() as tx:
        assert [tx.scalar(sa.select(sa.func.count()).select_from(one)) for one in (questions, inputs)] == [0, 0]


def test_a_reaper_of_the_version_before_can_forget_a_task_that_talked(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question())
    send_message(product, "t", "hi", "alice")
    with product.database.write() as tx:
        for table in ("records", "attempts", "tasks"):
            key = "id" if table == "tasks" else "task_id"
            tx.execute(sa.text(f"DELETE FROM {table} WHERE {key} = 't'"))  # noqa: S608 - ours
        assert [tx.scalar(sa.select(sa.func.count()).select_from(one)) for one in (questions, inputs)] == [0, 0]


def test_what_was_said_goes_with_the_log(product: Product) -> None:
    claim = talking(product)
    asked(product, claim, question())
    answer(product, "t", None, "a", "alice")
    failed(product, claim)
    expire_log(product, "t", timedelta(days=7))
    with product.database.read() as tx:
        assert [tx.scalar(sa.select(sa.func.count()).select_from(one)) for one in (questions, inputs)] == [0, 0]


def test_what_a_purge_by_the_version_before_leaves_is_removed(product: Product) -> None:
    for task_id in ("t", "kept"):
        claim = talking(product, task_id)
        asked(product, claim, question())
        answer(product, task_id, None, "a", "alice")
        failed(product, claim)
    with product.database.write() as tx:  # it knows neither questions nor inputs
        tx.execute(sa.text("UPDATE tasks SET purged_at = 7 WHERE id = 't'"))
        older_version.mend(tx)
        assert [tx.scalars(sa.select(one.c.task_id)).all() for one in (questions, inputs)] == [["kept"], ["kept"]]
