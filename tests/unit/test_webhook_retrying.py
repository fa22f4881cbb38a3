"""When a delivery is tried again, when it is given up, and what that means for its webhook."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.models import Delivery, DeliveryState, Webhook
from orchestrator.webhooks.retrying import DEAD, GIVE_UP_AFTER, GONE, Tried, Verdict, delay, verdict

AT = datetime(2026, 1, 29, tzinfo=UTC)
DAY = timedelta(days=1)
HOOK = Webhook("wh_1", "https://hooks.example.org/", ("terminal",), AT)
NEW = Delivery("wh_1", 1, "msg_1", "terminal", "t", "{}", DeliveryState.WAITING, AT, next_at=AT)
DELIVERED = Tried(204, None, 3)
REFUSED = Tried(500, "the receiver answered 500", 3)
SILENT = Tried(None, "the receiver did not answer within 10 s", 10_000)


def decide(tried: Tried, delivery: Delivery = NEW, at: datetime = AT, webhook: Webhook = HOOK) -> Verdict:
    return verdict(webhook, delivery, tried, at, chance=0.0)


def tries_until_the_end(answer_after: timedelta = timedelta(milliseconds=5)) -> tuple[list[timedelta], Verdict]:
    """When each try of a delivery to a receiver that never takes it is made, after the creation; and what ends it."""
    delivery, webhook, at, made = NEW, HOOK, AT, []
    while True:
        made.append(at - AT)
        ended = at + answer_after
        decided = decide(REFUSED, delivery, ended, webhook)
        webhook = replace(webhook, failing_since=webhook.failing_since or ended)
        delivery = replace(delivery, tries=delivery.tries + 1, next_at=decided.next_at)
        if decided.next_at is None:
            return made, decided
        at = decided.next_at


def test_what_was_taken_is_delivered() -> None:
    assert decide(DELIVERED) == Verdict(DeliveryState.DELIVERED)


@pytest.mark.parametrize(
    "tried", [REFUSED, SILENT, Tried(302, "a redirect", 1), Tried(404, "the receiver answered 404", 1)]
)
def test_everything_else_is_tried_again_after_five_seconds(tried: Tried) -> None:
    assert decide(tried) == Verdict(DeliveryState.WAITING, AT + timedelta(seconds=5))


def test_delays_grow_to_two_hours_and_are_made_up_to_a_fifth_longer_by_chance() -> None:
    seconds = [delay(tries, 0).total_seconds() for tries in range(1, 10)]
    assert seconds == [5, 30, 120, 600, 1800, 3600, 7200, 7200, 7200]
    assert delay(1, 1.0).total_seconds() == pytest.approx(6)


def test_a_delivery_that_nobody_takes_is_tried_for_a_day_and_once_at_its_end_and_takes_its_webhook_with_it() -> None:
    made, decided = tries_until_the_end()
    assert len(made) == 19
    assert made[-1] == GIVE_UP_AFTER
    assert decided == Verdict(DeliveryState.FAILED, disable_because=DEAD)


def test_a_webhook_that_took_something_meanwhile_is_not_disabled_with_a_delivery_that_is_given_up() -> None:
    old = replace(NEW, tries=17)
    lately = replace(HOOK, failing_since=AT + timedelta(hours=20))
    assert decide(REFUSED, old, AT + DAY, lately) == Verdict(DeliveryState.FAILED)
    assert decide(REFUSED, old, AT + DAY, HOOK) == Verdict(DeliveryState.FAILED)


def test_a_day_that_the_api_was_away_or_its_clock_was_set_by_costs_no_delivery_its_tries() -> None:
    decided = decide(REFUSED, replace(NEW, tries=1), AT + 3 * DAY, replace(HOOK, failing_since=AT))
    assert decided == Verdict(DeliveryState.WAITING, AT + 3 * DAY + timedelta(seconds=30))


def test_a_receiver_that_is_gone_says_so_once() -> None:
    assert decide(Tried(410, "the receiver answered 410", 1)) == Verdict(DeliveryState.FAILED, disable_because=GONE)


def test_one_that_is_sent_again_to_a_disabled_webhook_is_tried_once() -> None:
    disabled = replace(HOOK, disabled_at=AT, failing_since=AT)
    assert decide(SILENT, NEW, AT, disabled) == Verdict(DeliveryState.FAILED)
    assert decide(DELIVERED, NEW, AT, disabled) == Verdict(DeliveryState.DELIVERED)
