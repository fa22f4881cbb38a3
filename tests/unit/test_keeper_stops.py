"""The lease on a clock of the test's, and stop programs that fail, hang on, or are too many."""

from __future__ import annotations

import time
from pathlib import Path

from workers.keeper_stops import RETRY_SECONDS, STOP_TIMEOUT_SECONDS, STOPS_AT_ONCE, TRIES_MAX, Lease, Stops


def run_out(stops: Stops, now: float) -> None:
    """Tick at the same instant until no program runs."""
    give_up_at = time.monotonic() + 30
    while stops.running:
        assert time.monotonic() < give_up_at, "a stop program did not end"
        time.sleep(0.01)
        stops.tick(now)


def test_a_lease_ends_when_no_renewal_came_in_time() -> None:
    lease = Lease(30)
    assert not lease.expired(1e6)
    lease.renew(100, stop_after_seconds=30)
    assert not lease.expired(129.9)
    assert lease.expired(130)
    lease.renew(131, stop_after_seconds=30)
    assert not lease.expired(160)


def test_a_pause_replaces_the_lease_until_the_next_renewal() -> None:
    lease = Lease(30)
    lease.renew(100, stop_after_seconds=30)
    lease.pause(110, adopt_seconds=900)
    assert not lease.expired(1009)
    assert lease.expired(1010)
    lease.renew(200, stop_after_seconds=30)
    assert lease.expired(230)


def test_a_sandbox_held_before_any_renewal_has_a_lease_and_a_running_one_is_left() -> None:
    lease = Lease(30)
    lease.ensure(100)
    assert lease.expires_at == 130
    lease.ensure(110)
    assert lease.expires_at == 130
    lease.ensure(500)
    assert lease.expires_at == 530


def test_a_failing_stop_is_tried_again_until_it_succeeds(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    stops = Stops()
    stops.want("a", ["sh", "-c", f"echo x >> {tries}; [ $(wc -l < {tries}) -ge 3 ]"])
    for number in range(1, 4):
        assert not stops.settled("a")
        stops.tick(number * RETRY_SECONDS)
        run_out(stops, number * RETRY_SECONDS)
        assert len(tries.read_text().splitlines()) == number
    assert stops.succeeded("a")
    stops.tick(100 * RETRY_SECONDS)
    assert not stops.running


def test_a_failed_stop_waits_before_the_next_try() -> None:
    stops = Stops()
    stops.want("a", ["false"])
    stops.tick(1000)
    run_out(stops, 1000)
    stops.tick(1000 + RETRY_SECONDS - 0.1)
    early = stops.running
    stops.tick(1000 + RETRY_SECONDS)
    assert (early, stops.running) == (False, True)
    run_out(stops, 1000 + RETRY_SECONDS)


def test_a_program_that_does_not_exist_is_given_up_after_its_tries() -> None:
    stops = Stops()
    stops.want("a", ["/nonexistent/stop"])
    for number in range(1, TRIES_MAX + 1):
        assert not stops.settled("a")
        stops.tick(number * RETRY_SECONDS)
    assert stops.settled("a")
    assert not stops.succeeded("a")


def test_no_more_than_a_few_stops_run_at_once_and_all_get_their_turn(tmp_path: Path) -> None:
    stops = Stops()
    gate = tmp_path / "gate"
    for number in range(STOPS_AT_ONCE + 3):
        wait = f"touch {tmp_path}/ran-{number}; until [ -e {gate} ]; do sleep 0.05; done"
        stops.want(str(number), ["sh", "-c", wait])
    give_up_at = time.monotonic() + 30
    while len(list(tmp_path.glob("ran-*"))) < STOPS_AT_ONCE:
        assert time.monotonic() < give_up_at
        stops.tick(1)
        time.sleep(0.01)
    stops.tick(1)
    assert len(list(tmp_path.glob("ran-*"))) == STOPS_AT_ONCE
    gate.touch()
    while not all(stops.succeeded(str(number)) for number in range(STOPS_AT_ONCE + 3)):
        assert time.monotonic() < give_up_at
        stops.tick(1)
        time.sleep(0.01)


def test_a_hanging_stop_is_killed_and_tried_again(tmp_path: Path) -> None:
    hung = tmp_path / "hung"
    stops = Stops()
    stops.want("a", ["sh", "-c", f"[ -e {hung} ] || {{ touch {hung}; exec sleep 600; }}"])
    stops.tick(1)
    give_up_at = time.monotonic() + 30
    while not hung.exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    run_out(stops, 1 + STOP_TIMEOUT_SECONDS + RETRY_SECONDS)
    assert stops.succeeded("a")


def test_a_renewal_ends_the_tries(tmp_path: Path) -> None:
    stops = Stops()
    stops.want("a", ["false"])
    stops.tick(1)
    stops.forget_all()
    run_out(stops, 1)
    stops.tick(1000)
    assert not stops.running
