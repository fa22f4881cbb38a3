"""How a worker learns again what the output of a sandbox that it takes back may not show."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.manifest import Secret
from orchestrator.settings import Settings
from workers.attempt import Attempt
from workers.egress.ledger import Ledger
from workers.keeper_client import KeeperRefused
from workers.redaction import NOTHING_SECRET
from workers.secret_custody import keepsake, recall

VALUES = {"TOKEN": "tok-4f9c1e77a0b2", "KEY": "line one\nline zwö\n"}


class Keeper:
    """Holds one text; None stands for a keeper of a version that holds none."""

    def __init__(self, kept: str | None, *, refuses: str | None = None) -> None:
        self._kept = kept
        self._refuses = refuses

    def keepsake(self, name: str) -> str | None:
        assert name == "sandbox"
        if self._refuses:
            raise KeeperRefused(self._refuses, "the keeper does not know the request")
        return self._kept


def attempt(directory: Path, keeper: Keeper, secrets: dict[str, str]) -> Any:
    settings = Settings(directory, "store", "broker", "artifacts", secrets_dir=directory / "sources")
    return SimpleNamespace(
        manifest=SimpleNamespace(secrets=tuple(Secret(name, "file", name) for name in VALUES)),
        equipment=SimpleNamespace(keeper=keeper, product=SimpleNamespace(settings=settings)),
        directory=SimpleNamespace(secrets_seal=directory / "seal"),
        sandbox="sandbox",
        secrets=secrets,
        withheld=None,
        claim=SimpleNamespace(task_id="task"),
        redactor=NOTHING_SECRET,
        traffic=Ledger(),
    )


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The operator's directory of secrets; a file's last newline is no part of its value."""
    (tmp_path / "sources").mkdir()
    for name, value in VALUES.items():
        (tmp_path / "sources" / name).write_text(f"{value}\n")
    return tmp_path / "sources"


def kept(tmp_path: Path) -> str:
    text = keepsake(cast(Attempt, attempt(tmp_path, Keeper(None), VALUES)))
    assert text is not None
    return text


def test_the_keeper_gives_the_values_back(tmp_path: Path) -> None:
    successor = attempt(tmp_path, Keeper(kept(tmp_path)), {})
    recall(successor, time.sleep)
    assert (successor.secrets, successor.withheld) == (VALUES, None)


@pytest.mark.parametrize(
    "keeper",
    [Keeper(None), Keeper(None, refuses="unknown"), Keeper(None, refuses="bad_request"), Keeper('{"form": 99}')],
)
def test_without_the_keeper_s_memory_they_are_fetched_again_where_they_came_from(
    tmp_path: Path, sources: Path, keeper: Keeper
) -> None:
    kept(tmp_path)
    successor = attempt(tmp_path, keeper, {})
    recall(successor, time.sleep)
    assert (successor.secrets, successor.withheld) == (VALUES, None)


def test_other_values_than_before_are_not_taken_for_the_same(tmp_path: Path, sources: Path) -> None:
    kept(tmp_path)
    (sources / "TOKEN").write_text("tok-rotated")
    successor = attempt(tmp_path, Keeper(None), {})
    recall(successor, time.sleep)
    assert successor.secrets == {}
    assert successor.withheld.endswith("their sources give other values by now")


def test_values_that_are_gone_are_told_by_name_and_reason(tmp_path: Path, sources: Path) -> None:
    kept(tmp_path)
    (sources / "TOKEN").unlink()
    successor = attempt(tmp_path, Keeper(None), {})
    recall(successor, time.sleep)
    assert successor.secrets == {}
    assert "secret TOKEN (source file, key TOKEN) cannot be had" in successor.withheld


def test_without_a_seal_nobody_can_tell_whether_they_are_the_same(tmp_path: Path, sources: Path) -> None:
    successor = attempt(tmp_path, Keeper(None), {})
    recall(successor, time.sleep)
    assert successor.withheld is not None


def test_the_seal_is_the_owner_s_alone_and_another_one_each_time(tmp_path: Path) -> None:
    kept(tmp_path)
    seal = tmp_path / "seal"
    first = seal.read_text()
    assert seal.stat().st_mode & 0o777 == 0o600
    kept(tmp_path)
    assert seal.read_text() != first
    assert not [value for value in VALUES.values() if value in first]


def test_a_task_without_secrets_has_neither_keepsake_nor_seal(tmp_path: Path) -> None:
    assert keepsake(cast(Attempt, attempt(tmp_path, Keeper(None), {}))) is None
    assert not (tmp_path / "seal").exists()
