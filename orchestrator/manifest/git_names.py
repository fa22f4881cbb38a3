"""What may be handed to git as a branch or a repository (pure).

Both come from strangers, and git runs programs for some spellings: `--upload-pack=…` as a URL or a
branch, `ext::` as a transport, `ssh://-oProxyCommand=…` as a host (isolation-and-faults.md §5.4).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SSH_PORT = 22
TRANSPORTS = "https://, http://, ssh://, git@host:path, or file:// where the operator allows it"

_FORBIDDEN_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
_SCP_LIKE = re.compile(r"(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^-:].*)", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+", re.ASCII)  # the latter comes in brackets
_MAX_URL_LENGTH = 2048
_MAX_REF_LENGTH = 255
_UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f\\]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)", re.ASCII)


def ref_name_fault(name: str) -> str | None:
    """Return why `name` is no branch or tag (the rules of `git check-ref-format`), or None when it is one."""
    if len(name) > _MAX_REF_LENGTH:
        return f"it has more than {_MAX_REF_LENGTH} characters"
    parts = name.split("/")
    rules = (
        (name.startswith("-"), "a name that starts with '-' would be read as an option by git"),
        (
            _FORBIDDEN_IN_REF.search(name),
            "no spaces, control characters or any of ~ ^ : ? * [ \\ are allowed",
        ),
        (".." in name, "'..' is not allowed"),
        ("@{" in name or name == "@", "'@{' and the lone '@' are not allowed"),
        ("" in parts, "no part between slashes may be empty"),
        (any(part.startswith(".") for part in parts), "no part may start with '.'"),
        (any(part.endswith(".lock") for part in parts), "no part may end with '.lock'"),
        (name.endswith("."), "it may not end with '.'"),
    )
    return next((why for broken, why in rules if broken), None)


def repository_url_fault(url: str) -> str | None:
    """Return why `url` is not a repository this product clones, or None when it is.

    Whether a `file://` URL may be used is the operator's decision and not looked at here.
    """
    if len(url) > _MAX_URL_LENGTH:
        return f"it has more than {_MAX_URL_LENGTH:,} characters"
    if url.startswith("-"):
        return "it would be read as an option by git"
    scheme = _SCHEME.match(url)
    transport = scheme[0] if scheme else ""
    if transport == "file://":
        return _file_fault(url)
    if _UNSAFE_IN_URL.search(url):
        return "spaces, control characters and '\\' are not allowed in it"
    if transport.endswith("::"):
        return f"the transport {transport[:20]} lets git start a helper program"
    return _FAULTS.get(transport, _other_fault)(url)


def file_url_path(url: str) -> str | None:
    """Return the path of a `file://` URL, None for any other URL."""
    return url.removeprefix("file://") if url.startswith("file://") else None


def ssh_address(url: str) -> tuple[str, int] | None:
    """Return host (in lower case) and port of an `ssh://` or `git@host:path` URL, None for any other URL."""
    if url.startswith("ssh://"):
        parts = urlsplit(url)
        return (parts.hostname or "", parts.port or SSH_PORT)
    found = None if "://" in url else _SCP_LIKE.fullmatch(url)
    return (found["host"].lower(), SSH_PORT) if found else None


def _other_fault(url: str) -> str | None:
    if (scheme := _SCHEME.match(url)) is not None:
        return f"the transport {scheme[0][:20]} is not supported"
    if _SCP_LIKE.fullmatch(url):
        return None
    if "@" in url and ":" in url:
        return "its user, host or path is not valid"
    return "it names no transport (a local path is written file:///path)"


def _file_fault(url: str) -> str | None:
    path = url.removeprefix("file://")
    if not path.startswith("/"):
        return "after file:// comes an absolute path, without a host"
    if "%" in path:
        return "git reads '%' in it as an escape, other readers do not"
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        return "control characters are not allowed in it"
    return None


def _network_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it cannot be taken apart: {error}"
    if not host:
        return "it names no host"
    if parts.netloc.startswith("-") or not _HOST.fullmatch(host):
        return f"its host {host[:60]!r} is no host name"
    if parts.path in {"", "/"}:
        return "it names a host but no repository"
    return None


_FAULTS = {"https://": _network_fault, "http://": _network_fault, "ssh://": _network_fault}


def without_password(url: str) -> str:
    """The URL as it may be shown and stored: of user information only the user of ssh is kept."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url
    shown = f"{user.split(':')[0]}@{host}" if parts.scheme == "ssh" else host
    return parts._replace(netloc=shown).geturl()
