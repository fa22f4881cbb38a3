"""`python -m workers.probe worker`, `python -m workers.probe keeper DIRECTORY`: health checks for containers.

Exit code 0 is healthy; else one line says what is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from workers.keeper_start import KeeperStarter

USAGE = "use `worker`, or `keeper DIRECTORY`"


def keeper_trouble(directory: Path) -> str | None:
    """None when a keeper answers in `directory`. Starts none."""
    try:
        connection = KeeperStarter(directory, idle_exit_seconds=0, stop_after_seconds=0, starts=False).connect()
        if connection is None:
            return f"no keeper listens in {directory}; start it"
        with connection, connection.makefile("rb") as answers:
            connection.sendall(b'{"op": "hello"}\n')
            answer = json.loads(answers.readline() or b"{}")
    except (OSError, ValueError) as error:
        return f"the keeper in {directory} does not answer: {error}; end it if it hangs"
    return None if answer.get("ok") else f"the keeper in {directory} answered {answer}; end it, and start this version"


def worker_trouble() -> str | None:
    """None when the worker of these settings has a fresh heartbeat in the store, and reports no trouble."""
    from orchestrator import clock, settings  # noqa: PLC0415 - the keeper's check runs often and needs none of it
    from orchestrator.models import WorkerState  # noqa: PLC0415
    from orchestrator.store import workers  # noqa: PLC0415
    from orchestrator.store.database import Database, StoreUnavailable  # noqa: PLC0415

    in_force = settings.load()
    database = Database(in_force.store_url)
    try:
        with database.read() as tx:
            found = workers.get(tx, in_force.worker_name)
    except StoreUnavailable as error:
        return str(error)
    finally:
        database.close()
    if found is None or found.state is not WorkerState.ACTIVE:
        state = found.state.value if found else "not registered"
        return f"worker {in_force.worker_name} is {state}; see its log"
    age = (clock.now() - found.heartbeat_at).total_seconds()
    if age > in_force.lease_seconds:
        return f"worker {in_force.worker_name} sent its last heartbeat {age:.0f} s ago; see its log"
    return found.trouble


def main(arguments: list[str]) -> int:
    match arguments:
        case ["worker"]:
            trouble = worker_trouble()
        case ["keeper", directory]:
            trouble = keeper_trouble(Path(directory))
        case _:
            trouble = USAGE
    if trouble:
        print(trouble)  # noqa: T201 - the engine keeps it beside the check's result
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
