"""The clock that deadlines are compared with: it goes on when the host's clock is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.clock import SteadyClock

START = datetime(2026, 1, 1, tzinfo=UTC)


class Times:
    """A wall clock that can be set, and a monotonic one that cannot."""

    def __init__(self) -> None:
        self.wall = START
        self.monotonic = 50.0

    def pass_time(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.monotonic += seconds


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def steady(times: Times) -> SteadyClock:
    return SteadyClock(lambda: times.wall, lambda: times.monotonic)


def test_it_runs_with_the_wall_clock(times: Times, steady: SteadyClock) -> None:
    for _ in range(10):
        times.pass_time(7)
        assert steady.now() == times.wall


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=-1)])
def test_a_jump_of_the_wall_clock_is_followed_by_a_tenth_of_the_time_that_passes(
    times: Times, steady: SteadyClock, jump: timedelta
) -> None:
    times.pass_time(10)
    steady.now()
    times.wall += jump
    times.pass_time(100)
    expected = START + timedelta(seconds=110) + timedelta(seconds=10) * (1 if jump > timedelta() else -1)
    assert steady.now() == expected


def test_it_has_caught_up_with_a_small_correction_soon(times: Times, steady: SteadyClock) -> None:
    times.wall += timedelta(seconds=2)
    times.pass_time(30)
    assert steady.now() == times.wall
