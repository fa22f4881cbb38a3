"""`sandbox workers`: look at the fleet, drain, resume and remove workers."""

from __future__ import annotations

from typing import Any

import click

from api.commands.draining import Worker, drain_news, wait_until_idle
from api.commands.options import Session, ask, client_command, duration, yes_option
from api.commands.render import plain, short_time, size

COLUMNS = ("name", "state", "slots", "cpus", "memory", "disk", "heartbeat", "trouble")


def as_duration(raw: str) -> str:
    """Return a duration as it was written; raise `BadParameter` for anything else."""
    duration(raw)
    return raw


@click.group()
def workers() -> None:
    """Look at the workers of the fleet; drain, resume and remove them."""


@workers.command("list")
@client_command(listing=True)
def list_workers(session: Session) -> None:
    """List the workers: what they can hold, what is used, when they were last heard of."""
    found = session.client.workers()
    if session.output.is_json:
        session.output.json(found)
    else:
        session.output.rows(COLUMNS, [row(worker) for worker in found["workers"]])


@workers.command()
@click.argument("name")
@client_command()
def show(session: Session, name: str) -> None:
    """Show what is known about worker NAME."""
    worker = session.client.worker(name)
    if session.output.is_json:
        session.output.json(worker)
    else:
        session.output.fields(fields(worker))


@workers.command()
@click.argument("name")
@click.option(
    "--deadline",
    type=as_duration,
    metavar="DURATION",
    help="End what still runs after so long, for example 30m; without it, nothing is ended.",
)
@click.option("--wait", "-w", is_flag=True, help="Wait until it owns nothing.")
@click.option("--timeout", type=duration, metavar="DURATION", help="Wait no longer than this; then exit code 124.")
@client_command()
def drain(session: Session, name: str, *, deadline: str | None, wait: bool, timeout: int | None) -> None:
    """Let worker NAME finish what it has and take nothing new, until it is resumed.

    What it had not begun goes to other workers at once. The drain outlasts restarts of the worker.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout limits waiting: give it together with --wait")
    worker = session.client.drain_worker(name, deadline=deadline)
    if wait:
        if worker["state"] == "draining" and not session.output.is_json:
            session.output.note(drain_news(worker))
        worker = wait_until_idle(session, worker, timeout)
    if session.output.is_json:
        session.output.json(worker)
    else:
        session.output.line(drain_news(worker))


@workers.command()
@click.argument("name")
@client_command()
def resume(session: Session, name: str) -> None:
    """Let worker NAME take tasks again."""
    worker = session.client.resume_worker(name)
    if session.output.is_json:
        session.output.json(worker)
    elif worker["state"] == "active":
        session.output.line(f"{name} takes tasks again")
    else:
        session.output.line(
            f"{name} will take tasks again, but it is {worker['state']}: start it with `sandbox worker --name {name}` "
            "on its host"
        )


@workers.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Its host is gone for good: what it owned ends as lost now.")
@yes_option
@client_command()
def remove(session: Session, name: str, *, force: bool, yes: bool) -> None:
    """Forget worker NAME, which does not run any more.

    One that is active or still owns tasks is refused. With --force you say that its host will never come back:
    its tasks are retried elsewhere or end worker_lost. On a terminal the command asks first.
    """
    if force:
        ask(f"Is the host of worker {name} gone for good, and may its tasks run again elsewhere?", yes=yes)
    else:
        ask(f"Remove worker {name}?", yes=yes)
    session.client.remove_worker(name, force=force)
    if session.output.is_json:
        session.output.json({"name": name, "removed": True})
    else:
        session.output.line(f"{name} removed; started again, it registers anew")


def row(worker: Worker) -> tuple[object, ...]:
    """Return one line: what is used of what placement may promise."""
    used, capacity = worker.get("used") or {}, worker.get("capacity") or {}

    def of(name: str, shown: Any = plain) -> str:
        return f"{shown(used.get(name))} of {shown(capacity.get(name))}"

    return (
        worker["name"],
        state(worker),
        of("slots"),
        of("cpus"),
        of("memory_bytes", size),
        of("disk_bytes", size),
        short_time(worker.get("last_heartbeat_at")),
        worker.get("trouble") or "",
    )


def fields(worker: Worker) -> list[tuple[str, object]]:
    """Return what people want to know about one worker, in their order; None is left out."""
    _, _, slots, cpus, memory, disk, heartbeat, trouble = row(worker)
    until = worker.get("drain_until")
    return [
        ("name", worker["name"]),
        ("state", state(worker)),
        ("drain until", short_time(until) if until else None),
        ("trouble", trouble or None),
        ("tasks", ", ".join(worker.get("task_ids") or ()) or None),
        ("slots", slots),
        ("cpus", cpus),
        ("memory", memory),
        ("disk", disk),
        ("profiles", ", ".join(worker.get("profiles") or ())),
        ("networks", ", ".join(worker.get("network_modes") or ())),
        ("agents", ", ".join(worker.get("agents") or ())),
        ("version", worker.get("version")),
        ("started", short_time(worker.get("registered_at"))),
        ("heartbeat", heartbeat),
    ]


def state(worker: Worker) -> str:
    """Return the state; a drain of a worker that does not run shows beside it."""
    shown = str(worker["state"])
    return f"{shown}, draining" if worker.get("draining") and shown in {"stopped", "lost"} else shown
