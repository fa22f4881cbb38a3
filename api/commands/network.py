"""`sandbox task network`: what a task's sandbox sent over the network, and what it was refused."""

from __future__ import annotations

from typing import Any

import click

from api.commands.options import Session, client_command
from api.commands.render import short_time, size

COLUMNS = ("host", "port", "rule", "count", "first", "last")


@click.command()
@click.argument("task_id", metavar="ID")
@client_command()
def network(session: Session, task_id: str) -> None:
    """Show what the sandbox of task ID was refused on the network, and how much it sent.

    Where the operator lets a profile learn, also what it reached, as entries for vm.allowed_hosts.
    """
    found = session.client.network(task_id)
    output = session.output
    if output.is_json:
        output.json(found)
        return
    output.fields(
        [
            ("mode", found["mode"]),
            ("allowed", ", ".join(found["allowed_hosts"]) or "-"),
            ("sent", size(found["bytes_up"])),
            ("received", size(found["bytes_down"])),
            ("denied", sum(one["count"] for one in found["denied"])),
        ]
    )
    if found["denied"]:
        output.line("")
        output.rows(COLUMNS, [_row(one) for one in found["denied"]])
    if found.get("learned"):
        output.line("")
        output.rows(COLUMNS, [_row(one) for one in found["learned"]])
        output.line("")
        output.line("To allow exactly what was reached:")
        output.line(f"allowed_hosts: [{', '.join(found['suggested_allowed_hosts'])}]")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    times = short_time(one["first_at"]), short_time(one["last_at"])
    return (one["host"], one["port"], one["rule"], one["count"], *times)
