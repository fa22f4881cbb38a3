"""`python -m workers.sandbox.docker.stop ID`: kill a container by itself. The keeper runs it."""

from __future__ import annotations

import sys

from docker.errors import APIError, NotFound

from workers.sandbox.docker.connection import ENGINE_ERRORS, connect

NOT_RUNNING = 409


def main(sandbox: str) -> int:
    """Kill the container; 0 when it runs no more."""
    try:
        api = connect()
        api.kill(sandbox, "KILL")
    except NotFound:
        return 0
    except APIError as error:
        return 0 if error.status_code == NOT_RUNNING else 1
    except ENGINE_ERRORS as error:
        print(f"the Docker Engine does not answer: {error}", file=sys.stderr)  # noqa: T201 - the keeper's log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
