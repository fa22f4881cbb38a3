"""What webhooks are sent: waiting, delivered, failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa

from orchestrator.models import Delivery, DeliveryState, NewDelivery, Webhook
from orchestrator.store import webhooks
from orchestrator.store.tables import deliveries
from orchestrator.store.tables import webhooks as webhook_table
from orchestrator.webhooks.retrying import Tried, Verdict

MOST_WAITING = 10_000
"""Deliveries of one webhook that fails; what comes on top is stored as failed. A receiver that is away for a day must
not fill the store."""
PAGE = 500
"""Rows that go in one transaction."""
_WAITS = deliveries.c.next_at.is_not(None)  # as in the partial index
_COLUMNS = [deliveries.c[one.name] for one in fields(Delivery)]


def add(tx: sa.Connection, new: Sequence[NewDelivery], at: datetime) -> int:
    """Store deliveries that are due at once; return how many. Those of a webhook that is gone, or disabled, are not."""
    by_webhook: defaultdict[str, list[NewDelivery]] = defaultdict(list)
    for one in new:
        by_webhook[one.webhook_id].append(one)
    waiting = _waiting(tx, list(by_webhook))
    values = []
    for webhook_id in sorted(by_webhook):  # in one order: two who tell must not wait for each other
        first = webhooks.take_numbers(tx, webhook_id, len(by_webhook[webhook_id]))
        if first is None:
            continue
        free = MOST_WAITING - waiting[webhook_id]
        for index, one in enumerate(by_webhook[webhook_id]):
            values.append({**_fate(at, waits=index < free), **_told(one), "number": first + index, "created_at": at})
    if values:
        tx.execute(deliveries.insert(), values)
    return len(values)


def _told(one: NewDelivery) -> dict[str, str]:
    return {name.name: getattr(one, name.name) for name in fields(NewDelivery)}


def _fate(at: datetime, *, waits: bool) -> dict[str, object]:
    if waits:
        return {"state": DeliveryState.WAITING.value, "next_at": at, "last_error": None}
    why = f"not tried: {MOST_WAITING:,} deliveries of this webhook wait already: its receiver is slow, or fails"
    return {"state": DeliveryState.FAILED.value, "next_at": None, "last_error": why}


def _waiting(tx: sa.Connection, ids: Collection[str]) -> Counter[str]:
    """Counted for each: a receiver that is slow, or fails now and then, lets them pile up, too."""
    query = sa.select(deliveries.c.webhook_id, sa.func.count()).where(_WAITS, deliveries.c.webhook_id.in_(ids))
    return Counter({row[0]: int(row[1]) for row in tx.execute(query.group_by(deliveries.c.webhook_id))})


def get(tx: sa.Connection, webhook_id: str, number: int) -> Delivery | None:
    row = tx.execute(sa.select(*_COLUMNS).where(*_is(webhook_id, number))).mappings().first()
    return _delivery(row) if row else None


def find(tx: sa.Connection, webhook_id: str, *, limit: int, offset: int) -> tuple[list[Delivery], int]:
    """One page of a webhook's deliveries, newest first, and how many there are."""
    mine = deliveries.c.webhook_id == webhook_id
    query = sa.select(*_COLUMNS).where(mine).order_by(deliveries.c.number.desc()).limit(limit).offset(offset)
    total = tx.scalar(sa.select(sa.func.count()).select_from(deliveries).where(mine))
    return [_delivery(row) for row in tx.execute(query).mappings()], int(total or 0)


def due(
    tx: sa.Connection, at: datetime, *, without_origins: Collection[str], without_owners: Collection[str], limit: int
) -> list[tuple[Delivery, Webhook]]:
    """What is to be sent at `at`, what has waited longest first, except to these origins and for these owners."""
    owner = webhook_table.c.owner
    query = (
        sa.select(*_COLUMNS)
        .join(webhook_table, webhook_table.c.id == deliveries.c.webhook_id)
        .where(_WAITS, deliveries.c.next_at <= at)
        .order_by(deliveries.c.next_at)
        .limit(limit)
    )
    if without_origins:
        query = query.where(webhook_table.c.origin.not_in(without_origins))
    if without_owners:
        query = query.where(sa.or_(owner.is_(None), owner.not_in(without_owners)))
    found = [_delivery(row) for row in tx.execute(query).mappings()]
    to = webhooks.get_all(tx, {one.webhook_id for one in found})
    return [(one, to[one.webhook_id]) for one in found]


def note(tx: sa.Connection, one: Delivery, tried: Tried, decided: Verdict, at: datetime) -> None:
    """Store how a try ended, at `at`."""
    values = {
        "state": decided.state.value,
        "next_at": decided.next_at,
        "tries": one.tries + 1,
        "tried_at": at,
        "last_status": tried.status,
        "last_error": tried.error,
        "last_milliseconds": tried.milliseconds,
    }
    tx.execute(deliveries.update().where(*_is(one.webhook_id, one.number)).values(values))


def send_again(tx: sa.Connection, webhook_id: str, number: int, at: datetime) -> bool:
    """Let it be sent at `at`, whatever became of it; false when there is none of this number."""
    values = {"state": DeliveryState.WAITING.value, "next_at": at}
    return tx.execute(deliveries.update().where(*_is(webhook_id, number)).values(values)).rowcount == 1


def give_up_waiting(tx: sa.Connection, webhook_id: str, reason: str) -> None:
    """Nothing that waits for this webhook is sent any more."""
    values = {"state": DeliveryState.FAILED.value, "next_at": None, "last_error": reason}
    tx.execute(deliveries.update().where(deliveries.c.webhook_id == webhook_id, _WAITS).values(values))


def before(tx: sa.Connection, webhook_id: str, at: datetime) -> list[int]:
    """The numbers of a page of what is older than `at` and waits no more.

    Numbers follow the time, so only the oldest are looked at.
    """
    mine = (deliveries.c.webhook_id == webhook_id, deliveries.c.next_at.is_(None))
    query = sa.select(deliveries.c.number, deliveries.c.created_at).where(*mine).order_by(deliveries.c.number)
    return [number for number, created_at in tx.execute(query.limit(PAGE)) if created_at < at]


def delete(tx: sa.Connection, webhook_id: str, numbers: Collection[int]) -> None:
    """Delete these, as far as they still do not wait."""
    mine = (deliveries.c.webhook_id == webhook_id, deliveries.c.next_at.is_(None))
    tx.execute(deliveries.delete().where(*mine, deliveries.c.number.in_(numbers)))


def _is(webhook_id: str, number: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (deliveries.c.webhook_id == webhook_id, deliveries.c.number == number)


def _delivery(row: sa.RowMapping) -> Delivery:
    return Delivery(**{**row, "state": DeliveryState(row["state"])})
