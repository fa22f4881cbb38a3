"""How git reaches one repository: over which transport, and with which credential (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from orchestrator.manifest import Repository
from orchestrator.manifest.git_names import SSH_PORT, ssh_address, without_password

PROXY_ADDRESS = "127.0.0.1:3128"
CREDENTIALS_FILE = "/tmp/git-credentials"  # noqa: S108 - the helper's own tmpfs, like the others here
SSH_CONFIG_FILE = "/tmp/ssh-config"  # noqa: S108
SSH_KEY_FILE = "/tmp/ssh-key"  # noqa: S108
KNOWN_HOSTS_FILE = "/tmp/known-hosts"  # noqa: S108
TOKEN_USER = "x-access-token"  # noqa: S105 - a user's name
"""Beside a token most servers take any name as the user's; some installations' tokens want this one."""


class UnusableCredential(Exception):
    """The credential cannot be used with this repository; the message says why, without the value."""


@dataclass(frozen=True, slots=True)
class Access:
    """What git is given. `files` (path to text) hold credentials: they go through the helper's gate onto its tmpfs.

    `ssh_host` is the name under which known hosts list the repository's host, "" for other transports.
    """

    source: str
    protocols: str
    proxy: str = ""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh_host: str = ""


def https_access(repository: Repository, credential: str | None) -> Access:
    """Access over http(s). Raises `UnusableCredential`."""
    source, line = split_credential(repository.url)
    if credential is not None:
        line = _store_line(repository.url, credential)
    files = {CREDENTIALS_FILE: f"{line}\n"} if line else {}
    return Access(source, "https:http", f"http://{PROXY_ADDRESS}", files)


def ssh_access(repository: Repository, credential: str | None, known_hosts: str) -> Access:
    """Access over ssh, with a private key. Raises `UnusableCredential`.

    Every connection of ssh ends at the repository's host: a submodule elsewhere fails at the check of the host's
    key, and no name out of a repository reaches the shell that runs ProxyCommand.
    """
    if credential is None:
        raise UnusableCredential("ssh needs a private key: name its entry of secrets in repository.credential")
    if not credential.startswith("-----BEGIN "):
        raise UnusableCredential(
            f"the secret {repository.credential} is no private key (its first line begins with -----BEGIN)"
        )
    host, port = ssh_address(repository.url) or ("", SSH_PORT)
    files = {
        SSH_KEY_FILE: credential.rstrip("\n") + "\n",  # ssh reads no key without a newline at its end
        KNOWN_HOSTS_FILE: known_hosts,
        SSH_CONFIG_FILE: _SSH_CONFIG.format(host=host, port=port),
    }
    ssh_host = host if port == SSH_PORT else f"[{host}]:{port}"
    return Access(without_password(repository.url), "ssh", files=files, ssh_host=ssh_host)


_SSH_CONFIG = f"""\
ProxyCommand nc -X connect -x {PROXY_ADDRESS} {{host}} {{port}}
IdentityFile {SSH_KEY_FILE}
IdentitiesOnly yes
PreferredAuthentications publickey
BatchMode yes
UserKnownHostsFile {KNOWN_HOSTS_FILE}
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
CheckHostIP no
UpdateHostKeys no
"""


def _store_line(url: str, credential: str) -> str:
    """A line for git's credential store of `user:password` or a token. Raises `UnusableCredential`."""
    if not credential.isprintable() or " " in credential:
        raise UnusableCredential("the secret of repository.credential is no token, and no user:password, on one line")
    parts = urlsplit(url)
    named, _, host = parts.netloc.rpartition("@")
    user, colon, password = credential.partition(":")
    if not colon:
        user, password = unquote(named) or TOKEN_USER, credential
    return f"{parts.scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}"


def split_credential(url: str) -> tuple[str, str]:
    """Return an http(s) URL without its user information, and a line for git's credential store ("" for none).

    A user name alone is a token with an empty password: git could ask nobody for one.
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in ("http", "https"):
        return url, ""
    known = user if ":" in user else f"{user}:"
    return parts._replace(netloc=host).geturl(), f"{parts.scheme}://{known}@{host}"


def secret_parts(url: str, credential: str | None) -> tuple[str, ...]:
    """What no message may show of a URL's user information, as written and decoded, and of `user:password`."""
    found = []
    if url.startswith(("https://", "http://", "ssh://")):
        user, _, _ = urlsplit(url).netloc.rpartition("@")
        name, _, password = user.partition(":")
        is_token = credential is None and not url.startswith("ssh://")  # see `split_credential`
        secret = password or (name if is_token else "")
        found += [secret, unquote(secret)]
    if credential and not credential.startswith("-----BEGIN "):
        found.append(credential.partition(":")[2])
    return tuple(dict.fromkeys(one for one in found if one))
