"""Webhooks and their deliveries → JSON."""

from __future__ import annotations

import json
from typing import Any

from api.views import time_text
from orchestrator import clock
from orchestrator.models import Delivery, Webhook


def webhook(one: Webhook) -> dict[str, Any]:
    """Without its secret, which is shown to nobody a second time."""
    return {
        "id": one.id,
        "url": one.url,
        "events": list(one.events),
        "labels": one.labels,
        "task_id": one.task_id,
        "owner": one.owner,
        "created_by": one.created_by,
        "created_at": clock.text(one.created_at),
        "signed": bool(one.secret),
        "failing_since": time_text(one.failing_since),
        "disabled_at": time_text(one.disabled_at),
        "disabled_reason": one.disabled_reason,
    }


def delivery(one: Delivery) -> dict[str, Any]:
    return {
        "number": one.number,
        "id": one.event_id,
        "event": one.event,
        "task_id": one.task_id,
        "state": one.state,
        "created_at": clock.text(one.created_at),
        "tries": one.tries,
        "next_at": time_text(one.next_at),
        "tried_at": time_text(one.tried_at),
        "last_status": one.last_status,
        "last_error": one.last_error,
        "last_milliseconds": one.last_milliseconds,
        "body": json.loads(one.body),
    }
