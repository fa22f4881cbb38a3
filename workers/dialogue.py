"""What people send to a running agent reaches it, each once and in order, and it is known when it waits for them.

The store is the truth: what was sent is stored there before anybody is told so, and the files in the sandbox's inbox
say what was handed over. So a worker that takes the attempt up goes on where the one before it stopped.
"""

from __future__ import annotations

import logging
import threading
import time

from orchestrator import clock
from orchestrator.journal import StaleClaim
from orchestrator.models import Input, Question
from orchestrator.states import State
from orchestrator.store import conversation
from orchestrator.store.database import StoreUnavailable
from workers.attempt import Attempt

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How long an answer, or a question, may go unnoticed."""
END_NAME = "end"


class Dialogue:
    """Of one attempt, in a thread of its own, until its command ends or `stop`."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._stopping = threading.Event()
        self._handed: list[Input] | None = None
        """What was handed over, by an earlier worker too; None until the store was asked."""
        self._first_seen: dict[str, float] = {}
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"dialogue-{attempt.claim.task_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_now(self) -> bool:
        """Hand over what is new and tell the supervisor who is waited for; true when the conversation is over.

        Raises `StaleClaim`, `StoreUnavailable`, `OSError`.
        """
        with self._looking:
            return self._look()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        task = self._attempt.claim.task_id
        while not self._stopping.wait(LOOK_SECONDS) and self._attempt.state is State.RUNNING:
            try:
                if self.look_now():
                    return
            except StaleClaim:
                return
            except (StoreUnavailable, OSError) as error:
                log.warning("what is sent to an agent waits", extra={"task": task, "error": str(error)})
            except Exception:  # it would wait for ever, and nobody would know
                log.exception("what is sent to an agent waits", extra={"task": task})

    def _look(self) -> bool:
        claim, now = self._attempt.claim, clock.now()
        with self._attempt.equipment.product.database.read() as tx:
            given = conversation.inputs_after(tx, claim, self._last)
            questions = conversation.open_questions(tx, claim.task_id, claim.attempt)
            waited_seconds = conversation.waited_seconds(tx, claim, now)
        if self._handed is None:
            count = self._attempt.directory.inputs()
            self._handed, given = given[:count], given[count:]
        for one in given:
            self._attempt.directory.put_input(str(len(self._handed) + 1), self._attempt.agent.said(one) + "\n")
            self._handed.append(one)
        self._tell_supervisor(questions, waited_seconds)
        return not questions and self._is_done(self._handed) and self._close(len(self._handed))

    @property
    def _last(self) -> int:
        return self._handed[-1].number if self._handed else 0

    def _tell_supervisor(self, questions: list[Question], waited_seconds: float) -> None:
        """The wall clock may jump: it only tells how old a question is that was asked before this worker looked."""
        for one in questions:
            if one.id not in self._first_seen:
                age = max(0.0, (clock.now() - one.asked_at).total_seconds())
                self._first_seen[one.id] = time.monotonic() - age
        asked_at = min((self._first_seen[one.id] for one in questions), default=None)
        self._attempt.signals.input_awaited(asked_at, waited_seconds)

    def _is_done(self, handed: list[Input]) -> bool:
        """The agent has nothing left to do, and has taken in all messages that were handed over."""
        seen = self._attempt.pump.seen if self._attempt.pump else None
        if seen is None or not seen["idle"]:
            return False
        return all(one.number in seen["taken"] for one in handed if one.text is not None)

    def _close(self, count: int) -> bool:
        """From here on nothing is accepted; false when something was, a moment ago."""
        attempt = self._attempt
        with attempt.equipment.product.database.write() as tx:
            if not conversation.close(tx, attempt.claim, self._last):
                return False
        attempt.directory.put_input(END_NAME, f"{count}\n")
        log.info("conversation closed", extra={"task": attempt.claim.task_id})
        return True


def start_dialogue(attempt: Attempt) -> None:
    """Begin, or go on, where the manifest says that people may talk to the agent.

    Before it returns the supervisor knows for how long the agent has waited, also under an earlier worker.
    """
    if attempt.manifest.claude is None or not attempt.manifest.claude.interactive:
        return
    attempt.dialogue = dialogue = Dialogue(attempt)
    attempt.undo.callback(dialogue.stop)
    look_patiently(attempt)
    dialogue.start()


def look_patiently(attempt: Attempt) -> None:
    """Look now, and until the store answers. Raises `StaleClaim`, `Stopped`."""
    while attempt.dialogue is not None:
        try:
            attempt.dialogue.look_now()
        except (StoreUnavailable, OSError) as error:
            why = {"task": attempt.claim.task_id, "error": str(error)}
            log.warning("what is sent to an agent waits", extra=why)
            attempt.pause(LOOK_SECONDS)
        else:
            return
