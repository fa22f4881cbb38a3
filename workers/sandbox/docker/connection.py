"""How this host's Docker Engine is reached."""

from __future__ import annotations

import os
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
