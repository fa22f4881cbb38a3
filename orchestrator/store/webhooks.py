"""Webhooks in the store, and how far the journal was told to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator import journal
from orchestrator.journal import Place
from orchestrator.models import Webhook
from orchestrator.store.tables import installation, webhooks

_COLUMNS = [webhooks.c[one.name] for one in fields(Webhook)]
_OF_NO_TASK = webhooks.c.task_id.is_(None)
_ACTIVE = webhooks.c.disabled_at.is_(None)


def begin_telling(tx: sa.Connection) -> None:
    """Before a webhook is stored in `tx`: what happened while there was none is told to nobody.

    For a store that `is_prepared` (by `Database.installation_id`). Call it before anything that `tx` is to
    tell the new webhook.
    """
    # Two that are the first at the same time: the second must not leave out what the first is to hear.
    tx.execute(sa.select(installation.c.id).with_for_update())
    if not any_exists(tx):
        newest = journal.newest(tx)
        tx.execute(
            installation.update().values(told_transaction_id=newest.transaction_id, told_position=newest.position)
        )


def is_prepared(tx: sa.Connection) -> bool:
    """True when the store has a place for how far it was told."""
    return tx.scalar(sa.select(installation.c.id).limit(1)) is not None


def any_exists(tx: sa.Connection) -> bool:
    return tx.scalar(sa.select(webhooks.c.id).limit(1)) is not None


def told(tx: sa.Connection) -> Place | None:
    """Up to where the journal was told; None when there is nobody to tell."""
    query = sa.select(installation.c.told_transaction_id, installation.c.told_position)
    row = tx.execute(query.where(sa.exists().where(webhooks.c.id.is_not(None)))).first()
    return Place(*row) if row else None


def move_told(tx: sa.Connection, before: Place, to: Place) -> bool:
    """Go on from `before`; false when somebody else has, and nothing is changed then."""
    where = (
        installation.c.told_transaction_id == before.transaction_id,
        installation.c.told_position == before.position,
    )
    values = {"told_transaction_id": to.transaction_id, "told_position": to.position}
    return tx.execute(installation.update().where(*where).values(values)).rowcount == 1


def insert(tx: sa.Connection, one: Webhook) -> None:
    """Store a new webhook, after `begin_telling`."""
    values: dict[str, Any] = {name.name: getattr(one, name.name) for name in fields(Webhook)}
    tx.execute(webhooks.insert().values({**values, "events": list(one.events), "origin": one.origin}))


def get(tx: sa.Connection, webhook_id: str, *, for_update: bool = False) -> Webhook | None:
    """Return a webhook; `for_update` keeps others from changing it until this transaction ends (SQLite always does)."""
    query = sa.select(*_COLUMNS).where(webhooks.c.id == webhook_id)
    row = tx.execute(query.with_for_update() if for_update else query).mappings().first()
    return _webhook(row) if row else None


def get_all(tx: sa.Connection, ids: Collection[str]) -> dict[str, Webhook]:
    """Those of these ids that are there."""
    found = tx.execute(sa.select(*_COLUMNS).where(webhooks.c.id.in_(ids))).mappings()
    return {row["id"]: _webhook(row) for row in found}


def find(
    tx: sa.Connection, *, owner: str | None, task_id: str | None, limit: int, offset: int
) -> tuple[list[Webhook], int]:
    """One page, newest first, and how many there are. `owner`: of those that hear of his tasks alone; None: of all.

    `task_id`: of that task's own; None: of those that are no task's.
    """
    where = [_OF_NO_TASK if task_id is None else webhooks.c.task_id == task_id]
    if owner is not None:
        where.append(webhooks.c.owner == owner)
    query = sa.select(*_COLUMNS).where(*where).order_by(webhooks.c.created_at.desc(), webhooks.c.id.desc())
    found = tx.execute(query.limit(limit).offset(offset)).mappings()
    total = tx.scalar(sa.select(sa.func.count()).select_from(webhooks).where(*where))
    return [_webhook(row) for row in found], int(total or 0)


def lasting(tx: sa.Connection) -> list[str]:
    """The ids of all that are no task's."""
    return list(tx.scalars(sa.select(webhooks.c.id).where(_OF_NO_TASK).order_by(webhooks.c.created_at)))


def count_made_by(tx: sa.Connection, created_by: str | None) -> int:
    """How many there are of this owner's making that are no task's."""
    mine = webhooks.c.created_by.is_(None) if created_by is None else webhooks.c.created_by == created_by
    return int(tx.scalar(sa.select(sa.func.count()).select_from(webhooks).where(_OF_NO_TASK, mine)) or 0)


def listening(tx: sa.Connection, task_ids: Collection[str]) -> list[Webhook]:
    """Those that may hear of some of these tasks: their own, and all that are no task's; without disabled ones."""
    mine = sa.or_(_OF_NO_TASK, webhooks.c.task_id.in_(task_ids))
    return [_webhook(row) for row in tx.execute(sa.select(*_COLUMNS).where(_ACTIVE, mine)).mappings()]


def take_numbers(tx: sa.Connection, webhook_id: str, count: int) -> int | None:
    """The first of so many numbers for deliveries; None for a webhook that is gone, or disabled."""
    query = webhooks.update().where(webhooks.c.id == webhook_id, _ACTIVE)
    taken = query.values(next_delivery=webhooks.c.next_delivery + count).returning(webhooks.c.next_delivery - count)
    number: int | None = tx.scalar(taken)
    return number


def note_success(tx: sa.Connection, webhook_id: str) -> None:
    """Something was delivered: it does not fail, and is not disabled, any more."""
    troubled = sa.or_(webhooks.c.failing_since.is_not(None), webhooks.c.disabled_at.is_not(None))
    values = {"failing_since": None, "disabled_at": None, "disabled_reason": None}
    tx.execute(webhooks.update().where(webhooks.c.id == webhook_id, troubled).values(values))


def note_failure(tx: sa.Connection, webhook_id: str, at: datetime) -> None:
    """Something could not be delivered; the first time since the last success stays."""
    calm = webhooks.c.failing_since.is_(None)
    tx.execute(webhooks.update().where(webhooks.c.id == webhook_id, calm).values(failing_since=at))


def disable(tx: sa.Connection, webhook_id: str, at: datetime, reason: str) -> None:
    where = (webhooks.c.id == webhook_id, _ACTIVE)
    tx.execute(webhooks.update().where(*where).values(disabled_at=at, disabled_reason=reason))


def delete(tx: sa.Connection, webhook_id: str) -> None:
    """Delete it with its deliveries."""
    tx.execute(webhooks.delete().where(webhooks.c.id == webhook_id))


def _webhook(row: sa.RowMapping) -> Webhook:
    return Webhook(**{**row, "events": tuple(row["events"])})
