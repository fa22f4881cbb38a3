"""F26: the process that has the reaper's lock is killed. Another one takes over what nobody else would notice."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.leadership import REAPER
from orchestrator.store.database import Database
from tests.e2e.faults.installation import Installation
from tests.e2e.faults.running import Install
from tests.e2e.stack import eventually
from tests.e2e.submitting import run_manifest

pytestmark = pytest.mark.docker

STORES = (
    pytest.param("sqlite", marks=pytest.mark.faults_long),
    pytest.param("postgres", marks=pytest.mark.postgres),
)


def holders(it: Installation) -> set[str]:
    """Who has the reaper's lock, by the store's own word: a process id of the system, or of the server."""
    database = Database(it.store.url)
    try:
        if database.is_sqlite:
            lock = Path(str(database.url.database)).with_suffix(".reaper.lock")
            return _flock_holders(lock.stat().st_ino) if lock.exists() else set()
        query = "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        # Those who place tasks, or migrate, take locks of their own beside the reaper's.
        query += "WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = :key AND l.granted"
        with database.read() as tx:
            return {str(pid) for pid in tx.scalars(sa.text(query), {"key": REAPER.key})}
    finally:
        database.close()


def _flock_holders(inode: int) -> set[str]:
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "FLOCK" in line]
    return {words[4] for words in locks if "->" not in words and words[5].endswith(f":{inode}")}


@pytest.mark.parametrize("store", STORES)
def test_when_the_reaper_is_killed_another_process_ends_what_waited_too_long(install: Install, store: str) -> None:
    with install(store=store, broker="redis") as it:
        eventually("the first has the lock", lambda: holders(it))
        [first] = holders(it)
        it.add_api()
        assert holders(it) == {first}, "two reapers"
        task = it.api.submit(run_manifest(script="true", lifecycle={"queue_timeout": "3s"}))
        it.apis[0].kill()
        assert it.api.reached(task, "failed")["outcome"]["reason"] == "queue_expired"
        [second] = holders(it)
        assert second != first
