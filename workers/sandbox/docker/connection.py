"""How this host's Docker Engine is reached."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any

import docker
import requests
import urllib3
from docker.errors import DockerException

TIMEOUT_SECONDS = 60

ENGINE_ERRORS = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What the SDK raises when the engine does not answer. A stream that breaks off raises urllib3's own errors."""


def options() -> dict[str, Any]:
    """The SDK's arguments for a client. The API version is negotiated: engines drop old ones."""
    base_url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return {"base_url": base_url, "version": "auto", "timeout": TIMEOUT_SECONDS, "num_pools": 32}


def connect() -> docker.APIClient:
    """A client of the engine. Raises one of `ENGINE_ERRORS`."""
    return docker.APIClient(**options())


def engine_process() -> int | None:
    """The process id of the engine as this process sees it; 0 when it lives where no process of it can be seen.

    None: not known, because the engine does not run now.
    """
    address = str(options()["base_url"])
    if not address.startswith("unix://"):
        return 0
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(address.removeprefix("unix://"))
        # The kernel's word of who listens there, in the process ids of this process's own namespace.
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", found)[0])
    return None
