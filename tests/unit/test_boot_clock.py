"""Seconds since the host booted, as they are stored beside an attempt."""

from __future__ import annotations

from workers import boot_clock


def test_time_that_passed_in_this_boot_is_known() -> None:
    since = boot_clock.now()
    passed = boot_clock.elapsed(since)
    assert passed is not None
    assert 0 <= passed < 60


def test_an_instant_of_another_boot_tells_nothing() -> None:
    _, _, seconds = boot_clock.now().partition(" ")
    assert boot_clock.elapsed(f"00000000-0000-0000-0000-000000000000 {seconds}") is None
