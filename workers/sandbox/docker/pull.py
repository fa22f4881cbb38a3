"""`python -m workers.sandbox.docker.pull IMAGE`: fetch one image.

A process of its own, so that a pull can be stopped at any moment: neither a silent registry nor a stuck engine
returns control to the SDK. The engine drops a download whose client is gone.
"""

from __future__ import annotations

import sys

from docker.errors import APIError

from workers.sandbox.docker.connection import ENGINE_ERRORS, connect

REFUSED = 1
ENGINE_AWAY = 3


def main(image: str) -> int:
    """Fetch it; 0 when it is here. Else the reason is on stderr."""
    try:
        for progress in connect().pull(image, stream=True, decode=True):
            if "error" in progress:
                print(progress["error"], file=sys.stderr)  # noqa: T201 - read by the worker
                return REFUSED
    except APIError as error:
        print(error.explanation or error, file=sys.stderr)  # noqa: T201
        return REFUSED
    except ENGINE_ERRORS as error:
        print(error, file=sys.stderr)  # noqa: T201
        return ENGINE_AWAY
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
