"""A drain from the outside: wait for its end, say how far it is."""

from __future__ import annotations

import time
from typing import Any

from api.client_errors import ServerRefused
from api.commands import watching
from api.commands.options import Session
from api.commands.render import short_time
from orchestrator.cli import EXIT_INTERRUPTED, CommandFailed

Worker = dict[str, Any]

EXIT_TIMEOUT = 124
IDS_SHOWN = 5


def wait_until_idle(session: Session, worker: Worker, timeout_seconds: int | None) -> Worker:
    """Return the worker when it owns nothing.

    Raises `CommandFailed`: 4 when somebody resumed it, 124 when the time is over, 130 on Ctrl-C.
    """
    name = worker["name"]
    give_up_at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    try:
        while _count(worker):
            if not worker["draining"]:
                raise CommandFailed(
                    f"worker {name} takes tasks again: somebody resumed it; drain it again to go on",
                    ServerRefused.exit_code,
                )
            if give_up_at is not None and time.monotonic() >= give_up_at:
                raise CommandFailed(
                    f"after {timeout_seconds} s {drain_news(worker)} Give a --deadline to have them ended.",
                    EXIT_TIMEOUT,
                )
            time.sleep(watching.POLL_SECONDS)
            worker = session.client.worker(name)
    except KeyboardInterrupt:
        raise CommandFailed(
            f"interrupted; worker {name} goes on draining. Look at it with `sandbox workers show {name}`, "
            f"end the drain with `sandbox workers resume {name}`.",
            EXIT_INTERRUPTED,
        ) from None
    return worker


def _count(worker: Worker) -> int:
    """How many tasks it owns; its ids are those that this token may read."""
    return int(worker.get("task_count", len(worker["task_ids"])))  # an older server shows them all


def drain_news(worker: Worker) -> str:
    """Say how far the drain is, and what to do next."""
    name, ids, count = worker["name"], worker["task_ids"], _count(worker)
    if worker["state"] == "drained":
        return (
            f"{name} is drained: it owns nothing. Stop it, or `sandbox workers resume {name}` lets it take tasks again"
        )
    if not count:
        return (
            f"{name} is {worker['state']} and owns nothing: started again, it takes nothing until it is resumed. "
            f"`sandbox workers remove {name}` forgets it"
        )
    shown = ids[:IDS_SHOWN]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    named = f": {', '.join(shown)}{more}" if shown else ""  # none that this token may read
    until = f" What still runs at {short_time(worker['drain_until'])} UTC is ended." if worker["drain_until"] else ""
    return f"{name} is {worker['state']} and still owns {count}{named}.{until}"
