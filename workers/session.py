"""An agent's session outlives its sandbox: workspace and session files as one archive in the artifact storage.

So a new task can go on from it on any worker. What a stranger's code has written is read without following a link
(`tree`), and written again without one: links are made last, when nothing is written through them any more.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import logging
import os
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from orchestrator.artifacts import ArtifactStore, ArtifactStoreUnavailable, TooLarge
from orchestrator.outcomes import Outcome, Reason, failure
from orchestrator.services.purge import session_key
from orchestrator.store import attempts as attempt_rows
from workers.agents.port import Session
from workers.attempt import Attempt, StepFailed
from workers.collect import printable
from workers.tree import Refused, open_regular, walk

log = logging.getLogger(__name__)

COMPRESSION = 1
READ_BYTES = 1 << 20
STORE_RETRY_SECONDS = 2.0
MAX_REFUSED = 20
PERMISSIONS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO
WORKSPACE, HOME = "workspace", "home"


class NotKept(Exception):
    """What belongs to the session could not be read. No `OSError`: a storage would take it for its own."""


SESSION_FAULTS = (NotKept, ArtifactStoreUnavailable, TooLarge)
"""Why a session may not be kept."""


def wants_keeping(attempt: Attempt, outcome: Outcome) -> bool:
    """Tell whether a later task may want to go on from this attempt: the manifest says so, or it is preserved."""
    if not attempt.agent.session_paths:
        return False
    lifecycle = attempt.manifest.lifecycle
    ended_well = outcome.reason in (Reason.EXIT_ZERO, Reason.CANCELLED)
    return lifecycle.keep_session or (lifecycle.failure_action == "preserve" and not ended_well)


def keep_session(attempt: Attempt, deadline: float) -> dict[str, Any] | None:
    """Store the archive; return what is to be noted of it, or None when there is no session to keep.

    `deadline` is monotonic. Raises `NotKept`, `ArtifactStoreUnavailable`, `TooLarge`.
    """
    seen = attempt.pump.seen if attempt.pump else attempt.seen
    if (seen or {}).get("session_id") is None:
        return None
    settings, key = attempt.equipment.product.settings, session_key(attempt.claim.task_id, attempt.claim.attempt)
    refused: list[str] = []
    stored = _stored(
        attempt.equipment.product.artifacts,
        key,
        lambda sink: _pack(attempt, sink, deadline, refused),
        settings.artifact_max_bytes,
    )
    for one in refused:
        attempt.say(f"not in the session: {one}")
    return {
        "key": key,
        "size_bytes": stored[0],
        "sha256": stored[1],
        "agent_session_id": attempt.session_id,  # not what the stream says: others can write there
        "commit": attempt.commit,
        "cost_usd": (seen or {}).get("cost_usd"),
    }


def _stored(store: ArtifactStore, key: str, pack: Callable[[BinaryIO], None], limit: int) -> tuple[int, str]:
    """Put what `pack` writes, while it writes it; return size in bytes and SHA-256."""
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb") as sink, suppress(BrokenPipeError):
                pack(sink)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failed.append(error)

    class Source:
        """What was written, to its end; a fault of the writer comes before the end."""

        def read(self, size: int = -1) -> bytes:
            data = source.read(READ_BYTES if size < 0 else size)
            if not data:
                packing.join()
                if failed:
                    raise NotKept(str(failed[0])) from failed[0]
            return data

    packing = threading.Thread(target=write, name="session", daemon=True)
    with os.fdopen(reading, "rb") as source:
        packing.start()
        stored = store.put(key, cast(BinaryIO, Source()), limit=limit)
    packing.join()
    return stored.size_bytes, stored.sha256


def _pack(attempt: Attempt, sink: BinaryIO, deadline: float, refused: list[str]) -> None:
    directory, paths = attempt.directory, attempt.agent.session_paths

    def belongs(path: str) -> bool:
        """It is one of them, lies in one, or leads to one."""
        return any(f"{path}/".startswith(f"{one}/") or f"{one}/".startswith(f"{path}/") for one in paths)

    with (
        gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=COMPRESSION) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        packer = _Packer(archive, deadline, attempt.effective.disk_bytes, refused)
        packer.add(directory.workspace, WORKSPACE, lambda _path: True)
        packer.add(directory.home, HOME, belongs)


@dataclass
class _Packer:
    """`deadline` is monotonic; `left_bytes` may be packed yet: a sparse file is larger than what it takes on a disk.
    What cannot be packed is added to `refused`.
    """

    archive: tarfile.TarFile
    deadline: float
    left_bytes: int
    refused: list[str]

    def add(self, top: Path, prefix: str, belongs: Callable[[str], bool]) -> None:
        """Add what `belongs` of a directory under the name `prefix`. Raises `NotKept`."""

        def wanted(path: str) -> bool:
            if not belongs(path):
                return False
            member = tarfile.TarInfo(f"{prefix}/{path}")  # git needs empty directories, too
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            self.archive.addfile(member)
            return True

        for path, directory in walk(top, wanted=wanted, refuse=self._refuse):
            self.check_time()
            if belongs(path):
                try:
                    self._add_entry(path.rpartition("/")[2], directory, f"{prefix}/{path}")
                except Refused as error:
                    self._refuse(path, str(error))
            _forget_members(self.archive)

    def check_time(self) -> None:
        """Raises `NotKept`."""
        if time.monotonic() > self.deadline:
            raise NotKept("collect_timeout is over; raise it")

    def _refuse(self, path: str, why: str) -> None:
        if len(self.refused) < MAX_REFUSED:
            self.refused.append(f"{printable(path)}: {why}")

    def _add_entry(self, name: str, directory: int, path: str) -> None:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        member = tarfile.TarInfo(path)
        member.mode, member.mtime = found.st_mode & PERMISSIONS, int(found.st_mtime)
        if stat.S_ISLNK(found.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=directory)
            self.archive.addfile(member)
            return
        with open_regular(name, directory) as source:
            member.size = os.fstat(source.fileno()).st_size
            self.left_bytes -= member.size
            if self.left_bytes < 0:
                raise NotKept("its files are larger together than vm.disk")
            self.archive.addfile(member, cast(BinaryIO, _Timed(source, self)))


def _forget_members(archive: tarfile.TarFile) -> None:
    """It keeps what it knows of every file, and nobody asks for it."""
    archive.members = []  # type: ignore[attr-defined]  # typeshed leaves it out


@dataclass(frozen=True)
class _Timed:
    """A file that is read as long as there is time."""

    source: BinaryIO
    packer: _Packer

    def read(self, size: int = -1) -> bytes:
        self.packer.check_time()
        return self.source.read(size)


def restore_session(attempt: Attempt) -> None:
    """Make workspace and session of the task that this one goes on from.

    Raises `StepFailed`, `StoreUnavailable`, `OSError`, `Stopped`, `PhaseOver`.
    """
    source = attempt.task.resumed_from or ""
    with attempt.equipment.product.database.read() as tx:
        found = attempt_rows.session_of(tx, source, made_until=attempt.task.created_at)
    if found is None:
        raise _unavailable(attempt, f"the session of task {source} is not stored any more")
    session = found[1]
    attempt.say(
        f"going on from task {source}: its workspace and session ({session['size_bytes']:,} bytes) are restored"
    )
    try:
        _unpack_patiently(attempt, session)
    except KeyError:
        raise _unavailable(attempt, f"the session of task {source} is not in the artifact storage any more") from None
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _unavailable(attempt, f"the stored session of task {source} cannot be read: {error}") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _unavailable(attempt, f"the workspace of task {source} does not fit: raise vm.disk") from error
    attempt.commit = session["commit"]
    attempt.resumed = Session(session["agent_session_id"])


def _unavailable(attempt: Attempt, why: str) -> StepFailed:
    hint = f"run the task anew with `sandbox task rerun {attempt.task.resumed_from}`"
    return StepFailed(failure(Reason.SESSION_UNAVAILABLE, why, hint=hint))


def _unpack_patiently(attempt: Attempt, session: dict[str, Any]) -> None:
    """A storage that is away is waited for, as long as the phase may last."""
    told = ""
    while True:
        try:
            return _unpack(attempt, session)
        except ArtifactStoreUnavailable as error:
            if str(error) != told:
                attempt.say(f"the session waits for the artifact storage: {error}")
            told = str(error)
            attempt.pause(STORE_RETRY_SECONDS)
            attempt.directory.create()


def _unpack(attempt: Attempt, session: dict[str, Any]) -> None:
    """Raises `KeyError`, `ValueError`, `tarfile.TarError`, `OSError`, `ArtifactStoreUnavailable`, `Stopped`."""
    owner, left_bytes = attempt.directory.owner(), attempt.effective.disk_bytes
    tops = {WORKSPACE: attempt.directory.workspace, HOME: attempt.directory.home}
    links: list[tuple[Path, str]] = []
    source = _Checked(attempt.equipment.product.artifacts.open(session["key"]))
    try:
        with tarfile.open(fileobj=cast(BinaryIO, source), mode="r|gz") as archive:
            for member in archive:
                attempt.check()
                _forget_members(archive)
                target = _target(tops, member.name)
                if member.issym():
                    links.append((target, member.linkname))
                elif member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    _give(target, owner.user_id, owner.group_id)
                elif (content := archive.extractfile(member)) is not None:
                    left_bytes -= member.size
                    if left_bytes < 0:
                        raise OSError(errno.ENOSPC, "its files are larger together than vm.disk")
                    _write(target, content, member.mode & PERMISSIONS, attempt.check)
                    _give(target, owner.user_id, owner.group_id)
        source.read_all()
        if source.sha256 != session["sha256"]:
            raise ValueError("its checksum is not that of what was stored")
        for link, points_to in links:
            link.symlink_to(points_to)
            _give(link, owner.user_id, owner.group_id)
    finally:
        source.close()


def _target(tops: dict[str, Path], name: str) -> Path:
    """Where a member goes. Raises `ValueError` for a name that leads elsewhere."""
    top, *rest = PurePosixPath(name).parts
    if top not in tops or not rest or ".." in rest:
        raise ValueError(f"it holds {name!r}")
    return tops[top].joinpath(*rest)


def _write(target: Path, content: Any, mode: int, check: Callable[[], None]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as sink:
        while data := content.read(READ_BYTES):
            check()
            sink.write(data)
        os.fchmod(sink.fileno(), mode)


def _give(path: Path, user_id: int, group_id: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, user_id, group_id, follow_symlinks=False)


class _Checked(io.RawIOBase):
    """Pieces of a storage as a file whose checksum is known at its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = b""
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
            self._hash.update(self._rest)
        data = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(data) :]
        return data

    def read_all(self) -> None:
        """To the end, for the checksum."""
        while self.read(READ_BYTES):
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        closing = getattr(self._pieces, "close", None)
        if closing is not None:
            closing()
        super().close()
