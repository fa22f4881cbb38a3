"""Messages as files: what the embedded broker does on disk.

Layout below the broker directory (every directory has mode 0700)::

    queues/<queue>/<time>-<pid>-<n>.msg   waiting messages; the names sort in publish order
    queues/<queue>/taken/                 messages between `rename` and `unlink` of one consumer
    exchanges/<exchange>.json             which queues are bound: [[routing key, pattern, queue], …]
    exchanges/.lock                       the one lock for changes of these tables
    tmp/                                  files being written; a reader never looks here
    rejected/                             what could not be decoded, for a human

Nothing is synced to the disk: a message is only a doorbell, the store rings again after a power loss.
"""

import errno
import fcntl
import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

from orchestrator.broker.queues import MESSAGE_TTL_SECONDS

logger = logging.getLogger(__name__)

Binding = tuple[str, str, str]
"""Routing key, pattern, queue."""

REJECTED_TTL_SECONDS = 7 * 24 * 3600.0
_SWEEP_INTERVAL_SECONDS = 60.0
_PRIVATE_MODE = 0o700
_SUFFIX = ".msg"
_serial = count()


class BrokerDirectoryRefused(Exception):
    """The broker directory must not be used: another user could command the workers through it."""


class MessageFiles:
    """The queues and binding tables in one directory.

    An instance belongs to one thread at a time; any number of instances, in any number of processes of one
    user on one host, may use the same directory at once. Errors of the file system are raised as `OSError`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, deque[str]] = {}
        self._swept_at: dict[str, float] = {}

    def prepare(self) -> None:
        """Make the directories. Safe to call again.

        Raises `BrokerDirectoryRefused` when the broker directory belongs to another user.
        """
        self._root.mkdir(mode=_PRIVATE_MODE, parents=True, exist_ok=True)
        found = self._root.stat()
        if found.st_uid != os.geteuid():
            raise BrokerDirectoryRefused(
                f"The broker directory {self._root} was not opened: it belongs to user id {found.st_uid}, "
                f"this process runs as {os.geteuid()}, and whoever writes there commands the workers. Choose "
                "another data directory, or give this one to the user who runs the product."
            )
        if found.st_mode & 0o077:
            self._root.chmod(_PRIVATE_MODE)
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._root))
        for name in ("queues", "exchanges", "tmp", "rejected"):
            (self._root / name).mkdir(mode=_PRIVATE_MODE, exist_ok=True)
        _drop_files_older_than(self._root / "tmp", MESSAGE_TTL_SECONDS)
        _drop_files_older_than(self._root / "rejected", REJECTED_TTL_SECONDS)

    def queue_directory(self, queue: str) -> Path:
        """Where the messages of `queue` lie. It need not exist yet."""
        return self._root / "queues" / _file_name(queue)

    def make_queue(self, queue: str) -> None:
        """Make the directory of `queue`, and the broker directory if somebody removed it."""
        self.prepare()
        self.queue_directory(queue).mkdir(mode=_PRIVATE_MODE, exist_ok=True)
        (self.queue_directory(queue) / "taken").mkdir(mode=_PRIVATE_MODE, exist_ok=True)

    def put(self, queue: str, payload: bytes) -> None:
        """Publish: the message appears under its final name complete or not at all."""
        self._sweep(queue)
        name = f"{time.time_ns():020d}-{os.getpid():07d}-{next(_serial):010d}{_SUFFIX}"
        try:
            self._write(self.queue_directory(queue) / name, payload)
        except FileNotFoundError:  # first message to this queue, or the directory was removed meanwhile
            self.make_queue(queue)
            self._write(self.queue_directory(queue) / name, payload)

    def take(self, queue: str) -> bytes | None:
        """Take the oldest waiting message out of `queue`; None when there is none.

        Of several consumers exactly one gets it. A message whose consumer dies before the payload was read is
        given back by `restore_taken`. Raises `FileNotFoundError` when the queue's directory is gone.
        """
        directory = self.queue_directory(queue)
        listed = self._listed.setdefault(queue, deque())
        if not listed:  # one listing serves many messages: 2,000 waiting ones cost 1 listing, not 2,000
            listed.extend(_message_names(directory))
        while listed:
            payload = _take_file(directory, listed.popleft())
            if payload is not None:
                return payload
        return None

    def restore_taken(self, queue: str) -> None:
        """Give back what consumers of `queue` had taken when they died. Those alive hold a lock on theirs."""
        directory = self.queue_directory(queue)
        for name in _message_names(directory / "taken"):
            with (
                suppress(FileNotFoundError, BlockingIOError),
                (directory / "taken" / name).open("rb") as file,
            ):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (directory / "taken" / name).rename(directory / name)

    def reject(self, queue: str, payload: bytes, why: str) -> None:
        """Set aside a message that cannot be decoded, and say so in the log."""
        kept = self._root / "rejected" / f"{time.time_ns():020d}.{_file_name(queue)}"
        self._write(kept, payload)
        logger.warning("undecodable broker message set aside", extra={"queue": queue, "file": str(kept), "why": why})

    def size(self, queue: str) -> int:
        """Number of waiting messages; 0 for a queue that does not exist."""
        with suppress(FileNotFoundError):
            return len(_message_names(self.queue_directory(queue)))
        return 0

    def purge(self, queue: str) -> int:
        """Drop all waiting messages of `queue`; answers how many."""
        dropped = 0
        with suppress(FileNotFoundError):
            for name in _message_names(self.queue_directory(queue)):
                with suppress(FileNotFoundError):
                    (self.queue_directory(queue) / name).unlink()
                    dropped += 1
        return dropped

    def bindings(self, exchange: str) -> list[Binding]:
        """The queues bound to `exchange`.

        A table torn by a power loss counts as empty: workers bind again when they start.
        """
        path = self._table(exchange)
        try:
            return [(key, pattern, queue) for key, pattern, queue in json.loads(path.read_bytes())]
        except FileNotFoundError:
            return []
        except ValueError as error:
            logger.warning("unreadable binding table ignored", extra={"file": str(path), "why": str(error)})
            return []

    def bind(self, exchange: str, binding: Binding) -> None:
        """Add `binding` to the table of `exchange` unless it is there."""
        if binding not in self.bindings(exchange):
            with self._tables_locked():
                others = [known for known in self.bindings(exchange) if known != binding]
                self._write(self._table(exchange), json.dumps([*others, binding]).encode())

    def unbind(self, exchange: str, binding: Binding) -> None:
        """Remove `binding` from the table of `exchange` if it is there."""
        with self._tables_locked():
            left = [known for known in self.bindings(exchange) if known != binding]
            self._write(self._table(exchange), json.dumps(left).encode())

    def _table(self, exchange: str) -> Path:
        return self._root / "exchanges" / f"{_file_name(exchange)}.json"

    @contextmanager
    def _tables_locked(self) -> Iterator[None]:
        self.prepare()
        with (self._root / "exchanges" / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, path: Path, payload: bytes) -> None:
        temporary = self._root / "tmp" / f"{os.getpid()}-{next(_serial)}"
        try:
            temporary.write_bytes(payload)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _sweep(self, queue: str) -> None:
        now = time.monotonic()
        if now - self._swept_at.get(queue, -_SWEEP_INTERVAL_SECONDS) < _SWEEP_INTERVAL_SECONDS:
            return
        self._swept_at[queue] = now
        oldest_kept = f"{time.time_ns() - MESSAGE_TTL_SECONDS * 10**9:020d}"
        with suppress(FileNotFoundError):
            for name in _message_names(self.queue_directory(queue)):
                if name >= oldest_kept:
                    return
                (self.queue_directory(queue) / name).unlink(missing_ok=True)


def _file_name(name: str) -> str:
    # Queue and exchange names hold a worker's name; nothing in it may lead out of the directory. A leading
    # dot is escaped too, so that "." and ".." are ordinary names.
    quoted = quote(name, safe="@")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _message_names(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIX))


def _take_file(directory: Path, name: str) -> bytes | None:
    waiting, taken = directory / name, directory / "taken" / name
    # The lock is taken before the rename, so no moment exists in which a taken message looks abandoned.
    with suppress(FileNotFoundError, BlockingIOError), waiting.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waiting.rename(taken)
        payload = file.read()
        taken.unlink()
        return payload
    return None


def _drop_files_older_than(directory: Path, seconds: float) -> None:
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()
