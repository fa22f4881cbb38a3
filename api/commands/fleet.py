"""`sandbox workers`: look at the fleet."""

from __future__ import annotations

from typing import Any

import click

from api.commands.options import Session, client_command
from api.commands.render import plain, short_time, size

COLUMNS = ("name", "state", "slots", "cpus", "memory", "disk", "heartbeat", "trouble")


@click.group()
def workers() -> None:
    """Look at the workers of the fleet."""


@workers.command("list")
@client_command(listing=True)
def list_workers(session: Session) -> None:
    """List the workers: what they can hold, what is used, when they were last heard of."""
    found = session.client.workers()
    if session.output.is_json:
        session.output.json(found)
    else:
        session.output.rows(COLUMNS, [row(worker) for worker in found["workers"]])


def row(worker: dict[str, Any]) -> tuple[object, ...]:
    """Return one line: what is used of what placement may promise."""
    used, capacity = worker.get("used") or {}, worker.get("capacity") or {}

    def of(name: str, shown: Any = plain) -> str:
        return f"{shown(used.get(name))} of {shown(capacity.get(name))}"

    return (
        worker["name"],
        worker["state"],
        of("slots"),
        of("cpus"),
        of("memory_bytes", size),
        of("disk_bytes", size),
        short_time(worker.get("last_heartbeat_at")),
        worker.get("trouble") or "",
    )
