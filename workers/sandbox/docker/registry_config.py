"""The operator's credentials for image registries: a Docker `config.json` with `auths` (SANDBOX_REGISTRY_CONFIG).

Read at each pull, by the process that pulls, so that a renewed password needs no restart. No value of it is logged.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docker.auth import resolve_index_name, resolve_repository_name

Credentials = dict[str, str]
"""What the engine is given for one pull: `username` and `password`, or `identitytoken`; empty for nobody."""
HELPERS = ("credsStore", "credHelpers")


class UnusableRegistryConfig(Exception):
    """The file cannot be used; the message says why, and holds nothing of its values."""

    exit_code = 2

    def __init__(self, path: Path, why: str, todo: str) -> None:
        super().__init__(f"SANDBOX_REGISTRY_CONFIG={path} cannot be used: {why}; {todo}")


def read(path: Path) -> Mapping[str, Credentials]:
    """Return the credentials by registry. Raises `UnusableRegistryConfig`."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        todo = "make it readable for the worker's user, or unset the setting"
        raise UnusableRegistryConfig(path, error.strerror or str(error), todo) from error
    except ValueError:  # whose message would show what it could not read
        raise UnusableRegistryConfig(path, "it is no JSON document", "write it with `docker login`") from None
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise UnusableRegistryConfig(path, "it holds no map `auths`", "write it with `docker login`")
    if named := [one for one in HELPERS if document.get(one)]:
        why = f"it names helper programs ({', '.join(named)}), which a worker does not run"
        raise UnusableRegistryConfig(path, why, "give the credentials under `auths`")
    return {str(registry): _credentials(path, str(registry), entry) for registry, entry in auths.items()}


def credentials_for(image: str, known: Mapping[str, Credentials]) -> Credentials:
    """Return what the image's registry is to be given; nothing, where no entry is its own."""
    registry, _ = resolve_repository_name(image)
    return next((one for name, one in known.items() if resolve_index_name(name) == registry), {})


def _credentials(path: Path, registry: str, entry: Any) -> Credentials:
    todo = f"write it again with `docker login {registry}`"
    if not isinstance(entry, dict):
        raise UnusableRegistryConfig(path, f"the entry of {registry} is no map", todo)
    if isinstance(token := entry.get("identitytoken"), str) and token:
        return {"identitytoken": token, "serveraddress": registry}
    try:
        user, colon, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    except (TypeError, ValueError, binascii.Error):
        raise UnusableRegistryConfig(path, f"`auth` of {registry} is no base64 text", todo) from None
    if not user or not colon:
        raise UnusableRegistryConfig(path, f"`auth` of {registry} holds no USER:PASSWORD", todo)
    return {"username": user, "password": password, "serveraddress": registry}
