"""What an attempt left on its worker: brought in, waited for, or written off; and what an adoption starts, once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator import journal
from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.models import Claim, Kind, Record, Resources
from orchestrator.outcomes import Reason, failure
from orchestrator.product import Product, open_product
from orchestrator.services.claim import note
from orchestrator.services.conclude import conclude
from orchestrator.settings import load
from orchestrator.states import State
from orchestrator.store import artifacts as artifact_rows
from orchestrator.store import attempts as attempt_rows
from orchestrator.store.database import StoreUnavailable
from tests.integration.store.given import now, registered, running
from tests.unit.engine_logs import frame
from tests.unit.test_output import spool
from workers import adopt, ending, runner
from workers.adopt import restored
from workers.attempt import Attempt, Stopped
from workers.ending import gather
from workers.equipment import Equipment
from workers.git import PatchFailed
from workers.journal_writer import JournalWriter, LateWriter
from workers.keeper_client import KeeperRefused, KeeperUnavailable
from workers.salvage import TRIES, salvage
from workers.sandbox.labels import ROLE_EGRESS, ROLE_GIT, ROLE_TASK, SERVES, labels
from workers.sandbox.port import Found, Inspection, SandboxGone
from workers.task_disk import IMAGE_NAME
from workers.workspace import AttemptDirectory

COMMIT = "0" * 40


@dataclass
class Engine:
    """Knows no sandboxes but those in `found`."""

    found: list[Found] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)

    def find(self) -> list[Found]:
        return self.found

    def ping(self) -> None: ...

    def kill(self, sandbox: str, signal: str) -> None:
        raise SandboxGone(f"{sandbox} gets no {signal}")

    def inspect(self, sandbox: str, spec: object = None) -> Inspection:
        raise SandboxGone(f"{sandbox}, {spec}")

    def destroy(self, sandbox: str) -> None:
        self.destroyed.append(sandbox)


@dataclass
class Keeper:
    """Holds nothing any more."""

    away: bool = False

    def held(self) -> dict[str, object]:
        return {}

    def keepsake(self, name: str) -> str | None:
        if self.away:
            raise KeeperUnavailable("the keeper does not answer")
        raise KeeperRefused("unknown", name)

    def release(self, name: str) -> None: ...


@dataclass
class Storage:
    """The artifact storage of the product, which can be away."""

    real: Any
    away: bool = False

    def ping(self) -> None:
        if self.away:
            raise ArtifactStoreUnavailable("the storage is away")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    opened = open_product(load({"SANDBOX_WORKER_NAME": "w"}, data_dir=tmp_path))
    object.__setattr__(opened, "artifacts", Storage(opened.artifacts))
    yield opened
    opened.close()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def equipment(product: Product, engine: Engine) -> Equipment:
    keeper, nothing, late = cast("Any", Keeper()), cast("Any", None), LateWriter(product.database)
    backend, size = cast("Any", engine), Resources(1, 1, 1)
    return Equipment(product, backend, keeper, late, "installation", "host", size, nothing, nothing)


Left = Callable[..., AttemptDirectory]


@pytest.fixture
def left(product: Product) -> Left:
    """An attempt that ended, of which something is still here."""

    def make(**facts: Any) -> AttemptDirectory:
        registered(product)
        mine = running(product, until=State.COMPLETING, lifecycle={"artifact_patterns": ["**"]})
        if facts:
            note(product, mine, **facts)
        conclude(product, mine, failure(Reason.ARTIFACT_ERROR, "the storage was away"), uncollected=True)
        directory = AttemptDirectory.of(product.settings.work_dir, mine)
        directory.create()
        return directory

    return make


def uncollected(product: Product) -> list[Claim]:
    with product.database.read() as tx:
        return [row.claim for _, row in attempt_rows.uncollected_on(tx, "w")]


def records(product: Product, kind: Kind) -> list[Record]:
    with product.database.read() as tx:
        return [one for one in journal.after(tx, "t", 0) if one.kind is kind]


def attempt_of(equipment: Equipment) -> Attempt:
    task = now(equipment.product, "t")
    [(_, row)] = attempts(equipment.product)
    return Attempt(equipment, task, row.claim, state=task.state, commit=COMMIT)


def attempts(product: Product) -> list[Any]:
    with product.database.read() as tx:
        return attempt_rows.uncollected_on(tx, "w")


def test_what_can_never_be_read_is_told_as_lost_and_removed_after_a_few_tries(
    product: Product, equipment: Equipment, left: Left
) -> None:
    directory = left()
    (directory.root / IMAGE_NAME).write_bytes(b"no file system")
    for _ in range(TRIES):
        assert len(uncollected(product)) == 1
        salvage(equipment)
    assert uncollected(product) == []
    assert not directory.root.exists()
    [gap] = records(product, Kind.GAP)
    assert "is lost" in gap.body["message"]


def test_a_storage_that_is_away_is_waited_for_and_what_was_printed_does_not_lie_there_meanwhile(
    product: Product, equipment: Equipment, left: Left
) -> None:
    directory = left(sandbox="sandbox")
    spool(directory.spool, [frame("stdout", b"one\n")])
    (directory.workspace / "result").write_text("result\n")
    storage = cast("Any", product.artifacts)
    storage.away = True
    for _ in range(TRIES + 1):
        salvage(equipment)
        assert len(uncollected(product)) == 1
        assert not directory.spool.exists()
    storage.away = False
    salvage(equipment)
    assert uncollected(product) == []
    assert [one.data for one in records(product, Kind.OUTPUT)] == [b"one\n"]
    with product.database.read() as tx:
        assert [one.path for one in artifact_rows.of_task(tx, "t", 1)] == ["result"]


def test_a_patch_that_failed_is_not_tried_again_by_this_worker_or_the_next(
    product: Product, equipment: Equipment, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    left()
    tries = []

    def fails(*_: object) -> Path | None:
        tries.append(1)
        raise PatchFailed("no patch could be made: a filter ate it")

    monkeypatch.setattr(ending, "make_patch", fails)
    monkeypatch.setattr(Attempt, "git", lambda *_, **__: None)
    first = attempt_of(equipment)
    gather(first, float("inf"))
    gather(first, float("inf"))
    successor = attempt_of(equipment)
    [(_, row)] = attempts(product)
    successor.verdict = row.verdict or {}
    gather(successor, float("inf"))
    assert tries == [1]
    assert "a filter ate it" in records(product, Kind.SYSTEM)[-1].body["message"]


@pytest.mark.parametrize("made", ["nothing", "a link to itself"])
def test_a_patch_that_cannot_be_opened_costs_nothing_but_itself(
    product: Product, equipment: Equipment, left: Left, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    directory = left()
    (directory.workspace / "result").write_text("result\n")

    def swapped(*_: object) -> Path:
        directory.git_out.rmdir()
        if made != "nothing":
            directory.git_out.symlink_to("git-out")
        return directory.git_out / "patch"

    monkeypatch.setattr(ending, "make_patch", swapped)
    monkeypatch.setattr(Attempt, "git", lambda *_, **__: None)
    found = gather(attempt_of(equipment), float("inf"))
    assert [one.path for one in found.stored] == ["result"]
    assert "no patch could be made" in records(product, Kind.SYSTEM)[-1].body["message"]


def test_git_of_a_dead_worker_is_gone_before_the_patch_is_made_again(
    product: Product, equipment: Equipment, engine: Engine, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    left()
    attempt = attempt_of(equipment)
    other = Claim("other", 1, 1)

    def one(name: str, role: str, *, claim: Claim = attempt.claim, serves: str = "") -> Found:
        return Found(name, name, labels("installation", "w", claim, role) | {SERVES: serves}, True)

    engine.found = [
        one("task", ROLE_TASK),
        one("git", ROLE_GIT),
        one("git-s-sidecar", ROLE_EGRESS, serves="git"),
        one("task-s-sidecar", ROLE_EGRESS, serves="task"),
        one("other-s-git", ROLE_GIT, claim=other),
    ]
    gone_before: list[str] = []
    monkeypatch.setattr(Attempt, "git", lambda *_, **__: None)
    monkeypatch.setattr(ending, "make_patch", lambda *_: gone_before.extend(engine.destroyed))
    gather(attempt, float("inf"))
    assert gone_before == ["git", "git-s-sidecar"]


def pumps() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "output-t"]


@pytest.fixture
def runs(product: Product) -> AttemptDirectory:
    registered(product)
    secret = {"name": "TOKEN", "source": "env", "key": "TOKEN"}
    mine = running(product, secrets=[secret])
    note(product, mine, sandbox="sandbox")
    directory = AttemptDirectory.of(product.settings.work_dir, mine)
    directory.create()
    return directory


def taken(equipment: Equipment) -> Attempt:
    with equipment.product.database.read() as tx:
        [(task, row)] = attempt_rows.live_on(tx, "w")
    live = JournalWriter(equipment.product.database, lambda _: None)
    return restored(replace(equipment, writer=live), task, row)


def test_an_adoption_that_the_store_breaks_off_leaves_no_pump_behind(
    equipment: Equipment, runs: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Attempt) -> None:
        assert pumps() == []
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(adopt, "count_on", away)
    with pytest.raises(StoreUnavailable):
        taken(equipment)
    assert runs.root.exists()


def test_an_adoption_does_not_wait_for_the_secrets_of_one_task(equipment: Equipment, runs: AttemptDirectory) -> None:
    """They are asked for in the attempt's own thread, before its output is read; meanwhile it can be cancelled."""
    cast("Any", equipment.keeper).away = True
    attempt = taken(equipment)
    attempt.signals.cancel(force=False)
    spool(runs.spool, [frame("stdout", b"perhaps a secret\n")])
    with pytest.raises(Stopped):
        runner.take_up(attempt)
    assert attempt.pump is not None
    assert attempt.pump.wait_end(30)
    assert records(equipment.product, Kind.OUTPUT) == []
    [gap] = records(equipment.product, Kind.GAP)
    assert gap.body["message"].startswith("the rest of the output is withheld: the keeper does not hold the values")


def test_a_worker_that_is_not_root_opens_what_a_task_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = AttemptDirectory.of(tmp_path, Claim("t", 1, 1))
    directory.create()
    for one in (directory.workspace, directory.git_out):
        one.chmod(0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    directory.unlock()
    assert {one.stat().st_mode & 0o777 for one in (directory.workspace, directory.git_out)} == {0o700}
