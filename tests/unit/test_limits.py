from __future__ import annotations

from api.limits import Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_what_a_minute_allows_at_once_and_then_evenly() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    assert [buckets.take("a", 6).remaining for _ in range(6)] == [5, 4, 3, 2, 1, 0]
    refused = buckets.take("a", 6)
    assert (refused.remaining, refused.retry_after_seconds, refused.full_in_seconds) == (0, 10, 60)
    clock.now += refused.retry_after_seconds
    assert buckets.take("a", 6).retry_after_seconds == 0
    assert buckets.take("a", 6).retry_after_seconds == 10


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    for _ in range(100):
        buckets.take("a", 1)
    clock.now += 60
    assert buckets.take("a", 1).retry_after_seconds == 0


def test_no_minute_is_ever_given_twice_its_limit() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    given = []
    for _ in range(6000):
        if not buckets.take("a", 60).retry_after_seconds:
            given.append(clock.now)
        clock.now += 0.05
    for start in given:
        assert sum(start <= at < start + 60 for at in given) <= 120
    assert 60 + 290 <= len(given) <= 60 + 301


def test_buckets_are_apart() -> None:
    buckets = Buckets(clock=Clock())
    assert buckets.take("a", 1).retry_after_seconds == 0
    assert buckets.take("a", 1).retry_after_seconds == 60
    assert buckets.take("b", 1).retry_after_seconds == 0


def test_memory_is_bounded_and_who_asked_last_is_kept() -> None:
    buckets = Buckets(most=3, clock=Clock())
    for key in ("a", "b", "a", "c", "d"):
        buckets.take(key, 10)
    assert list(buckets._levels) == ["a", "c", "d"]


def test_a_limit_that_was_lowered_holds_at_once() -> None:
    buckets = Buckets(clock=Clock())
    assert buckets.take("a", 1000).remaining == 999
    assert buckets.take("a", 10).remaining == 9


def test_headers_tell_the_standing_and_when_to_come_back() -> None:
    buckets = Buckets(clock=Clock())
    assert buckets.take("a", 2).headers(5000) == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": "5030",
    }
    buckets.take("a", 2)
    assert buckets.take("a", 2).headers(5000)["Retry-After"] == "30"
