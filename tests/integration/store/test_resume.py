"""Sessions of agents: where they are kept, who goes on from them, when they go."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal, manifest
from orchestrator.access import USUAL, Caller, Scope
from orchestrator.journal import StaleClaim
from orchestrator.manifest import InvalidManifest, Manifest, ManifestPolicy
from orchestrator.models import Attempt, Claim, Task
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.claim import note
from orchestrator.services.conclude import conclude
from orchestrator.services.expire import expire_artifacts, forget
from orchestrator.services.purge import purge, session_key, session_prefix
from orchestrator.services.rerun import rerun
from orchestrator.services.resume import DEFAULT_PROMPT, SessionNotKept, resume
from orchestrator.services.retention import retain
from orchestrator.services.submit import IdempotencyKeyReused, submit
from orchestrator.states import State
from orchestrator.store import attempts
from orchestrator.store.tables import idempotency_keys
from orchestrator.store.tables import tasks as task_table
from tests.integration.store.given import POLICY, aged, claimed, manifest_of, now, registered, running, talking

DAY_SECONDS = 86_400
RETRIED = {"retry": {"max_attempts": 3, "on": ["exit_nonzero"], "backoff": "0s"}}
SEEN = {
    "session_id": "s", "version": "2.1.330", "turns": 3, "tool_calls": 7, "cost_usd": 0.5, "models": {"m": {}},
    "result": {"is_error": False, "text": "the secret plan"}, "problems": ["a secret"],
}  # fmt: skip


def session_of(product: Product, task_id: str) -> tuple[Attempt, dict[str, Any]] | None:
    with product.database.read() as tx:
        return attempts.session_of(tx, task_id)


def kept(product: Product, claim: Claim, cost_usd: float | None = 0.5) -> dict[str, Any]:
    """Store a session of the attempt, as its worker does."""
    key = session_key(claim.task_id, claim.attempt)
    stored = product.artifacts.put(key, io.BytesIO(b"session"), limit=100)
    session = {
        "key": key, "size_bytes": stored.size_bytes, "sha256": stored.sha256, "agent_session_id": "s", "commit": None,
        "cost_usd": cost_usd,
    }  # fmt: skip
    note(product, claim, session=session, agent=SEEN)
    return session


def resumable(product: Product, task_id: str = "t", cost_usd: float | None = 0.5, **sections: Any) -> Task:
    """An agent's task that has ended and kept its session."""
    claim = talking(product, task_id, until=State.COMPLETING, **sections)
    kept(product, claim, cost_usd)
    conclude(product, claim, of_exit(0, oom_killed=False))
    return now(product, task_id)


def test_what_is_known_of_an_agent_is_stored_with_its_attempt(product: Product) -> None:
    claim = talking(product)
    with product.database.read() as tx:
        (before,) = attempts.of_task(tx, "t")
        assert tx.scalar(sa.text("SELECT count(*) FROM attempts WHERE agent IS NULL AND session IS NULL")) == 1
    assert (before.agent, before.model_usage, before.session) == (None, None, None)
    with product.database.write() as tx:
        journal.append(tx, claim, [journal.output("stdout", b"x\n", clock.now())], agent=SEEN, output_bytes=2)
    note(product, claim, model_usage={"requests": 4})
    with product.database.read() as tx:
        (attempt,) = attempts.of_task(tx, "t")
    assert (attempt.agent, attempt.model_usage, attempt.output_bytes) == (SEEN, {"requests": 4}, 2)
    with pytest.raises(StaleClaim):
        note(product, replace(claim, fence=9), session={"key": "k"})


def test_the_newest_session_of_a_task_is_the_one_to_go_on_from(product: Product) -> None:
    first = talking(product, lifecycle=RETRIED)
    assert session_of(product, "t") is None
    kept(product, first)
    conclude(product, first, of_exit(1, oom_killed=False))
    second = claimed(product, attempt=2)
    assert [one.number for one, _ in [session_of(product, "t") or pytest.fail("none")]] == [1]
    session = kept(product, second)
    found = session_of(product, "t")
    assert found is not None
    assert (found[0].number, found[1]) == (2, session)
    note(product, second, session=None)
    found = session_of(product, "t")
    assert found is not None
    assert found[0].number == 1


def test_a_resumed_task_is_a_new_one_with_another_prompt_below_the_old(product: Product) -> None:
    old = resumable(product, labels={"team": "a"}, priority=3)
    new = resume(product, "t", "now the tests", POLICY)
    assert new.id != "t"
    assert (new.parent_id, new.resumed_from, new.resumed_cost_usd, new.rerun_of) == ("t", "t", 0.5, None)
    assert (new.state, new.labels, new.priority) == (State.PENDING, {"team": "a"}, 3)
    changed = {"metadata": {**old.definition["metadata"], "id": None}, "parent_id": "t"}
    assert new.definition == {
        **old.definition, **changed, "claude": {**old.definition["claude"], "prompt": "now the tests"},
    }  # fmt: skip
    assert now(product, "t").definition == old.definition
    silent = resume(product, "t", None, POLICY)
    assert silent.definition["claude"]["prompt"] == DEFAULT_PROMPT
    assert silent.id != new.id  # as often as one likes


def test_a_resumed_task_belongs_to_who_asked_and_may_only_be_below_what_they_may_read(product: Product) -> None:
    resumable(product)
    admin = Caller("ops", frozenset({Scope.ADMIN.value}), "1", "root")
    assert resume(product, "t", None, POLICY, by=admin).owner == "ops"
    stranger = Caller("eve", frozenset({Scope.TASK_CREATE.value, Scope.TASK_READ.value}), "2", "eves")
    with pytest.raises(InvalidManifest, match="no existing task"):
        resume(product, "t", None, POLICY, by=stranger)
    assert session_of(product, "t") is not None


def test_a_prompt_that_is_none_is_refused_as_in_any_manifest(product: Product) -> None:
    resumable(product)
    with pytest.raises(InvalidManifest, match=r"claude\.prompt is nothing but white space"):
        resume(product, "t", "  ", POLICY)


def test_a_definition_that_the_operator_allows_no_more_is_refused(product: Product) -> None:
    resumable(product)
    with pytest.raises(InvalidManifest, match="the operator has defined"):
        resume(product, "t", None, ManifestPolicy(profiles=frozenset({"other"})))


def test_what_cannot_be_gone_on_from_says_why_and_what_to_do(product: Product) -> None:
    with pytest.raises(TaskNotFound):
        resume(product, "nobody", None, POLICY)
    talking(product, "runs")
    with pytest.raises(SessionNotKept, match="it is running, and only what has ended"):
        resume(product, "runs", None, POLICY)
    command = running(product, "command")
    conclude(product, command, of_exit(1, oom_killed=False))
    with pytest.raises(
        SessionNotKept, match="it runs a command, not an agent; run it again: `sandbox task rerun command`"
    ):
        resume(product, "command", None, POLICY)
    forgetful = talking(product, "forgetful")
    conclude(product, forgetful, of_exit(1, oom_killed=False))
    with pytest.raises(
        SessionNotKept, match=r"lifecycle.keep_session: true, and of a failed task with lifecycle.failure_"
    ):
        resume(product, "forgetful", None, POLICY)
    resumable(product, "purged")
    purge(product, "purged")
    with pytest.raises(SessionNotKept, match="what it left was removed"):
        resume(product, "purged", None, POLICY)
    with product.database.read() as tx:
        assert tx.scalar(sa.select(sa.func.count()).where(task_table.c.resumed_from.is_not(None))) == 0


def test_the_same_key_and_prompt_resume_once(product: Product) -> None:
    resumable(product)
    first = resume(product, "t", "on", POLICY, idempotency_key="k")
    assert resume(product, "t", "on", POLICY, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyKeyReused):
        resume(product, "t", "off", POLICY, idempotency_key="k")
    plain = manifest_of(
        parent_id="t", claude={"prompt": "on", "interactive": True},
    )  # fmt: skip
    assert plain.definition == first.definition
    with pytest.raises(IdempotencyKeyReused):
        submit(product, plain, idempotency_key="k")
    submit(product, plain, idempotency_key="plain")
    with pytest.raises(IdempotencyKeyReused):
        resume(product, "t", "on", POLICY, idempotency_key="plain")


def test_a_key_that_was_used_still_answers_with_its_task_once_there_is_nothing_to_resume(product: Product) -> None:
    resumable(product)
    first = resume(product, "t", "on", POLICY, idempotency_key="k")
    purge(product, "t")
    assert resume(product, "t", "on", POLICY, idempotency_key="k").id == first.id
    with pytest.raises(SessionNotKept):
        resume(product, "t", "on", POLICY, idempotency_key="another")


def test_a_key_of_the_version_before_still_answers_with_its_task(product: Product) -> None:
    """Its definition has not the fields that this version adds, and neither had what the key's digest was made of."""
    registered(product)
    first = submit(product, manifest_of(), idempotency_key="k")
    for name in ("input_timeout", "pause_clock_on_input", "keep_session"):
        del first.definition["lifecycle"][name]
    digest = hashlib.sha256(json.dumps(first.definition, sort_keys=True).encode()).hexdigest()
    with product.database.write() as tx:
        tx.execute(idempotency_keys.update().values(fingerprint=digest))
        tx.execute(task_table.update().values(definition=first.definition))
    assert submit(product, manifest_of(), idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyKeyReused):
        submit(product, manifest_of("another"), idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        rerun(product, first.id, {}, POLICY, idempotency_key="k")


def test_a_rerun_s_key_of_the_version_before_still_answers_with_its_task(product: Product) -> None:
    registered(product)
    old = submit(product, manifest_of())
    first = rerun(product, old.id, {}, POLICY, idempotency_key="k")
    del first.definition["lifecycle"]["keep_session"]
    body = {**first.definition, "rerun_of": old.id}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    with product.database.write() as tx:
        tx.execute(idempotency_keys.update().values(fingerprint=digest))
        tx.execute(task_table.update().where(task_table.c.id == first.id).values(definition=first.definition))
    assert rerun(product, old.id, {}, POLICY, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyKeyReused):
        submit(product, manifest_of(), idempotency_key="k")


def test_the_rerun_of_a_resumed_task_goes_on_from_the_same_one(product: Product) -> None:
    resumable(product)
    resumed = resume(product, "t", "on", POLICY)
    again = rerun(product, resumed.id, {}, POLICY)
    assert (again.resumed_from, again.resumed_cost_usd, again.rerun_of) == ("t", 0.5, resumed.id)
    assert rerun(product, "t", {}, POLICY).resumed_from is None
    purge(product, "t")
    with pytest.raises(SessionNotKept, match="task t cannot be resumed: what it left was removed"):
        rerun(product, resumed.id, {}, POLICY)
    forget(product, "t")
    with pytest.raises(SessionNotKept, match="it went on from task t, which is not stored any more"):
        rerun(product, resumed.id, {"parent_id": None}, POLICY)


def caller(owner: str, *scopes: Scope) -> Caller:
    return Caller(owner, frozenset(one.value for one in scopes or USUAL), "1", f"{owner}s")


def test_the_rerun_of_a_resumed_task_takes_nobodys_session_along(product: Product) -> None:
    alice, bob = caller("alice"), caller("bob", *USUAL, Scope.TASK_READ_ALL)
    resumable(product)
    with product.database.write() as tx:
        tx.execute(task_table.update().values(owner="alice"))
    resumed = resume(product, "t", "on", POLICY, by=alice)
    with pytest.raises(SessionNotKept, match="or is not yours to go on from"):
        rerun(product, resumed.id, {}, POLICY, by=bob)
    roots = rerun(product, resumed.id, {}, POLICY, by=caller("ops", Scope.ADMIN))
    assert (roots.owner, roots.resumed_from) == ("ops", "t")
    with pytest.raises(SessionNotKept):  # and not by way of an administrator
        rerun(product, roots.id, {}, POLICY, by=caller("ops"))
    assert rerun(product, resumed.id, {}, POLICY, by=alice).resumed_from == "t"


def test_an_id_that_was_used_again_names_no_session_to_go_on_from(product: Product) -> None:
    resumable(product)
    resumed = resume(product, "t", "on", POLICY)
    with product.database.read() as tx:
        assert attempts.session_of(tx, "t", made_until=resumed.created_at) is not None
    forget(product, "t")
    resumable(product)
    with product.database.read() as tx:
        assert attempts.session_of(tx, "t", made_until=resumed.created_at) is None
        assert attempts.session_of(tx, "t") is not None
    with pytest.raises(SessionNotKept, match="it went on from task t, which is not stored any more"):
        rerun(product, resumed.id, {}, POLICY)


def test_an_id_that_is_used_again_while_its_task_is_resumed_is_not_resumed(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumable(product)
    check = manifest.check

    def slowly(*args: Any, **more: Any) -> Manifest:
        monkeypatch.undo()
        forget(product, "t")
        resumable(product)
        return check(*args, **more)

    monkeypatch.setattr("orchestrator.manifest.check", slowly)
    with pytest.raises(TaskNotFound):
        resume(product, "t", "on", POLICY)


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"repository": {"url": "https://example.test/other.git"}}, "repository"),
        ({"repository": {"branch": "main"}}, "repository"),
        ({"claude": None, "run": {"command": ["env"]}}, "run"),
    ],
)
def test_a_patch_under_which_the_session_fits_no_more_is_refused(
    product: Product, patch: dict[str, Any], field: str
) -> None:
    resumable(product)
    resumed = resume(product, "t", "on", POLICY)
    with pytest.raises(InvalidManifest, match="rerun task t with it instead") as caught:
        rerun(product, resumed.id, patch, POLICY)
    assert [one.field for one in caught.value.errors] == [field]
    assert rerun(product, "t", patch, POLICY).resumed_from is None
    assert rerun(product, resumed.id, {"claude": {"max_turns": 3}}, POLICY).resumed_from == "t"


# --- when sessions go


def files(tmp_path: Path, task_id: str = "t") -> list[str]:
    return sorted(one.name for one in (tmp_path / "artifacts" / session_prefix(task_id)).glob("*"))


def test_a_session_goes_with_its_task_s_data_and_of_the_agent_only_counts_stay(
    product: Product, tmp_path: Path
) -> None:
    resumable(product)
    assert files(tmp_path) == ["1"]
    purge(product, "t")
    assert files(tmp_path) == []
    assert session_of(product, "t") is None
    with product.database.read() as tx:
        (attempt,) = attempts.of_task(tx, "t")
    assert attempt.agent == {
        "session_id": "s", "version": "2.1.330", "turns": 3, "tool_calls": 7, "cost_usd": 0.5, "models": {"m": {}},
        "result": {"is_error": False},
    }  # fmt: skip
    purge(product, "t")  # idempotent


def test_a_session_goes_with_its_task(product: Product, tmp_path: Path) -> None:
    resumable(product)
    forget(product, "t")
    assert files(tmp_path) == []


def test_a_session_goes_with_the_artifacts(product: Product, tmp_path: Path) -> None:
    resumable(product)
    expire_artifacts(product, "t")
    assert files(tmp_path) == []
    assert session_of(product, "t") is None
    with pytest.raises(SessionNotKept, match="until the retention of artifacts is over"):
        resume(product, "t", None, POLICY)


def test_retention_finds_a_session_without_artifacts_and_leaves_a_young_one(product: Product, tmp_path: Path) -> None:
    for task_id, days in (("old", 8), ("young", 6)):
        resumable(product, task_id)
        aged(product, task_id, days * DAY_SECONDS)
    keeping = replace(product.settings, artifact_retention_days=7, retention_days=0, log_retention_days=0)
    retain(replace(product, settings=keeping), clock.now())
    assert (files(tmp_path, "old"), files(tmp_path, "young")) == ([], ["1"])
    assert session_of(product, "young") is not None
