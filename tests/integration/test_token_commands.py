"""`sandbox token` and `sandbox admin audit`, as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator import access
from orchestrator.access import USUAL, Scope
from orchestrator.cli import installed_commands, make_root
from orchestrator.services import tokens
from orchestrator.settings import load
from orchestrator.store.database import Database


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(make_root(installed_commands()), [*arguments, "--data-dir", str(data_dir)])


def created(data_dir: Path, *options: str) -> str:
    done = run(data_dir, "token", "create", "ci", "--owner", "alice", *options)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_the_first_token_makes_the_store_and_is_alone_on_stdout(data_dir: Path) -> None:
    done = run(data_dir, "token", "create", "ci", "--owner", "alice")
    text = done.stdout.strip()
    credentials = access.read(text)
    assert credentials is not None, done.stdout
    assert "from now on the API takes requests with a token only" in done.stderr
    assert text not in done.stderr
    database = Database(load({}, data_dir=data_dir).store_url)
    token = tokens.recognise(database, credentials)
    database.close()
    assert token is not None
    assert (token.owner, set(token.scopes)) == ("alice", {scope.value for scope in USUAL})
    assert "from now on" not in run(data_dir, "token", "create", "second", "--owner", "bob").stderr


def test_json_has_the_token_once_and_a_list_never(data_dir: Path) -> None:
    options = ("--scope", "admin", "--scope", "task:read:all", "--expires-in", "30d", "--rate-limit", "0")
    made = json.loads(created(data_dir, *options, "--format", "json"))
    assert made["scopes"] == ["admin", "task:read:all"]
    assert made["requests_per_minute"] == 0
    assert made["expires_at"] > made["created_at"]
    secret = made["token"].rpartition("_")[2]
    for form in ("text", "json"):
        listed = run(data_dir, "token", "list", "--format", form)
        assert made["id"] in listed.output
        assert secret not in listed.output


def test_a_token_is_revoked_by_its_id(data_dir: Path) -> None:
    token_id = created(data_dir).split("_")[1]
    done = run(data_dir, "token", "revoke", token_id)
    assert (done.exit_code, "revoked" in done.output) == (0, True)
    assert "revoked" in run(data_dir, "token", "list").output
    unknown = run(data_dir, "token", "revoke", "nobody")
    assert unknown.exit_code == 3
    assert "sandbox token list" in unknown.output


@pytest.mark.parametrize(
    "wrong",
    [("n", "--owner", "Alice"), ("a/b", "--owner", "alice"), ("n",), ("n", "--owner", "a", "--scope", "task:all"),
     ("n", "--owner", "a", "--expires-in", "30"), ("n", "--owner", "a", "--rate-limit", "-1")],
)  # fmt: skip
def test_what_no_token_can_be_is_refused_and_makes_no_store(data_dir: Path, wrong: tuple[str, ...]) -> None:
    assert run(data_dir, "token", "create", *wrong).exit_code == 2
    assert not data_dir.exists()


def test_looking_makes_no_store(data_dir: Path) -> None:
    for command in (("token", "list"), ("token", "revoke", "x"), ("admin", "audit")):
        assert run(data_dir, *command).exit_code == 3
        assert not data_dir.exists()


def test_the_audit_trail_is_shown_and_filtered(data_dir: Path) -> None:
    token_id = created(data_dir).split("_")[1]
    run(data_dir, "token", "revoke", token_id)
    lines = run(data_dir, "admin", "audit").output.splitlines()
    assert [line.split()[2] for line in lines] == ["token.create", "token.revoke"]
    assert all(token_id in line and "this host (user " in line for line in lines)
    found = json.loads(run(data_dir, "admin", "audit", "--action", "token.revoke", "--format", "json").output)
    assert [one["action"] for one in found["entries"]] == ["token.revoke"]
    assert run(data_dir, "admin", "audit", "--owner", "alice").output == "nothing\n"
    assert len(run(data_dir, "admin", "audit", "--since", "1h", "--limit", "1").output.splitlines()) == 1
    assert run(data_dir, "admin", "audit", "--since", "2999-01-01T00:00:00Z").output == "nothing\n"


@pytest.mark.parametrize("since", ["yesterday", "", "d", "1x", "2026-01-29", "-1d", "9999999d", "٣d"])
def test_a_time_that_is_none_is_refused(data_dir: Path, since: str) -> None:
    created(data_dir)
    done = run(data_dir, "admin", "audit", "--since", since)
    assert done.exit_code == 2
    assert "is no time" in done.output


def test_every_scope_is_offered(data_dir: Path) -> None:
    told = run(data_dir, "token", "create", "--help").output
    for scope in Scope:
        assert scope.value in told
