"""What is wrong with an operator's settings for the sources of secrets (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

ENV_PREFIX = "SANDBOX_SECRET_"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_VAULT_MOUNT = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*", re.ASCII)


def faults(values: Mapping[str, Any], own_names: Collection[str]) -> Iterator[str]:
    """Yield an error for each bad value. `own_names` are the variables that the product reads itself.

    A task may name any key, so no key may lead to one of those: a store's URL holds a password.
    """
    prefix = values["secrets_env_prefix"]
    if not _VARIABLE.fullmatch(prefix):
        yield f"SANDBOX_SECRETS_ENV_PREFIX={prefix!r} is no beginning of a variable's name; correct it"
    elif any(name.startswith(prefix) for name in own_names):
        yield (
            f"SANDBOX_SECRETS_ENV_PREFIX={prefix!r} begins names of the product's own settings, which tasks could "
            f"read so; use a longer one such as {ENV_PREFIX}"
        )
    for name in values["secrets_env"]:
        if name in own_names:
            yield f"SANDBOX_SECRETS_ENV lists {name}, a setting of the product itself; take it out"
    if not _VAULT_MOUNT.fullmatch(values["vault_mount"]):
        yield f"SANDBOX_VAULT_MOUNT={values['vault_mount']!r} is no path like secret or team/kv; correct it"
    if (values["vault_url"] is None) != (values["vault_token_file"] is None):
        yield "SANDBOX_VAULT_URL and SANDBOX_VAULT_TOKEN_FILE need each other; set both or none"
    if values["vault_url"] is not None and (fault := _vault_url_fault(values["vault_url"])):
        yield f"SANDBOX_VAULT_URL {fault}"


def _vault_url_fault(url: str) -> str | None:
    """The token goes there: nobody on the way may read it, so plain http is for this machine only."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "cannot be taken apart; write it like https://vault.example:8200"
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        return "must be a URL like https://vault.example:8200, without user and query; correct it"
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return None
    return "is not https://, so everybody on the way could read the token; use https://"
