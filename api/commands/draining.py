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
        while worker["task_ids"]:
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


def drain_news(worker: Worker) -> str:
    """Say how far the drain is, and what to do next."""
    name, ids = worker["name"], worker["task_ids"]
    if worker["state"] == "drained":
        return (
            f"{name} is drained: it owns nothing. Stop it, or `sandbox workers resume {name}` lets it take tasks again"
        )
    if not ids:
        return (
            f"{name} is {worker['state']} and owns nothing: started again, it takes nothing until it is resumed. "
            f"`sandbox workers remove {name}` forgets it"
        )
    more = f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else ""
    until = f" What still runs at {short_time(worker['drain_until'])} UTC is ended." if worker["drain_until"] else ""
    return f"{name} is {worker['state']} and still owns {len(ids)}: {', '.join(ids[:IDS_SHOWN])}{more}.{until}"
