"""Nobody's slow receiver, and no owner, takes all the threads."""

from __future__ import annotations

from orchestrator.webhooks import lanes
from orchestrator.webhooks.lanes import AT_ONCE_FOR_OWNER, AT_ONCE_TO_ORIGIN, AT_ONCE_TO_SLOW, THREADS, Closed, Lanes


def entered(lane: Lanes, count: int, url: str = "u{}", owner: str | None = None, webhook: str = "wh") -> int:
    """How many of so many deliveries may be sent at once."""
    return sum(lane.enter((webhook, number), url.format(number), owner) for number in range(count))


def test_all_threads_are_used_where_receivers_differ() -> None:
    lane = Lanes()
    assert entered(lane, THREADS + 5) == THREADS
    assert lane.free == 0


def test_nothing_is_sent_twice_at_once() -> None:
    lane = Lanes()
    assert lane.enter(("wh", 1), "u", None)
    assert not lane.enter(("wh", 1), "u", None)


def test_what_was_due_when_it_was_looked_at_and_has_ended_since_waits_for_the_next_look() -> None:
    lane = Lanes()
    lane.enter(("wh", 1), "u", None)
    lane.look()
    lane.leave(("wh", 1), 0.1)
    assert not lane.enter(("wh", 1), "u", None)
    lane.look()
    assert lane.enter(("wh", 1), "u", None)


def test_one_url_is_sent_a_few_at_once_by_whatever_webhooks() -> None:
    lane = Lanes()
    assert entered(lane, 3, "same") + entered(lane, 3, "same", webhook="another") == AT_ONCE_TO_ORIGIN
    assert lane.closed() == Closed(frozenset({"same"}), frozenset())
    assert lane.enter(("wh", 99), "other", None)


def test_one_owner_has_half_the_threads_and_nobody_in_particular_all_of_them() -> None:
    lane = Lanes()
    assert entered(lane, THREADS, owner="alice") == AT_ONCE_FOR_OWNER
    assert lane.closed() == Closed(frozenset(), frozenset({"alice"}))
    assert entered(lane, THREADS, webhook="another") == THREADS - AT_ONCE_FOR_OWNER


def test_slow_receivers_share_half_the_threads_until_they_are_fast() -> None:
    lane = Lanes()
    for number in range(THREADS):
        assert lane.enter(("wh", number), f"u{number}", None)
        lane.leave(("wh", number), 9.0)
    lane.look()
    assert entered(lane, THREADS) == AT_ONCE_TO_SLOW
    assert lane.closed().origins == {f"u{number}" for number in range(THREADS)}
    assert lane.enter(("fast", 1), "fast", None)
    lane.leave(("wh", 0), 0.1)
    assert "u0" not in lane.look().origins
    assert lane.enter(("wh", 0), "u0", None)


def test_only_so_many_slow_receivers_are_remembered() -> None:
    lane = Lanes()
    for number in range(lanes.MOST_SLOW + 50):
        lane.enter(("wh", number), f"u{number}", None)
        lane.leave(("wh", number), 9.0)
    assert len(lane._slow) == lanes.MOST_SLOW
