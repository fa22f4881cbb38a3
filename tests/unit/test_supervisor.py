"""What ends a running command. Clocks are moved by the limits that are given, never by waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from workers.supervisor import Limits, Signals, Verdict

FOREVER = 1e6
LONG_AGO = 1e5


def limits(*, ran: float = 0, timeout: float = FOREVER, idle: float | None = None) -> Limits:
    return Limits(time.monotonic() - ran, timeout, idle)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


ENDINGS: list[tuple[Callable[[Signals], None], Verdict]] = [
    (Signals.exited, Verdict.EXITED),
    (lambda signals: signals.cancel(force=False), Verdict.CANCELLED),
    (lambda signals: signals.cancel(force=True), Verdict.CANCELLED),
    (Signals.stale, Verdict.STALE),
    (Signals.stop, Verdict.STOPPING),
]


@pytest.mark.parametrize(("happen", "verdict"), ENDINGS)
def test_each_ending_wakes_the_one_who_waits(happen: Callable[[Signals], None], verdict: Verdict) -> None:
    signals = Signals()
    thread, results = in_thread(lambda: signals.supervise(limits()))
    happen(signals)
    thread.join(30)
    assert results == [verdict]


@pytest.mark.parametrize(("happen", "verdict"), ENDINGS)
def test_an_ending_that_came_before_anybody_waited_is_not_lost(
    happen: Callable[[Signals], None], verdict: Verdict
) -> None:
    signals = Signals()
    happen(signals)
    assert signals.supervise(limits()) is verdict


def test_a_deadline_that_is_over_ends_at_once_even_of_an_adopted_attempt() -> None:
    assert Signals().supervise(limits(ran=LONG_AGO, timeout=LONG_AGO - 1)) is Verdict.TIMEOUT


def test_a_short_deadline_comes_by_itself() -> None:
    assert Signals().supervise(limits(timeout=0.02)) is Verdict.TIMEOUT


def test_a_silent_command_ends_by_its_idle_timeout() -> None:
    assert Signals().supervise(limits(timeout=FOREVER, idle=0.02)) is Verdict.IDLE


def test_an_adopted_attempt_that_was_silent_for_long_is_given_its_idle_time_anew() -> None:
    signals = Signals()
    thread, results = in_thread(lambda: signals.supervise(limits(ran=LONG_AGO, idle=1000)))
    signals.exited()
    thread.join(30)
    assert results == [Verdict.EXITED]


@pytest.mark.parametrize(("speaks", "verdict"), [(False, Verdict.IDLE), (True, Verdict.EXITED)])
def test_output_puts_the_idle_timeout_off(speaks: bool, verdict: Verdict) -> None:
    signals = Signals()
    signals._active_at -= LONG_AGO
    if speaks:
        signals.active()
    thread, results = in_thread(lambda: signals.supervise(limits(ran=LONG_AGO, idle=1000)))
    if speaks:
        signals.exited()
    thread.join(30)
    assert results == [verdict]


def test_the_sooner_of_the_two_clocks_wins() -> None:
    assert Signals().supervise(limits(ran=LONG_AGO, timeout=LONG_AGO - 1, idle=FOREVER)) is Verdict.TIMEOUT
    assert Signals().supervise(limits(timeout=FOREVER, idle=0.01)) is Verdict.IDLE


def test_an_exit_wins_over_a_deadline_that_is_over_too() -> None:
    signals = Signals()
    signals.exited()
    assert signals.supervise(limits(ran=LONG_AGO, timeout=1)) is Verdict.EXITED


def test_a_lost_claim_wins_over_everything() -> None:
    signals = Signals()
    signals.exited()
    signals.cancel(force=False)
    signals.stop()
    signals.stale()
    assert signals.supervise(limits(ran=LONG_AGO, timeout=1)) is Verdict.STALE
    assert signals.asked_to_end() is Verdict.STALE


def test_a_cancellation_wins_over_the_end_of_the_worker() -> None:
    signals = Signals()
    signals.stop()
    signals.cancel(force=False)
    assert signals.asked_to_end() is Verdict.CANCELLED


def test_nobody_asks_before_somebody_asked() -> None:
    signals = Signals()
    signals.active()
    assert signals.asked_to_end() is None
    assert signals.force is False


def test_force_stays_once_it_was_asked_for() -> None:
    signals = Signals()
    signals.cancel(force=True)
    signals.cancel(force=False)
    assert signals.force is True


def test_force_during_the_grace_ends_the_wait_for_the_exit() -> None:
    signals = Signals()
    signals.cancel(force=False)
    thread, results = in_thread(lambda: signals.wait_exit(FOREVER, until_forced=True))
    signals.cancel(force=True)
    thread.join(30)
    assert results == [False]


def test_force_does_not_end_a_wait_that_is_for_the_exit_alone() -> None:
    signals = Signals()
    signals.cancel(force=True)
    thread, results = in_thread(lambda: signals.wait_exit(FOREVER))
    signals.exited()
    thread.join(30)
    assert results == [True]


def test_a_wait_for_an_exit_that_was_reported_returns_at_once_and_one_in_vain_says_so() -> None:
    signals = Signals()
    assert signals.wait_exit(0.01) is False
    signals.exited()
    assert signals.wait_exit(0) is True


def test_of_many_endings_at_once_everybody_sees_one() -> None:
    for _ in range(50):
        signals = Signals()
        thread, results = in_thread(lambda signals=signals: signals.supervise(limits()))  # type: ignore[misc]
        others = [threading.Thread(target=happen, args=(signals,)) for happen, _ in ENDINGS]
        for other in others:
            other.start()
        for one in (*others, thread):
            one.join(30)
        assert len(results) == 1


def input_limits(
    *, ran: float = 0, timeout: float = FOREVER, idle: float | None = None, pauses: bool = False
) -> Limits:
    return Limits(time.monotonic() - ran, timeout, idle, input_timeout=5.0, pauses=pauses)


def test_who_waits_too_long_for_an_answer_is_ended() -> None:
    signals = Signals()
    signals.input_awaited(time.monotonic() - 5.0, 5.0)
    assert signals.supervise(input_limits()) is Verdict.INPUT


def test_who_waits_for_an_answer_is_not_idle_and_may_be_silent_again_after_it() -> None:
    signals = Signals()
    signals.input_awaited(time.monotonic(), 0.0)
    waiting = threading.Thread(target=lambda: seen.append(signals.supervise(input_limits(ran=100, idle=50.0))))
    seen: list[Verdict] = []
    waiting.start()
    signals.input_awaited(None, 1.0)
    signals.exited()
    waiting.join(30)
    assert seen == [Verdict.EXITED]


def test_the_clock_stands_still_during_a_wait_only_where_the_manifest_says_so() -> None:
    signals = Signals()
    signals.input_awaited(None, 60.0)
    assert signals.supervise(input_limits(ran=100, timeout=50.0)) is Verdict.TIMEOUT
    assert signals.supervise(input_limits(ran=111, timeout=50.0, pauses=True)) is Verdict.TIMEOUT
    signals.input_awaited(time.monotonic(), 0.0)
    assert signals.supervise(input_limits(ran=100, timeout=50.0)) is Verdict.TIMEOUT
    signals.exited()
    assert signals.supervise(input_limits(ran=100, timeout=50.0, pauses=True)) is Verdict.EXITED
