"""What the three sources of secrets give, what they refuse, and what is said about it (K3 of issue 4)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.manifest import Secret
from orchestrator.outcomes import Fault, Reason
from orchestrator.settings import Settings, load
from orchestrator.settings_report import report
from tests.integration.sandbox.git_server import make_certificate
from tests.servers.vault import TOKEN, Vault, running_vault
from workers.secrets import resolver
from workers.secrets import vault as vault_source
from workers.secrets.files import FileSource
from workers.secrets.port import MAX_VALUE_BYTES, SecretRefused, SourceAway
from workers.secrets.resolver import TRIES, SecretUnavailable, resolve, sources_of
from workers.secrets.vault import VaultSource

CANARY = "canary-6f1d-value"


def settings(**environment: str) -> Settings:
    return load({"SANDBOX_DATA_DIR": "/nowhere", **environment})


def resolved(found: Settings, *wanted: Secret) -> dict[str, str]:
    return resolve(wanted, sources_of(found), "worker-1", lambda _: None)


def unavailable(found: Settings, *wanted: Secret) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as caught:
        resolved(found, *wanted)
    assert caught.value.outcome.reason is Reason.SECRET_UNAVAILABLE
    assert caught.value.outcome.hint
    return caught.value


# From the environment


def test_a_variable_with_the_operator_s_prefix_or_on_its_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_SECRET_GITHUB_TOKEN", "prefixed")
    monkeypatch.setenv("GITHUB_TOKEN", "bare")
    monkeypatch.setenv("OTHER", "listed\n")
    monkeypatch.setenv("MINE_TOKEN", "other prefix")
    github, other = Secret("A", "env", "GITHUB_TOKEN"), Secret("B", "env", "OTHER")
    listed = settings(SANDBOX_SECRETS_ENV="OTHER, GITHUB_TOKEN")
    assert resolved(listed, github, other) == {"A": "prefixed", "B": "listed\n"}
    assert resolved(settings(SANDBOX_SECRETS_ENV_PREFIX="MINE_"), Secret("C", "env", "TOKEN")) == {"C": "other prefix"}


def test_k3_no_other_variable_of_the_worker_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{CANARY}@h/d")
    monkeypatch.setenv("SANDBOX_STORE_URL", f"postgresql://u:{CANARY}@h/d")
    for key in ("DATABASE_URL", "SANDBOX_STORE_URL", "PATH", "STORE_URL"):
        error = unavailable(settings(), Secret("DB", "env", key))
        assert f"secret DB (source env, key {key}) cannot be had on worker worker-1" in str(error)
        assert f"SANDBOX_SECRET_{key}" in str(error)
        assert CANARY not in f"{error}{error.outcome.hint}"
        assert error.outcome.fault is Fault.USER


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SANDBOX_SECRETS_ENV_PREFIX": "SANDBOX_"}, "begins names of the product's own settings"),
        ({"SANDBOX_SECRETS_ENV_PREFIX": "SANDBOX_ST"}, "begins names of the product's own settings"),
        ({"SANDBOX_SECRETS_ENV_PREFIX": "A-B"}, "is no beginning of a variable's name"),
        ({"SANDBOX_SECRETS_ENV": "X,SANDBOX_STORE_URL"}, "lists SANDBOX_STORE_URL, a setting of the product itself"),
        ({"SANDBOX_SECRETS_DIR": "secrets"}, "is no absolute path"),
        ({"SANDBOX_VAULT_URL": "https://vault.example"}, "need each other"),
        ({"SANDBOX_VAULT_TOKEN_FILE": "/t"}, "need each other"),
        ({"SANDBOX_VAULT_URL": "http://vault.example", "SANDBOX_VAULT_TOKEN_FILE": "/t"}, "is not https://"),
        ({"SANDBOX_VAULT_URL": f"https://u:{CANARY}@v", "SANDBOX_VAULT_TOKEN_FILE": "/t"}, "without user and query"),
        ({"SANDBOX_VAULT_URL": "https://v:port", "SANDBOX_VAULT_TOKEN_FILE": "/t"}, "cannot be taken apart"),
        ({"SANDBOX_VAULT_MOUNT": "a b"}, "is no path like secret or team/kv"),
    ],
)
def test_settings_that_would_open_too_much_stop_the_start(environment: dict[str, str], words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        settings(**environment)
    assert CANARY not in str(caught.value)


def test_the_report_of_the_settings_holds_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_SECRET_A", CANARY)
    monkeypatch.setenv("B", CANARY)
    found = settings(SANDBOX_SECRETS_ENV="B")
    assert resolved(found, Secret("A", "env", "A"), Secret("B", "env", "B")) == {"A": CANARY, "B": CANARY}
    assert CANARY not in f"{report(found)}{found}"


# From files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "secrets"
    (made / "ci").mkdir(parents=True)
    (made / "ci" / "token").write_bytes(b"value\n\n")
    (tmp_path / "outside").write_text(CANARY)
    (made / "link").symlink_to(tmp_path / "outside")
    (made / "inner").symlink_to("ci/token")
    (made / "linked").symlink_to(tmp_path)
    os.mkfifo(made / "fifo")
    (made / "hard").write_bytes(b"x" * MAX_VALUE_BYTES + b"\n")
    (made / "big").write_bytes(b"x" * (MAX_VALUE_BYTES + 1) + b"\n")
    (made / "huge").write_bytes(b"x" * (MAX_VALUE_BYTES * 3))
    (made / "nul").write_bytes(b"a\0b")
    (made / "latin").write_bytes(b"caf\xe9")
    (made / "empty").write_bytes(b"\n")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(made / "socket"))
    return made


def test_a_file_below_the_operator_s_directory_is_read_without_its_last_newline(
    directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "now").symlink_to(directory)  # the directory itself may be a link: that is the operator's
    found = settings(SANDBOX_SECRETS_DIR=str(tmp_path / "now"))
    assert resolved(found, Secret("A", "file", "ci/token")) == {"A": "value\n"}
    assert resolved(found, Secret("A", "file", "hard")) == {"A": "x" * MAX_VALUE_BYTES}


@pytest.mark.parametrize(
    "key",
    [
        "../outside", "ci/../../outside", "/etc/shadow", "../../etc/shadow", "link", "inner", "linked/outside", "fifo",
        "socket", "ci", ".", "ci//token", "missing", "ci/token/x", "a\0b", "",
    ],
)  # fmt: skip
def test_k3_no_trick_in_a_key_leads_out_of_the_directory(directory: Path, key: str) -> None:
    with pytest.raises(SecretRefused) as refused:
        FileSource(directory).read(key)
    assert CANARY not in f"{refused.value}{refused.value.hint}"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("big", "more than 65,536 bytes"),
        ("huge", "more than 65,536 bytes"),
        ("nul", "holds a NUL byte"),
        ("latin", "no UTF-8 text"),
        ("empty", "is empty"),
    ],
)
def test_a_value_that_no_variable_can_hold_is_refused(directory: Path, key: str, words: str) -> None:
    error = unavailable(settings(SANDBOX_SECRETS_DIR=str(directory)), Secret("S", "file", key))
    assert words in str(error)
    assert "xxx" not in str(error)


def test_without_a_directory_the_operator_s_setting_is_named() -> None:
    assert "SANDBOX_SECRETS_DIR" in (unavailable(settings(), Secret("S", "file", "x")).outcome.hint or "")


def test_secrets_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * MAX_VALUE_BYTES)
    wanted = [Secret(f"S{number}", "file", "big") for number in range(17)]
    error = unavailable(settings(SANDBOX_SECRETS_DIR=str(tmp_path)), *wanted)
    assert "1,114,112 bytes together" in str(error)


# From Vault


@dataclass
class Known:
    """A Vault and the settings of a worker that knows it."""

    server: Vault
    settings: Settings
    token_file: Path

    def get(self, key: str) -> str:
        return resolved(self.settings, Secret("S", "vault", key))["S"]

    def refusal(self, key: str) -> SecretUnavailable:
        return unavailable(self.settings, Secret("S", "vault", key))


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Known]:
    held = Vault(
        {
            "ci/github": {"token": CANARY, "user": "me", "number": 5},
            "one": {"password": "only"},
            "with/value": {"value": "v", "other": "o"},
            "odd": {"value": "\ud800"},
            "gone": None,
        },
        frozenset({"private"}),
    )
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    with running_vault(held) as server:
        url = f"http://127.0.0.1:{server.port}/"
        made = settings(SANDBOX_VAULT_URL=url, SANDBOX_VAULT_TOKEN_FILE=str(token_file))
        yield Known(server, made, token_file)


def test_a_path_and_its_field_lead_to_a_value(known: Known) -> None:
    assert known.get("ci/github:token") == CANARY
    assert known.get("one") == "only"
    assert known.get("with/value") == "v"
    assert known.get("with/value:other") == "o"
    assert known.server.requests[0] == "/v1/secret/data/ci/github"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("none", "Vault has nothing at secret/none"),
        ("gone", "Vault has nothing at secret/gone"),
        ("private", "the worker may not read secret/private"),
        ("ci/github", "secret/ci/github has 3 fields"),
        ("ci/github:pass", "secret/ci/github has no field pass"),
        ("ci/github:number", "field number of secret/ci/github is no text"),
        ("odd", "the value is no UTF-8 text"),
    ],
)
def test_what_vault_does_not_give_is_told_and_asked_for_once(known: Known, key: str, words: str) -> None:
    error = known.refusal(key)
    assert f"secret S (source vault, key {key}) cannot be had on worker worker-1: {words}" in str(error)
    assert error.outcome.fault is Fault.USER
    assert CANARY not in str(error)
    assert len([path for path in known.server.requests if path.startswith("/v1/secret")]) == 1


def test_a_token_is_read_at_each_use_and_one_that_is_not_valid_is_the_operator_s_matter(known: Known) -> None:
    known.token_file.write_text("hvs.another")
    error = known.refusal("one")
    assert "Vault does not accept the worker's token" in str(error)
    assert error.outcome.fault is Fault.PLATFORM
    assert "hvs.another" not in f"{error}{error.outcome.hint}"
    known.token_file.write_text(TOKEN)
    assert known.get("one") == "only"


@pytest.mark.parametrize("held", ["", f"{CANARY}\n{CANARY}", f"{CANARY} é", "x" * 5000])
def test_a_token_file_that_holds_no_token_is_told_without_what_it_holds(known: Known, held: str) -> None:
    known.token_file.write_text(held)
    error = known.refusal("one")
    assert "its token file" in str(error)
    assert error.outcome.fault is Fault.PLATFORM
    assert CANARY not in f"{error}{error.outcome.hint}"
    assert known.server.requests == []


def test_a_vault_that_is_away_for_a_moment_is_asked_again(known: Known) -> None:
    known.server.answers = [(503, b"sealed"), (500, b""), (429, b"")]
    assert known.get("one") == "only"


def test_a_vault_that_stays_away_is_the_platform_s_fault(known: Known) -> None:
    pauses: list[float] = []
    known.server.answers = [(503, CANARY.encode())] * TRIES
    with pytest.raises(SecretUnavailable) as caught:
        resolve([Secret("S", "vault", "one")], sources_of(known.settings), "w", pauses.append)
    assert "secret S (source vault, key one) cannot be had on worker w in 4 tries: Vault answered 503" in str(
        caught.value
    )
    assert caught.value.outcome.fault is Fault.PLATFORM
    assert pauses == [0.5, 1.0, 2.0]
    assert CANARY not in str(caught.value)


def test_a_task_that_is_asked_to_end_does_not_wait_for_vault(known: Known) -> None:
    class Asked(Exception):
        pass

    def pause(_: float) -> None:
        raise Asked

    known.server.answers = [(503, b"")] * TRIES
    with pytest.raises(Asked):
        resolve([Secret("S", "vault", "one")], sources_of(known.settings), "w", pause)


@pytest.mark.parametrize(
    "answer",
    [
        (200, f'["{CANARY}"]'.encode()),
        (200, f'{{"data": {{"value": "{CANARY}"}}}}'.encode()),
        (200, b"{" * 100_000),
        (200, b"<html>"),
        (400, CANARY.encode()),
        (307, b"http://127.0.0.1:1/elsewhere"),
    ],
)
def test_what_is_no_answer_of_kv_2_is_told_without_its_text(known: Known, answer: tuple[int, bytes]) -> None:
    known.server.answers = [answer]
    error = known.refusal("one")
    assert f"Vault answered {answer[0]}, which is no answer of KV v2" in str(error)
    assert error.outcome.fault is Fault.PLATFORM
    assert CANARY not in str(error)
    assert len(known.server.requests) == 1


def test_an_answer_without_end_is_cut(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_source, "ANSWER_BYTES", 1000)
    known.server.answers = [(200, b"x" * 100_000)] * TRIES
    assert "in 4 tries: Vault does not answer" in str(known.refusal("one"))


def test_a_port_that_nobody_listens_on_is_told() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        source = VaultSource(f"http://127.0.0.1:{unused.getsockname()[1]}", Path(__file__), "secret")
        with pytest.raises((SourceAway, SecretRefused)):
            source.read("x")


def test_without_a_vault_the_operator_s_settings_are_named() -> None:
    error = unavailable(settings(), Secret("S", "vault", "x"))
    assert "it knows no Vault" in str(error)


def test_a_vault_s_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    (tmp_path / "token").write_text(TOKEN)
    with running_vault(Vault({"one": {"value": "v"}}), context) as server:
        source = VaultSource(f"https://localhost:{server.port}", tmp_path / "token", "secret")
        with pytest.raises(SecretRefused, match="certificate is not trusted") as refused:
            source.read("one")
        assert refused.value.fault is Fault.PLATFORM
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert source.read("one") == b"v"


def test_nothing_is_asked_for_where_nothing_is_wanted() -> None:
    assert resolve([], {}, "w", lambda _: None) == {}
    assert resolver.MAX_TOTAL_BYTES < 2 << 20


def test_a_key_that_leads_to_a_directory_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(SecretRefused, match="no file"):
            FileSource(tmp_path).read("directory")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
