"""Make and delete webhooks, and send a delivery once more.

A webhook exists for who may read the tasks it hears of; only its maker changes it, or who may do everything.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator import clock
from orchestrator.access import Caller, Scope
from orchestrator.manifest import Manifest
from orchestrator.models import Webhook
from orchestrator.product import Product
from orchestrator.store import deliveries, webhooks
from orchestrator.store.database import Database
from orchestrator.webhooks import events, receiver, signing

log = logging.getLogger(__name__)

MOST_WEBHOOKS = 100
"""That one owner may have, without those of manifests."""


class WebhookNotFound(Exception):
    """There is no webhook with this id for the caller."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id!r}; `GET /api/v1/webhooks` lists those there are")


class DeliveryNotFound(Exception):
    """The webhook has no such delivery."""

    def __init__(self, webhook_id: str, number: str) -> None:
        super().__init__(
            f"webhook {webhook_id} has no delivery {number!r}: it was never made, or is too old; "
            f"`GET /api/v1/webhooks/{webhook_id}/deliveries` lists those there are"
        )


class TooManyWebhooks(Exception):
    """The owner has as many as one may have."""

    def __init__(self) -> None:
        super().__init__(
            f"you have {MOST_WEBHOOKS} webhooks, which is the most; delete one that is not needed any more"
        )


class InvalidWebhook(Exception):
    """A `parameter` of a new webhook cannot be used."""

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"{parameter}: {why}")
        self.parameter = parameter


def create(
    product: Product,
    url: str,
    *,
    wanted: Sequence[str] = events.DEFAULT,
    labels: Mapping[str, str] | None = None,
    secret: str | None = None,
    by: Caller,
) -> Webhook:
    """Store a webhook for the events `wanted` of all tasks that `by` may read; without a secret it gets a new one.

    Raises `InvalidWebhook`, `TooManyWebhooks`, `StoreUnavailable`.
    """
    _check_url(product, url)
    unknown = sorted(set(wanted) - set(events.Event))
    if unknown or not wanted:
        named = f"{unknown[0]!r} is no event" if unknown else "it is empty, so nothing would be sent"
        raise InvalidWebhook("events", f"{named}; events are {', '.join(events.Event)}")
    if secret is not None and (fault := signing.secret_fault(secret)):
        raise InvalidWebhook("secret", fault)
    at = clock.now()
    new = Webhook(
        id=_new_id(),
        url=url,
        events=events.chosen(wanted),
        labels=dict(labels or {}),
        secret=secret or signing.new_secret(),
        owner=by.reach(Scope.TASK_READ),
        created_by=by.owner,
        created_at=at,
    )
    prepare(product.database)
    with product.database.write() as tx:
        webhooks.begin_telling(tx)
        if webhooks.count_made_by(tx, by.owner) >= MOST_WEBHOOKS:
            raise TooManyWebhooks
        webhooks.insert(tx, new)
    log.info("webhook created", extra={"webhook": new.id, "owner": new.created_by})
    return new


def prepare(database: Database) -> None:
    """Make sure that the store can keep how far webhooks were told; before the transaction that stores the first."""
    with database.read() as tx:
        if webhooks.is_prepared(tx):
            return
    database.installation_id()


def insert_own(tx: sa.Connection, task_id: str, manifest: Manifest, *, by: Caller, at: datetime) -> None:
    """Store what the manifest of a new task asks for (`notify`), behind the task and after `begin_telling`."""
    for one in manifest.notify:
        new = Webhook(
            id=_new_id(),
            url=one.url,
            events=events.chosen(one.events),
            secret=one.secret or "",
            task_id=task_id,
            owner=by.owner,
            created_by=by.owner,
            created_at=at,
        )
        webhooks.insert(tx, new)


def look(tx: sa.Connection, webhook_id: str, by: Caller) -> Webhook:
    """Return a webhook that `by` may see. Raises `WebhookNotFound`."""
    found = webhooks.get(tx, webhook_id)
    if found is None or by.reach(Scope.TASK_READ) not in (None, found.owner):
        raise WebhookNotFound(webhook_id)
    return found


def delete(product: Product, webhook_id: str, by: Caller) -> None:
    """Delete a webhook with its deliveries. Raises `WebhookNotFound`, `StoreUnavailable`."""
    with product.database.write() as tx:
        _own(tx, webhook_id, by)
        webhooks.delete(tx, webhook_id)
    log.info("webhook deleted", extra={"webhook": webhook_id})


def redeliver(product: Product, webhook_id: str, number: str, by: Caller) -> int:
    """Have a delivery sent at once, whatever became of it; return its number. A success enables a disabled webhook.

    Raises `WebhookNotFound`, `DeliveryNotFound`, `StoreUnavailable`.
    """
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) <= 18 else 0
    with product.database.write() as tx:
        _own(tx, webhook_id, by)
        if not deliveries.send_again(tx, webhook_id, wanted, clock.now()):
            raise DeliveryNotFound(webhook_id, number)
    return wanted


def _own(tx: sa.Connection, webhook_id: str, by: Caller) -> None:
    found = look(tx, webhook_id, by)
    # `task:create` reaches its owner's alone, whatever else the token may read.
    if by.reach(Scope.TASK_CREATE) not in (None, found.created_by):
        raise WebhookNotFound(webhook_id)


def _check_url(product: Product, url: str) -> None:
    allowed = [ipaddress.ip_network(one) for one in product.settings.webhook_private_cidrs]
    try:
        fault = receiver.literal_fault(receiver.receiver_of(url), allowed)
    except ValueError as error:
        fault = str(error)
    if fault:
        raise InvalidWebhook("url", fault)


def _new_id() -> str:
    return f"wh_{secrets.token_hex(12)}"
