"""`sandbox admin requeue`: for messages or placements that seem stuck."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.commands.report import Report, admin_command, existing_product
from orchestrator.models import Task
from orchestrator.services.requeue import requeue as place_again
from orchestrator.settings import Settings
from orchestrator.states import State


@click.command()
@click.argument("task_ids", metavar="[TASK]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All tasks that are placed and not begun.")
@admin_command
def requeue(in_force: Settings, *, task_ids: Sequence[str], every: bool) -> Report:
    """Take back what was placed on a worker and not begun, place it again, and ring again.

    The reaper rings by itself for what waits five seconds, and takes back what a lost worker had: this is for a
    worker that is alive and does not begin. Nothing that a worker has begun is touched.

    It may be placed on the same worker again; `sandbox workers drain NAME` moves it to another one.
    """
    if bool(task_ids) == every:
        raise click.UsageError("name the tasks, or give --all")
    with existing_product(in_force) as product:
        done = place_again(product, None if every else task_ids)
    data = {
        "taken_back": done.taken_back,
        "tasks": [{"id": one.id, "state": one.state, "worker": one.worker, "message": _now(one)} for one in done.now],
    }
    told = [f"{one.id}: {_now(one)}" for one in done.now]
    return Report([*told, f"{len(done.taken_back)} taken back and placed again"], data)


def _now(task: Task) -> str:
    if task.state is State.PENDING:
        return task.state_message or "waits"
    return f"{task.state}: a worker has begun it, so it was left alone" if not task.is_terminal else f"{task.state}"
