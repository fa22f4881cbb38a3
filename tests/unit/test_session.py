"""An agent's session is packed without following a link and unpacked without writing through one."""

from __future__ import annotations

import io
import os
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import pytest

from orchestrator.artifacts import TooLarge
from orchestrator.artifacts.directory import DirectoryStore
from orchestrator.outcomes import Outcome, Reason
from workers import session
from workers.agents.port import Session
from workers.attempt import Attempt, StepFailed
from workers.session import NotKept, keep_session, restore_session, wants_keeping
from workers.workspace import Owner

FOREVER = 1e9
MADE_AT = datetime(2026, 1, 29, 12, tzinfo=UTC)


class Tried(SimpleNamespace):
    """As much of an attempt as keeping and restoring ask for. `said` is the task's log."""

    def __init__(self, root: Path, store: DirectoryStore, *, limit: int = 1 << 30, disk_bytes: int = 1 << 30) -> None:
        directory = SimpleNamespace(
            workspace=root / "workspace", home=root / "home", owner=lambda: Owner(os.getuid(), os.getgid())
        )
        for one in (directory.workspace, directory.home):
            one.mkdir(parents=True)
        database = SimpleNamespace(read=_Transaction)
        settings = SimpleNamespace(artifact_max_bytes=limit)
        product = SimpleNamespace(settings=settings, artifacts=store, database=database)
        super().__init__(
            directory=directory,
            equipment=SimpleNamespace(product=product),
            claim=SimpleNamespace(task_id="task", attempt=1),
            effective=SimpleNamespace(disk_bytes=disk_bytes),
            session_id="one",
            task=SimpleNamespace(resumed_from="earlier", created_at=MADE_AT),
            agent=SimpleNamespace(session_paths=(".claude/projects", ".claude.json")),
            pump=None,
            seen={"session_id": "--forged", "cost_usd": 0.5},
            commit="c0ffee",
            resumed=None,
            said=[],
        )

    def say(self, text: str) -> None:
        self.said.append(text)

    def check(self) -> None:
        pass


class _Transaction:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    (tmp_path / "artifacts").mkdir()
    return DirectoryStore(tmp_path / "artifacts")


@pytest.fixture
def earlier(tmp_path: Path, store: DirectoryStore) -> Tried:
    return Tried(tmp_path / "earlier", store)


def kept(attempt: Tried) -> dict[str, Any]:
    found = keep_session(cast(Attempt, attempt), time.monotonic() + FOREVER)
    assert found is not None
    return found


def restored(tmp_path: Path, store: DirectoryStore, found: object, monkeypatch: pytest.MonkeyPatch) -> Tried:
    later = Tried(tmp_path / "later", store)
    monkeypatch.setattr(
        session.attempt_rows,
        "session_of",
        lambda _tx, task, made_until: (None, found) if (task, made_until) == ("earlier", MADE_AT) else None,
    )
    restore_session(cast(Attempt, later))
    return later


def test_workspace_and_session_are_the_same_again(
    tmp_path: Path, store: DirectoryStore, earlier: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, home = earlier.directory.workspace, earlier.directory.home
    (top / ".git" / "refs" / "heads").mkdir(parents=True)  # git needs it, also empty
    (top / "deep" / "er").mkdir(parents=True)
    (top / "deep" / "er" / "run.sh").write_text("#!/bin/sh\n")
    (top / "deep" / "er" / "run.sh").chmod(0o755)
    (top / "passwd").symlink_to("/etc/passwd")
    (top / "broken").symlink_to("nowhere")
    (home / ".claude" / "projects").mkdir(parents=True)
    (home / ".claude" / "projects" / "one.jsonl").write_bytes(b"x" * 100_000)
    (home / ".claude.json").write_text("{}")
    (home / ".claude" / "debug").mkdir()
    (home / ".cache").mkdir()
    (home / ".cache" / "big").write_text("not a part of the session")
    os.mkfifo(top / "pipe")
    found = kept(earlier)
    assert found | {"sha256": "", "size_bytes": 0} == {
        "key": "tasks/task/session/1", "size_bytes": 0, "sha256": "", "agent_session_id": "one", "commit": "c0ffee",
        "cost_usd": 0.5,
    }  # fmt: skip
    assert earlier.said == ["not in the session: pipe: a pipe; only regular files are collected"]

    later = restored(tmp_path, store, found, monkeypatch)
    top, home = later.directory.workspace, later.directory.home
    assert (top / ".git" / "refs" / "heads").is_dir()
    assert (top / "deep" / "er" / "run.sh").read_text() == "#!/bin/sh\n"
    assert (top / "deep" / "er" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert str((top / "passwd").readlink()) == "/etc/passwd"
    assert str((top / "broken").readlink()) == "nowhere"
    assert (home / ".claude" / "projects" / "one.jsonl").stat().st_size == 100_000
    assert (home / ".claude.json").read_text() == "{}"
    assert not (home / ".cache").exists()
    assert not (home / ".claude" / "debug").exists()
    assert later.resumed == Session("one")
    assert later.commit == "c0ffee"


def test_a_run_that_never_had_a_session_keeps_none(earlier: Tried) -> None:
    earlier.seen = None
    assert keep_session(cast(Attempt, earlier), time.monotonic() + FOREVER) is None


def test_more_than_the_limit_is_not_kept(tmp_path: Path, store: DirectoryStore) -> None:
    large = Tried(tmp_path / "large", store, limit=1000)
    (large.directory.workspace / "noise").write_bytes(os.urandom(200_000))
    with pytest.raises(TooLarge):
        keep_session(cast(Attempt, large), time.monotonic() + FOREVER)


def test_a_fault_of_the_task_s_disk_is_told_and_nothing_is_stored(
    earlier: Tried, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    (earlier.directory.workspace / "file").write_text("x")
    monkeypatch.setattr(session._Packer, "_add_entry", fails)
    with pytest.raises(NotKept, match="Input/output error"):
        kept(earlier)
    with pytest.raises(KeyError):
        next(store.open("tasks/task/session/1"))


def test_the_time_for_it_is_bounded(earlier: Tried) -> None:
    (earlier.directory.workspace / "file").write_text("x")
    with pytest.raises(NotKept, match="collect_timeout"):
        keep_session(cast(Attempt, earlier), time.monotonic() - 1)


def test_files_that_are_larger_than_they_take_on_the_disk_are_bounded_by_vm_disk(
    tmp_path: Path, store: DirectoryStore
) -> None:
    sparse = Tried(tmp_path / "sparse", store, disk_bytes=1 << 20)
    with (sparse.directory.workspace / "hole").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(NotKept, match=r"larger together than vm\.disk"):
        kept(sparse)


def test_the_time_is_looked_at_while_a_file_is_read(earlier: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    (earlier.directory.workspace / "file").write_bytes(b"x" * (5 << 20))
    now = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with pytest.raises(NotKept, match="collect_timeout"):
        keep_session(cast(Attempt, earlier), 20)


def test_more_than_fits_is_not_restored_and_says_what_to_do(
    tmp_path: Path, store: DirectoryStore, earlier: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    (earlier.directory.workspace / "file").write_bytes(b"x" * 2000)
    found = kept(earlier)
    later = Tried(tmp_path / "later", store, disk_bytes=1000)
    monkeypatch.setattr(session.attempt_rows, "session_of", lambda *_, **__: (None, found))
    with pytest.raises(StepFailed) as failed:
        restore_session(cast(Attempt, later))
    assert "raise vm.disk" in failed.value.outcome.message


def archived(store: DirectoryStore, *members: tarfile.TarInfo) -> dict[str, Any]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for one in members:
            archive.addfile(one, io.BytesIO(b"evil") if one.size else None)
    packed.seek(0)
    stored = store.put("evil", cast(BinaryIO, packed), limit=1 << 20)
    return {
        "key": "evil", "sha256": stored.sha256, "size_bytes": stored.size_bytes, "agent_session_id": "one",
        "commit": None,
    }  # fmt: skip


def file(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = 4
    return made


def link(name: str, target: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made


@pytest.mark.parametrize("name", ["workspace/../../evil", "/etc/evil", "elsewhere/evil", "workspace", ".."])
def test_a_name_that_leads_elsewhere_is_refused(
    tmp_path: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(StepFailed) as failed:
        restored(tmp_path, store, archived(store, file(name)), monkeypatch)
    assert failed.value.outcome.reason is Reason.SESSION_UNAVAILABLE


def test_nothing_is_written_through_a_link(
    tmp_path: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    found = archived(store, link("workspace/out", str(outside)), file("workspace/out/evil"))
    with pytest.raises((StepFailed, OSError)):
        restored(tmp_path, store, found, monkeypatch)
    assert list(outside.iterdir()) == []


def test_an_archive_that_was_changed_or_is_gone_is_told(
    tmp_path: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = archived(store, file("workspace/file"))
    for changed, words in (
        (found | {"sha256": "0" * 64}, "checksum"),
        (found | {"key": "gone"}, "not in the artifact storage"),
    ):
        with pytest.raises(StepFailed) as failed:
            restored(tmp_path / words, store, changed, monkeypatch)
        assert failed.value.outcome.reason is Reason.SESSION_UNAVAILABLE
        assert words in failed.value.outcome.message
        assert "task rerun earlier" in (failed.value.outcome.hint or "")


@pytest.mark.parametrize(
    ("keep", "action", "reason", "wanted"),
    [
        (False, "destroy", Reason.EXIT_ZERO, False),
        (True, "destroy", Reason.EXIT_ZERO, True),
        (True, "destroy", Reason.CANCELLED, True),
        (False, "preserve", Reason.AGENT_ERROR, True),
        (False, "preserve", Reason.EXIT_ZERO, False),
        (False, "preserve", Reason.CANCELLED, False),
    ],
)
def test_who_may_be_gone_on_from_is_kept(earlier: Tried, keep: bool, action: str, reason: Reason, wanted: bool) -> None:
    earlier.manifest = SimpleNamespace(lifecycle=SimpleNamespace(keep_session=keep, failure_action=action))
    assert wants_keeping(cast(Attempt, earlier), Outcome(reason, "")) is wanted
    earlier.agent.session_paths = ()
    assert not wants_keeping(cast(Attempt, earlier), Outcome(reason, ""))
