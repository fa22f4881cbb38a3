"""What comes of a try to deliver: delivered, once more later, or given up; and when a webhook is disabled (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from orchestrator.models import Delivery, DeliveryState, Webhook

GIVE_UP_AFTER = timedelta(hours=24)
"""From the creation of a delivery on."""
FEWEST_TRIES = 10
"""So many are made in any case: the API may have been away for a day, or its clock been set by one."""
DEAD_AFTER = timedelta(hours=23)
"""Nothing was delivered for so long when a delivery is given up: its first try came a little after its creation."""
JITTER = 0.2
"""A delay is up to so much longer, so that what failed together is not sent together."""
_FIRST_DELAYS_SECONDS = (5, 30, 120, 600, 1800, 3600)
_DELAY_SECONDS = 7200

GONE = "its receiver answered 410 Gone"
DEAD = "nothing could be delivered to it for a day"


@dataclass(frozen=True, slots=True)
class Tried:
    """How a try ended. `status`: of the answer, None when there was none; `error`: why it is not delivered."""

    status: int | None
    error: str | None
    milliseconds: int

    @property
    def is_delivered(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`next_at`: when it is tried again, of one that waits. `disable_because`: the webhook is of no use any more."""

    state: DeliveryState
    next_at: datetime | None = None
    disable_because: str | None = None


def verdict(webhook: Webhook, delivery: Delivery, tried: Tried, at: datetime, *, chance: float) -> Verdict:
    """Decide about a delivery after a try at `at`. `webhook` and `delivery` are as before it; `chance` is 0 to 1."""
    if tried.is_delivered:
        return Verdict(DeliveryState.DELIVERED)
    if tried.status == HTTPStatus.GONE:
        return Verdict(DeliveryState.FAILED, disable_because=GONE)
    if webhook.disabled_at is not None:  # somebody has asked for this one try
        return Verdict(DeliveryState.FAILED)
    tries = delivery.tries + 1
    end = delivery.created_at + GIVE_UP_AFTER
    if at < end or tries < FEWEST_TRIES:
        next_at = at + delay(tries, chance)
        return Verdict(DeliveryState.WAITING, min(next_at, end) if at < end else next_at)
    is_dead = webhook.failing_since is not None and webhook.failing_since <= at - DEAD_AFTER
    return Verdict(DeliveryState.FAILED, disable_because=DEAD if is_dead else None)


def delay(tries: int, chance: float) -> timedelta:
    """How long to wait after so many tries."""
    seconds = _FIRST_DELAYS_SECONDS[tries - 1] if tries <= len(_FIRST_DELAYS_SECONDS) else _DELAY_SECONDS
    return timedelta(seconds=seconds * (1 + JITTER * chance))
