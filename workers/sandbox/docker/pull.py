"""`python -m workers.sandbox.docker.pull IMAGE [REGISTRY_CONFIG]`: fetch one image.

A process of its own, so that a pull can be stopped at any moment: neither a silent registry nor a stuck engine
returns control to the SDK. The engine drops a download whose client is gone. On stdout it says how far it is, a
line each; on stderr why it failed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from docker.errors import APIError, DockerException

from workers.sandbox.docker.connection import ENGINE_ERRORS, connect
from workers.sandbox.docker.pull_progress import PullProgress
from workers.sandbox.docker.registry_config import Credentials, UnusableRegistryConfig, credentials_for, read

REFUSED = 1
ENGINE_AWAY = 3


def main(image: str, registry_config: str | None = None) -> int:
    """Fetch it; 0 when it is here. Else the reason is on stderr."""
    try:
        credentials = credentials_for(image, read(Path(registry_config)) if registry_config else {})
    except (UnusableRegistryConfig, DockerException) as error:
        return _failed(error, REFUSED)
    try:
        return _pull(image, credentials)
    except APIError as error:
        return _failed(error.explanation or error, REFUSED)
    except ENGINE_ERRORS as error:
        return _failed(error, ENGINE_AWAY)


def _pull(image: str, credentials: Credentials) -> int:
    progress = PullProgress(image, time.monotonic())
    # Credentials are always given, if need be empty ones: else the SDK takes those of this user's own `docker login`.
    for event in connect().pull(image, stream=True, decode=True, auth_config=credentials):
        if "error" in event:
            return _failed(event["error"], REFUSED)
        if words := progress.take(event, time.monotonic()):
            _say(words)
    _say(progress.end(time.monotonic()))
    return 0


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - read by the worker


def _failed(why: object, code: int) -> int:
    print(why, file=sys.stderr)  # noqa: T201 - read by the worker
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
