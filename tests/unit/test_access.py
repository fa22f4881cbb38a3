from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from api.scopes import RULES
from orchestrator import access, clock
from orchestrator.access import ANYBODY, Caller, Scope, Token

AT = clock.now()
PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()


def caller(*scopes: Scope) -> Caller:
    return Caller("alice", frozenset(scopes), "1", "ci")


def token(**fields: object) -> Token:
    return Token("0" * 12, "ci", "alice", ("task:read",), "0" * 64, AT, **fields)  # type: ignore[arg-type]


def test_a_token_is_read_back_as_what_is_kept_of_it() -> None:
    text, kept = access.generate()
    assert text.startswith(f"sbx_{kept.token_id}_")
    assert access.read(text) == kept
    assert text.rpartition("_")[2] not in repr(kept)


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda text: text + "0", lambda text: text[:-1], lambda text: f" {text}", lambda text: f"{text}\n",
     lambda text: text.replace("sbx", "SBX"), lambda text: text[:-1] + "g", lambda text: text[:-1] + "٣"],
)  # fmt: skip
def test_what_differs_in_a_letter_is_no_token(change: object) -> None:
    assert access.read(change(access.generate()[0])) is None  # type: ignore[operator]


def test_admin_is_every_scope_and_reaches_everybodys_tasks() -> None:
    for scope in Scope:
        assert caller(Scope.ADMIN).may(scope)
        assert caller(Scope.ADMIN).reach(scope) is None
        assert ANYBODY.may(scope)
        assert ANYBODY.reach(scope) is None


def test_a_scope_is_no_other_and_reaches_ones_own_tasks() -> None:
    for scope in (Scope.TASK_CREATE, Scope.TASK_READ, Scope.TASK_CANCEL, Scope.TASK_ARTIFACTS, Scope.WORKER_READ):
        assert [one for one in Scope if caller(scope).may(one)] == [scope]
        assert caller(scope).reach(scope) == "alice"


def test_a_scope_for_everybodys_tasks_is_one_for_ones_own_and_reaches_in_this_way_only() -> None:
    reader = caller(Scope.TASK_READ_ALL, Scope.TASK_CANCEL)
    assert [one for one in Scope if reader.may(one)] == [Scope.TASK_READ, Scope.TASK_READ_ALL, Scope.TASK_CANCEL]
    assert reader.reach(Scope.TASK_READ) is None
    assert reader.reach(Scope.TASK_CANCEL) == "alice"


def test_a_token_is_active_until_it_expires_or_is_revoked() -> None:
    assert token().state(AT) == "active"
    assert token(expires_at=AT + timedelta(seconds=1)).state(AT) == "active"
    assert token(expires_at=AT).state(AT) == "expired"
    assert token(expires_at=AT, revoked_at=AT).state(AT) == "revoked"


def test_the_page_about_access_names_every_scope_and_every_act() -> None:
    actions = [rule.action for rule in RULES.values() if rule.action]
    for name in (*Scope, *actions, "token.create", "token.revoke"):
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("owner", ["", "Alice", "-a", ".a", "a b", "a/b", "a" * 65, "é", "a\n", "٣"])
def test_what_is_no_owner(owner: str) -> None:
    assert access.OWNER.fullmatch(owner) is None


@pytest.mark.parametrize("owner", ["a", "0", "team-a.ci_1", "a" * 64])
def test_what_is_an_owner(owner: str) -> None:
    assert access.OWNER.fullmatch(owner)
