"""Whether the engine has a directory of this process under the same path: it may live in another mount namespace."""

from __future__ import annotations

import secrets
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

_TARGET = "/seen"


def sees_directory(engine: docker.APIClient, directory: Path) -> bool:
    """Ask for a container that cannot be: of an image that does not exist, with the directory as a mount.

    The engine looks at the mounts first, so it names the image only if it found the directory (Engine API,
    `ContainerCreate`: 400 for a mount whose source does not exist, 404 for an image). Nothing is made. An engine that
    looks in another order would tell nothing, which a directory that is nowhere shows; the answer is no then.
    """
    nowhere = directory / f"nowhere-{secrets.token_hex(8)}"
    return _names_image(engine, directory) and not _names_image(engine, nowhere)


def _names_image(engine: docker.APIClient, directory: Path) -> bool:
    mount = {"Type": "bind", "Source": str(directory), "Target": _TARGET, "ReadOnly": True}
    config = {"Image": f"none-such-{secrets.token_hex(16)}", "HostConfig": {"Mounts": [mount]}}
    try:
        engine.create_container_from_config(config)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return True
    except APIError as error:
        if error.is_server_error():
            raise
        return False
    return False
