"""Where tasks' secrets come from: whether the sources an operator named can be read, never what is in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from orchestrator.settings import Settings, secret_variable
from workers.finding import Finding, note, ok, problem
from workers.secrets.port import SecretRefused, SourceAway
from workers.secrets.vault import VaultSource

SUBJECT = "secrets"
_VAULT_SECONDS = 3.0
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def sources(settings: Settings) -> Iterator[Finding]:
    """A source that cannot be read fails each task that names it, at staging, with `secret_unavailable`."""
    yield from _variables(settings)
    yield from _directory(settings.secrets_dir)
    yield from _vault(settings)


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


def _variables(settings: Settings) -> Iterator[Finding]:
    listed = f" and {', '.join(settings.secrets_env)}" if settings.secrets_env else ""
    others = [
        "no directory" if settings.secrets_dir is None else "",
        "no Vault" if settings.vault_url is None else "",
    ]
    unnamed = " and ".join(filter(None, others))
    seen = f"source: env reads variables {settings.secrets_env_prefix}…{listed}"
    yield ok(SUBJECT, f"{seen}; {unnamed} named" if unnamed else seen)
    for name in settings.secrets_env:
        if secret_variable(settings, name) is None:
            lacks = f"SANDBOX_SECRETS_ENV lists {name}, which is not set here: tasks that name it fail at staging"
            advice = "run doctor with the worker's environment, or it judges its own; if the worker lacks it, set it"
            yield note(SUBJECT, lacks, advice)


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


def _vault(settings: Settings) -> Iterator[Finding]:
    url, file = settings.vault_url, settings.vault_token_file
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
        return
    if mode & _FOR_OTHERS:
        yield note(SUBJECT, f"SANDBOX_VAULT_TOKEN_FILE={file} is open to other users", f"chmod 0600 {file}")
    try:
        VaultSource(url, file, settings.vault_mount).check_token(_VAULT_SECONDS)
    except SecretRefused as error:
        yield problem(SUBJECT, f"source: vault finds nothing at {url}: {error}", error.hint)
    except SourceAway as error:
        yield problem(SUBJECT, f"source: vault finds nothing at {url}: {error}", "start Vault, or correct the address")
    else:
        yield ok(SUBJECT, f"source: vault asks {url}, which takes the token in {file}")
