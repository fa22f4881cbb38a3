"""What the Python client can ask about webhooks: one method for each request of contract §10."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from api.connection import Connection, Json, given, path_of

WEBHOOKS = "/api/v1/webhooks"


class Webhooks:
    """The webhooks of one server. Raises what `Client` raises."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        url: str,
        *,
        events: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        secret: str | None = None,
    ) -> Json:
        """Make a webhook for `events` (the server's default without any) of all tasks that carry all `labels`.

        Without a `secret` of yours the answer holds the one that the server made: it is told this once.
        """
        body: dict[str, Any] = {"url": url}
        body |= {"events": list(events)} if events else {}
        body |= {"labels": dict(labels)} if labels else {}
        body |= {} if secret is None else {"secret": secret}
        headers = {"Content-Type": "application/json"}
        return self._connection.json("POST", WEBHOOKS, headers=headers, content=json.dumps(body).encode())

    def list(self, *, task_id: str | None = None, limit: int | None = None, offset: int | None = None) -> Json:
        """Return one page of the webhooks that you may see: with `task_id` those that its manifest asked for."""
        params = given(task_id=task_id, limit=limit, offset=offset)
        return self._connection.json("GET", WEBHOOKS, params=params, repeatable=True)

    def get(self, webhook_id: str) -> Json:
        """Return one webhook, without its secret."""
        return self._connection.json("GET", path_of("webhook", webhook_id), repeatable=True)

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its deliveries."""
        self._connection.request("DELETE", path_of("webhook", webhook_id))

    def deliveries(self, webhook_id: str, *, limit: int | None = None, offset: int | None = None) -> Json:
        """Return one page of what a webhook was sent, the newest first."""
        params = given(limit=limit, offset=offset)
        return self._connection.json(
            "GET", f"{path_of('webhook', webhook_id)}/deliveries", params=params, repeatable=True
        )

    def redeliver(self, webhook_id: str, number: int) -> Json:
        """Have a delivery sent once more, at once, whatever became of it."""
        return self._connection.json("POST", f"{path_of('webhook', webhook_id)}/deliveries/{number}/redeliver")
