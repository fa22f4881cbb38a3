"""What git is given of a credential, and what is shown of a URL."""

from __future__ import annotations

import pytest

from orchestrator.manifest import Repository
from orchestrator.manifest.git_names import ssh_address, without_password
from workers.git_access import (
    CREDENTIALS_FILE,
    SSH_CONFIG_FILE,
    SSH_KEY_FILE,
    UnusableCredential,
    https_access,
    secret_parts,
    split_credential,
    ssh_access,
)

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://git.example/a/b.git", "https://git.example/a/b.git"),
        ("https://user:secret@git.example/a", "https://git.example/a"),
        ("https://secret@git.example:8443/a?b", "https://git.example:8443/a?b"),
        ("http://a:b@c@git.example/a", "http://git.example/a"),
        ("ssh://git:secret@git.example:22/a", "ssh://git@git.example:22/a"),
        ("ssh://git@git.example/a", "ssh://git@git.example/a"),
        ("git@git.example:a/b", "git@git.example:a/b"),
        ("file:///srv/a@b", "file:///srv/a@b"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "source", "credential"),
    [
        ("https://git.example/a", "https://git.example/a", ""),
        ("https://u:p%40w@git.example/a", "https://git.example/a", "https://u:p%40w@git.example"),
        ("http://token@git.example:81/a", "http://git.example:81/a", "http://token:@git.example:81"),
        ("ssh://git@git.example/a", "ssh://git@git.example/a", ""),
    ],
)
def test_a_credential_is_taken_out_of_the_url_that_git_sees(url: str, source: str, credential: str) -> None:
    assert split_credential(url) == (source, credential)


def repository(url: str) -> Repository:
    return Repository(url, None, None, None, submodules=False, subpath=None, credential="TOKEN")


@pytest.mark.parametrize(
    ("url", "credential", "line"),
    [
        ("https://git.example/a", "tok/en@1", "https://x-access-token:tok%2Fen%401@git.example"),
        ("https://oauth2@git.example/a", "token", "https://oauth2:token@git.example"),
        ("https://git.example:8443/a", "me:pass:word", "https://me:pass%3Aword@git.example:8443"),
        ("https://u@git.example/a", "me:p", "https://me:p@git.example"),
    ],
)
def test_a_token_or_a_password_goes_into_git_s_credential_store(url: str, credential: str, line: str) -> None:
    access = https_access(repository(url), credential)
    assert access.files == {CREDENTIALS_FILE: f"{line}\n"}
    assert access.source == url.replace("oauth2@", "").replace("u@", "")
    assert credential not in repr(access)


@pytest.mark.parametrize("credential", ["two\nlines", "a b", "tab\t", KEY])
def test_a_token_that_is_none_is_refused_without_its_value(credential: str) -> None:
    with pytest.raises(UnusableCredential) as refused:
        https_access(repository("https://git.example/a"), credential)
    assert credential not in str(refused.value)


def test_a_key_is_for_the_repository_s_host_only() -> None:
    access = ssh_access(repository("git@Git.Example:a/b"), KEY, "")
    assert access.files[SSH_KEY_FILE] == KEY + "\n"
    config = access.files[SSH_CONFIG_FILE]
    assert "ProxyCommand nc -X connect -x 127.0.0.1:3128 git.example 22\n" in config
    assert "%h" not in config  # a name out of a repository would reach a shell
    assert "StrictHostKeyChecking yes\n" in config
    assert (access.source, access.ssh_host) == ("git@Git.Example:a/b", "git.example")


def test_a_token_is_no_key() -> None:
    with pytest.raises(UnusableCredential, match="the secret TOKEN is no private key") as refused:
        ssh_access(repository("ssh://git@git.example/a"), "ghp_token", "")
    assert "ghp_token" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "credential", "parts"),
    [
        ("https://git.example/a", None, ()),
        ("https://token@git.example/a", None, ("token",)),
        ("https://u:p%40w@git.example/a", None, ("p%40w", "p@w")),
        ("https://oauth2@git.example/a", "token", ()),
        ("https://git.example/a", "me:password", ("password",)),
        ("ssh://git@git.example/a", KEY, ()),
        ("ssh://git:pw@git.example/a", KEY, ("pw",)),
        ("file:///a@b", None, ()),
    ],
)
def test_the_secret_parts_of_a_url_and_a_credential_are_known(
    url: str, credential: str | None, parts: tuple[str, ...]
) -> None:
    assert secret_parts(url, credential) == parts


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ssh://git@Git.example/a", ("git.example", 22)),
        ("ssh://git.example:2222/a", ("git.example", 2222)),
        ("ssh://[::1]:2/a", ("::1", 2)),
        ("git@Git.example:a", ("git.example", 22)),
        ("https://git.example/a", None),
        ("file:///git@host:a", None),
    ],
)
def test_the_address_of_an_ssh_url_is_read(url: str, address: tuple[str, int] | None) -> None:
    assert ssh_address(url) == address
