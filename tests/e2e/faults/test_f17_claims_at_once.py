"""F17: many processes claim the same tasks at the same time. Each task is given to exactly one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.product import open_product
from orchestrator.services.submit import submit
from orchestrator.settings import load
from tests.e2e.faults.services import FolderBroker, PostgresStore, SqliteStore, Store
from tests.integration.store.given import manifest_of, registered

CLAIMERS = 8
STORES = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


def claim_by_all(environment: dict[str, str], tasks: list[str]) -> Counter[str]:
    argv = [sys.executable, "-m", "tests.e2e.faults.claimer", "w1", "1"]
    claimers = [
        subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(CLAIMERS)
    ]
    for one in claimers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in claimers:  # all have the same tasks in the same order: they meet at each
        assert one.stdin is not None
        one.stdin.write("\n".join([*tasks, ""]))
        one.stdin.close()
        one.stdin = None
    given: Counter[str] = Counter()
    for one in claimers:
        said, _ = one.communicate(timeout=900)
        assert one.returncode == 0
        given.update(said.split())
    return given


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.faults_long)])
def test_tasks_claimed_by_eight_processes_at_once_are_each_given_once(
    tmp_path: Path, open_cluster: Any, store: str, count: int
) -> None:
    truth: Store = PostgresStore(open_cluster()) if store == "postgres" else SqliteStore(tmp_path / "store")
    settings = {
        "SANDBOX_DATA_DIR": str(tmp_path / "data"),
        "SANDBOX_STORE_URL": truth.url,
        "SANDBOX_BROKER_URL": FolderBroker(tmp_path / "broker").url,
    }
    product = open_product(load(settings))
    registered(product, "w1", slots=count, cpus=count)
    tasks = [submit(product, manifest_of(f"n{number}")).id for number in range(count)]
    product.close()
    given = claim_by_all({**os.environ, **settings}, tasks)
    assert given == Counter(tasks)
