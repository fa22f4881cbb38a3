"""`python -m workers.sandbox.docker.stop ID`: end a container by itself. The keeper runs it."""

from __future__ import annotations

import sys

from docker import APIClient
from docker.errors import APIError, NotFound

from workers.sandbox.docker.connection import ENGINE_ERRORS, connect

CONFLICT = 409
NEVER_STARTED = "created"
TRIES = 3


def main(sandbox: str) -> int:
    """Kill the container, or remove one that was never started; 0 when it does not run and nobody will start it.

    Whoever was about to start it may have slept, and another worker have the task by now.
    """
    try:
        api = connect()
        return 0 if any(_ended(api, sandbox) for _ in range(TRIES)) else 1
    except NotFound:
        return 0
    except APIError:
        return 1
    except ENGINE_ERRORS as error:
        print(f"the Docker Engine does not answer: {error}", file=sys.stderr)  # noqa: T201 - the keeper's log
        return 1


def _ended(api: APIClient, sandbox: str) -> bool:
    """False when it was started, or removed, in between: look again."""
    try:
        api.kill(sandbox, "KILL")
    except APIError as error:
        if error.status_code != CONFLICT:
            raise
    else:
        return True
    if api.inspect_container(sandbox)["State"]["Status"] != NEVER_STARTED:
        return True
    try:
        api.remove_container(sandbox)
    except APIError as error:
        if error.status_code != CONFLICT:
            raise
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
