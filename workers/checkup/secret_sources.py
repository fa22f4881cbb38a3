"""Where tasks' secrets come from: whether the sources an operator named can be read, never what is in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from orchestrator.settings import Settings
from workers.finding import Finding, note, ok, problem

SUBJECT = "secrets"
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def sources(settings: Settings) -> Iterator[Finding]:
    """A source that cannot be read fails each task that names it, at staging, with `secret_unavailable`."""
    found = [*_directory(settings.secrets_dir), *_token_file(settings.vault_url, settings.vault_token_file)]
    yield from found
    if not found:
        listed = f" and {', '.join(settings.secrets_env)}" if settings.secrets_env else ""
        yield ok(SUBJECT, f"from variables {settings.secrets_env_prefix}…{listed}; no directory and no Vault are named")


def ssh_hosts(settings: Settings) -> Iterator[Finding]:
    """Without the key of an ssh host nobody can tell it from another one, so no clone asks it."""
    file = settings.ssh_known_hosts
    try:
        known = file.read_text(errors="replace").strip()
    except OSError as error:
        known, why = "", error.strerror or str(error)
    else:
        why = "it is empty"
    if known:
        yield ok("ssh hosts", f"{len(known.splitlines())} keys in {file}")
        return
    seen = f"{file}: {why}; repositories over ssh cannot be cloned, https is not concerned"
    yield note("ssh hosts", seen, f"put the keys of your git hosts there: ssh-keyscan HOST >> {file}, and compare them")


def _directory(directory: Path | None) -> Iterator[Finding]:
    if directory is None:
        return
    if not directory.is_dir() or not os.access(directory, os.R_OK | os.X_OK):
        seen = f"SANDBOX_SECRETS_DIR={directory} is no directory this user can read: source: file finds nothing"
        yield problem(SUBJECT, seen, "make it, owned by the worker's user with mode 0700")
    elif directory.stat().st_mode & _FOR_OTHERS:
        seen = f"SANDBOX_SECRETS_DIR={directory} is open to other users of this host"
        yield note(SUBJECT, seen, f"chmod 0700 {directory}")
    else:
        yield ok(SUBJECT, f"source: file reads below {directory}")


def _token_file(url: str | None, file: Path | None) -> Iterator[Finding]:
    if url is None or file is None:
        return
    try:
        empty, mode = not file.read_text(errors="replace").strip(), file.stat().st_mode
    except OSError as error:
        seen = f"SANDBOX_VAULT_TOKEN_FILE={file} cannot be read ({error.strerror}): source: vault finds nothing"
        yield problem(SUBJECT, seen, "let the worker's user read it, or correct the setting")
        return
    if empty:
        seen = f"SANDBOX_VAULT_TOKEN_FILE={file} is empty: source: vault finds nothing"
        yield problem(SUBJECT, seen, "put a token there; an agent beside the worker may renew it")
    elif mode & _FOR_OTHERS:
        yield note(SUBJECT, f"SANDBOX_VAULT_TOKEN_FILE={file} is open to other users", f"chmod 0600 {file}")
    else:
        yield ok(SUBJECT, f"source: vault asks {url} with the token in {file}")
