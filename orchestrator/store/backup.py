"""Copies of an SQLite store: made while it is in use, checked, and brought back."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from orchestrator.store.migrate import HEAD

BUSY_SECONDS = 30.0
FREE_SECONDS = 2.0
"""How long a restore waits for the store to be free: a process that runs holds it for good."""
COMPANIONS = ("-wal", "-shm", "-journal")


class BadBackup(Exception):
    """The file is no store of ours that can be used; the text says why."""


class StoreInUse(Exception):
    """A process of the product has the store open."""

    def __init__(self, store: Path) -> None:
        super().__init__(
            f"{store} cannot be replaced while a process uses it: stop every `sandbox up`, `api` and `worker` on it, "
            "then restore again"
        )


@dataclass(frozen=True, slots=True)
class Copy:
    """What a checked file holds. `installation` is None before the first worker."""

    path: Path
    installation: str | None
    schema: str
    tasks: int
    size_bytes: int


def back_up(store: Path, target: Path) -> Copy:
    """Copy the store to `target` while others read and write; return what was checked.

    The copy is one consistent moment, and gets its name only when it is whole and on the disk. Raises `BadBackup`
    when it fails its check, `FileExistsError` for a target that is there, `OSError`, `sqlite3.Error`.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists; a backup never replaces a file: give another name")
    incoming = target.with_name(f".{target.name}.incoming")
    os.close(os.open(incoming, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
    try:
        _copy(store, incoming)
        made = check(incoming)
        _flush(incoming)
        incoming.rename(target)
    finally:
        incoming.unlink(missing_ok=True)
    _flush(target.parent)
    return replace(made, path=target)


def check(file: Path) -> Copy:
    """Read all of a copy and say what it holds. Raises `BadBackup`."""
    if not file.is_file():
        raise BadBackup(f"there is no file {file}")
    try:
        with closing(_opened(file, "ro")) as found:
            damage = [row[0] for row in found.execute("PRAGMA integrity_check(3)")]
            if damage != ["ok"]:
                raise BadBackup(f"{file} is damaged: {'; '.join(damage)}; use another backup")
            schema = found.execute("SELECT version_num FROM alembic_version").fetchone()
            installation = found.execute("SELECT id FROM installation").fetchone()
            tasks = found.execute("SELECT count(*) FROM tasks").fetchone()
    except sqlite3.Error as error:
        raise BadBackup(f"{file} is no store of this product: {error}; use a file that `admin backup` made") from error
    if schema is None or schema[0] > HEAD:
        version = schema[0] if schema else "none"
        raise BadBackup(f"{file} has schema {version}, this version knows {HEAD}: use the version that made it")
    return Copy(file, installation[0] if installation else None, schema[0], tasks[0], file.stat().st_size)


def restore(backup: Path, store: Path, at: datetime) -> tuple[Copy, Path | None]:
    """Bring `store` back from a backup; return what it holds now, and where what was there before is kept.

    All or nothing: broken off in the middle, the store is what it was. Raises `BadBackup` and `StoreInUse` (nothing
    is changed then), `OSError`, `sqlite3.Error`.
    """
    check(backup)
    store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(store):
        kept = _kept(store, at)
        try:
            _copy(backup, store, FREE_SECONDS)
        except sqlite3.DatabaseError as error:
            if _is_busy(error):
                raise StoreInUse(store) from error
            for file in _files(store):  # damaged beyond use, and kept: nothing is to be saved by writing into it
                file.unlink()
            _copy(backup, store, FREE_SECONDS)
        return check(store), kept


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Make sure that nobody has the store open, and fold what its log holds into it. Raises `StoreInUse`."""
    lock = os.open(store.with_suffix(".reaper.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if store.exists():
            _fold(store)
        yield
    except BlockingIOError as error:
        raise StoreInUse(store) from error
    finally:
        os.close(lock)


def _fold(store: Path) -> None:
    """Leave write-ahead mode, which SQLite refuses as long as any connection, even an idle one, is open."""
    try:
        with closing(_opened(store, "rw", FREE_SECONDS)) as found:
            found.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        if _is_busy(error):
            raise StoreInUse(store) from error
        # It is damaged, which is why somebody restores; nobody can run on it.


def _kept(store: Path, at: datetime) -> Path | None:
    """Copy what is there, damaged or not, byte by byte."""
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    for file in _files(store):
        shutil.copy2(file, file.with_name(f"{store.name}.before-{stamp}{file.name.removeprefix(store.name)}"))
    return store.with_name(f"{store.name}.before-{stamp}") if store.exists() else None


def _files(store: Path) -> list[Path]:
    every = [store, *(store.with_name(store.name + ending) for ending in COMPANIONS)]
    return [file for file in every if file.exists()]


def _copy(source: Path, target: Path, busy_seconds: float = BUSY_SECONDS) -> None:
    with closing(_opened(source, "ro")) as there, closing(_opened(target, "rwc", busy_seconds)) as here:
        there.backup(here)
        here.execute("PRAGMA journal_mode=DELETE")  # one file, without companions


def _opened(file: Path, mode: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?mode={mode}", uri=True, timeout=busy_seconds, isolation_level=None)


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _flush(path: Path) -> None:
    """Have the system write a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
