"""The rules about variables and secrets of a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from orchestrator.documents.parts import Path
from orchestrator.manifest.errors import Finding, closest, field_name, shown
from orchestrator.manifest.policy import ManifestPolicy
from orchestrator.manifest.values import entries, mapping, text

MAX_VARIABLE_BYTES = 128 << 10
"""Linux takes no single `NAME=value` of this size or more (MAX_ARG_STRLEN)."""

_PROXY_NAMES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"})
# Without braces inside, so that a long text of unclosed "${" is read in linear time.
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_MAX_SUGGESTIONS = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_VAULT_KEY = re.compile(r"[A-Za-z0-9_.@/-]+(?::[A-Za-z0-9_.@/-]+)?", re.ASCII)


def reserved_because(name: str) -> str | None:
    """Return why a task may not set the variable `name`, or None when it may."""
    if name in {"PATH", "HOME"}:
        return "the sandbox sets it to fit its image"
    if name.upper() in _PROXY_NAMES:
        return "the sandbox sets it to its network filter"
    if name.startswith("LD_"):
        return "it changes which code the sandbox's own launcher loads"
    return None


def names_are_not_reserved(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    named: list[tuple[Path, str]] = [(("run", "env", name), name) for name in mapping(data, "run", "env")]
    for index, secret in entries(data, "secrets"):
        if name := text(secret, "name"):
            named.append((("secrets", index, "name"), name))
    for path, name in named:
        if (why := reserved_because(name)) is not None:
            message = f"{field_name(path)}: the variable {name[:60]} is reserved: {why}; choose another name"
            yield Finding(path, "reserved_name", message)


def names_are_unique(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    environment = mapping(data, "run", "env")
    seen: dict[str, int] = {}
    for index, secret in entries(data, "secrets"):
        name = text(secret, "name")
        if not name:
            continue
        first = seen.setdefault(name, index)
        other = f"secrets[{first}]" if first != index else "run.env" if name in environment else None
        if other is not None:
            message = (
                f"secrets[{index}].name is {shown(name)}: {other} sets the same variable, and only one "
                "value can win; rename or remove one"
            )
            yield Finding(("secrets", index, "name"), "duplicate_name", message)


def variables_can_be_passed(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for name, one in mapping(data, "run", "env").items():
        if isinstance(one, str) and len(name) + 2 + len(one.encode()) > MAX_VARIABLE_BYTES:
            path: Path = ("run", "env", name)
            message = (
                f"{field_name(path)} is too long: Linux passes only variables shorter than "
                f"{MAX_VARIABLE_BYTES:,} bytes; put the text into a file"
            )
            yield Finding(path, "length", message)


def secret_keys_fit_their_source(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for index, secret in entries(data, "secrets"):
        key, source = text(secret, "key"), text(secret, "source")
        if not key:
            continue
        if source == "env" and not _NAME.fullmatch(key):
            form = "the name of a variable, such as GITHUB_TOKEN"
        elif source == "vault" and not _is_vault_key(key):
            form = "path or path:field, such as ci/github:token"
        elif source == "file" and not _is_file_key(key):
            form = "a path below the operator's directory, such as ci/github-token"
        else:
            continue
        path: Path = ("secrets", index, "key")
        message = f"{field_name(path)} is {shown(key)}: with source {source} it must be {form}; correct it"
        yield Finding(path, "secret_key", message)


def _is_file_key(key: str) -> bool:
    """Of a key that stays inside, which another rule looks at."""
    if key.startswith("/") or ".." in key.split("/"):
        return True
    return not {"", "."} & set(key.split("/")) and key.isprintable()


def _is_vault_key(key: str) -> bool:
    parts = key.partition(":")[0].split("/")
    return bool(_VAULT_KEY.fullmatch(key)) and not {"", ".", ".."} & set(parts)


def mcp_servers_can_be_reached(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for name, server in mapping(data, "claude", "mcp_config", "mcpServers").items():
        if isinstance(server, dict) and "command" not in server and "url" not in server:
            path: Path = ("claude", "mcp_config", "mcpServers", name)
            message = (
                f"{field_name(path)} has neither command nor url: the agent could not start or reach the "
                'server; add one, for example command: "npx"'
            )
            yield Finding(path, "mcp_server", message)


def references_name_secrets(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    known = _names_of_secrets(data)
    credential = text(data, "repository", "credential")
    suggested = 0
    for path, one in _referring_values(data):
        for name in dict.fromkeys(_REFERENCE.findall(one)):
            if name in known and name == credential:
                message = (
                    f"{field_name(path)} refers to ${{{name[:60]}}}: repository.credential names it, so it is not "
                    "handed to the command; add a second entry of another name to secrets"
                )
                yield Finding(path, "unknown_secret", message)
            if name in known:
                continue
            suggestion = closest(name, known) if suggested < _MAX_SUGGESTIONS else None
            suggested += 1
            if _NAME.fullmatch(name):
                why = f"secrets has no entry named {name[:60]}"
                advice = f"write ${{{suggestion}}}" if suggestion else "add it to secrets"
            else:
                why = "only ${NAME}, the name of an entry of secrets, is replaced"
                advice = "write it so, or without '${'"
            message = f"{field_name(path)} refers to ${{{name[:60]}}}: {why}; {advice}"
            yield Finding(path, "unknown_secret", message, f"${{{suggestion}}}" if suggestion else None)


def credential_fits_the_repository(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    path: Path = ("repository", "credential")
    name, url = text(data, "repository", "credential"), text(data, "repository", "url") or ""
    if not name:
        return
    known = _names_of_secrets(data)
    if name not in known:
        suggestion = closest(name, known)
        advice = f"write {suggestion}" if suggestion else "add it to secrets"
        message = f"repository.credential is {shown(name)}: secrets has no entry of that name; {advice}"
        yield Finding(path, "unknown_secret", message, suggestion)
    if (fault := _no_credential_because(url)) is not None:
        message = f"repository.credential is given, but {fault}"
        yield Finding(path, "credential", message)


def _no_credential_because(url: str) -> str | None:
    """Return why a credential cannot go with this URL, or None when it can."""
    if url.startswith("file://"):
        return "a repository of this machine (file://) needs none; remove it"
    if url.startswith("http://"):
        return "over http:// everybody on the way could read it; write the URL with https:// or ssh://"
    if url.startswith(("https://", "ssh://")) and ":" in url.partition("://")[2].partition("/")[0].rpartition("@")[0]:
        return "repository.url holds a password already; take that out of the URL"
    return None


def _names_of_secrets(data: dict[str, Any]) -> set[str]:
    return {name for _, secret in entries(data, "secrets") if (name := text(secret, "name"))}


def _referring_values(data: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield the values in which `${NAME}` is replaced: those of `env` and `headers` of MCP servers."""
    for server, fields in mapping(data, "claude", "mcp_config", "mcpServers").items():
        for section in ("env", "headers"):
            for name, one in mapping(fields, section).items():
                if isinstance(one, str):
                    yield ("claude", "mcp_config", "mcpServers", server, section, name), one


ENVIRONMENT_RULES = (
    names_are_not_reserved,
    names_are_unique,
    variables_can_be_passed,
    secret_keys_fit_their_source,
    mcp_servers_can_be_reached,
    references_name_secrets,
    credential_fits_the_repository,
)
