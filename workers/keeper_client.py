"""The worker's side of the keeper (`keeper.py`): its requests as methods."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.keeper_doorbell import Doorbell, Ring
from workers.keeper_start import KeeperStarter, KeeperUnavailable
from workers.spool import LIMIT_DEFAULT_BYTES

__all__ = ["Doorbell", "Held", "KeeperClient", "KeeperRefused", "KeeperUnavailable", "Ring"]

_WRITE_PART_BYTES = 1024 * 1024
_FULL_PAUSE_SECONDS = 0.02


class KeeperRefused(RuntimeError):
    """The keeper answered no.

    `code`: unknown, already_held, no_socket, no_descriptor, spool, ended, full, holding or bad_request.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Held:
    """One sandbox as the keeper sees it.

    `paused`: its stream is not read now (spool at its limit, or `stalled`: the disk's error).
    `eof`: None while the stream is open, else a key of `spool.END_REASONS`.
    `stopped`: its stop program ran with success.
    `stdin_closed`: the last write, the one with `half_close`, has been taken.
    """

    spool_dir: Path
    bytes_written: int
    paused: bool
    stalled: str | None
    eof: str | None
    stopped: bool
    stdin_closed: bool


class KeeperClient:
    """Thread-safe. Each call raises KeeperUnavailable, and KeeperRefused where the keeper may say no.

    A keeper that is gone is started again, once a call; the new one holds nothing, `held()` tells.
    """

    def __init__(
        self,
        directory: Path,
        *,
        idle_exit_seconds: float = 10.0,
        stop_after_seconds: float = 30.0,
        starts: bool = True,
    ) -> None:
        """`directory`: the keeper's own (0700). `stop_after_seconds`: the lease before the first `renew`.

        Without `starts` the keeper is a service of its own, and a call waits some seconds for it.
        """
        self._starter = KeeperStarter(directory, idle_exit_seconds, stop_after_seconds, starts=starts)
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def ensure_running(self) -> int:
        """The pid of the keeper, which is started if none answers within five seconds."""
        return int(self._call({"op": "hello", "worker_pid": os.getpid()})["pid"])

    def hold(
        self,
        name: str,
        fd: int,
        spool_dir: Path,
        stop_argv: list[str],
        limit_bytes: int = LIMIT_DEFAULT_BYTES,
        *,
        output_only: bool = False,
        keepsake: str | None = None,
    ) -> None:
        """Hand over the attach socket `fd`; close your copy afterwards, and send nothing on it yourself.

        `output_only`: the sandbox has got its input already; `stdin_closed` is true from the start. `keepsake`: a
        text for `keepsake`, kept in the keeper's memory only; without one an earlier one of that name stays.

        Raises KeeperRefused: already_held, no_socket, spool, bad_request.
        """
        request: dict[str, object] = {
            "op": "hold",
            "name": name,
            "spool_dir": str(spool_dir.absolute()),
            "limit_bytes": limit_bytes,
            "stop": stop_argv,
            "output_only": output_only,
        }
        if keepsake is not None:
            request["keepsake"] = keepsake
        self._call(request, fd=fd)

    def keepsake(self, name: str) -> str | None:
        """What was given with `hold`. Raises KeeperRefused: unknown; bad_request by a keeper that has none."""
        kept: str | None = self._call({"op": "keepsake", "name": name})["keepsake"]
        return kept

    def watch(self, name: str) -> Doorbell:
        """A doorbell of its own connection; it rings at once. Raises KeeperRefused: unknown."""
        try:
            with self._lock:
                connection = self._starter.connect_or_start()
            try:
                connection.sendall(_line({"op": "watch", "name": name}))
                reply, rest = _receive_line(connection)
                _checked(reply)
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            raise self._gone("watch", error) from error
        return Doorbell(connection, rest)

    def shut(self, name: str) -> bool:
        """Shut and close the stream; before any kill: unread, it blocks the engine. False: unknown name."""
        return bool(self._call({"op": "shut", "name": name})["known"])

    def release(self, name: str) -> bool:
        """Shut, and forget: it will not be stopped by the keeper any more. The spool is yours to delete."""
        return bool(self._call({"op": "release", "name": name})["known"])

    def write(self, name: str, data: bytes, *, half_close: bool = False, timeout_seconds: float = 30.0) -> None:
        """Send to the sandbox's stdin through the keeper, then close stdin if `half_close`.

        Returns when the keeper has all of it (it buffers 4 MiB). Raises KeeperRefused: unknown, ended, or
        full when the sandbox did not read enough within `timeout_seconds`. After an error a part may have
        been sent.
        """
        give_up_at = time.monotonic() + timeout_seconds
        parts = [data[at : at + _WRITE_PART_BYTES] for at in range(0, len(data), _WRITE_PART_BYTES)] or [b""]
        for number, part in enumerate(parts, start=1):
            request = {
                "op": "write",
                "name": name,
                "data_base64": base64.b64encode(part).decode(),
                "half_close": half_close and number == len(parts),
            }
            while True:
                try:
                    self._call(request, repeatable=False)
                    break
                except KeeperRefused as refusal:
                    if refusal.code != "full" or time.monotonic() >= give_up_at:
                        raise
                time.sleep(_FULL_PAUSE_SECONDS)

    def renew(self, stop_after_seconds: float) -> None:
        """After each heartbeat the store has taken: the sandboxes may run that long without another."""
        self._call({"op": "renew", "stop_after_seconds": stop_after_seconds})

    def pause_lease(self, adopt_seconds: float) -> None:
        """This worker stops on purpose: keep its sandboxes so long for a successor, whose `renew` ends it."""
        self._call({"op": "pause_lease", "adopt_seconds": adopt_seconds})

    def held(self) -> dict[str, Held]:
        """What the keeper holds and has not been told to release, by name."""
        return {
            name: Held(**{**fields, "spool_dir": Path(fields["spool_dir"])})
            for name, fields in self._call({"op": "list"})["held"].items()
        }

    def quit(self, *, force: bool = False) -> None:
        """End the keeper, if one runs. Raises KeeperRefused (holding) while it holds any, unless `force`."""
        self._call({"op": "quit", "force": force}, start=False)
        self.close()

    def close(self) -> None:
        """Close the control connection; the next call opens another."""
        with self._lock:
            self._disconnect()

    def _call(
        self,
        request: dict[str, object],
        *,
        fd: int | None = None,
        repeatable: bool = True,
        start: bool = True,
    ) -> dict[str, Any]:
        with self._lock:
            try:
                return _checked(self._exchange(request, fd, start=start))
            except TimeoutError as error:  # it may yet do it: asking again could do it twice
                self._disconnect()
                raise self._gone(request["op"], error) from error
            except _NotSentError:
                repeated = False
            except OSError as error:
                if not repeatable:
                    raise self._gone(request["op"], error) from error
                repeated = True
            try:
                return _checked(self._exchange(request, fd, start=start))
            except KeeperRefused as refusal:
                if repeated and refusal.code == "already_held":  # by our first message, its reply lost
                    return {"ok": True}
                raise
            except OSError as error:
                self._disconnect()
                raise self._gone(request["op"], error) from error

    def _exchange(self, request: dict[str, object], fd: int | None, *, start: bool) -> dict[str, Any]:
        """One request and its reply. Raises _NotSentError when the keeper cannot have acted, else OSError."""
        if self._connection is None:
            self._connection = self._starter.connect_or_start() if start else self._starter.connect()
            if self._connection is None:
                return {"ok": True}  # asked only to end, and it has
        try:
            line = _line(request)
            try:
                sent = socket.send_fds(self._connection, [line], [fd]) if fd is not None else 0
                self._connection.sendall(line[sent:])
            except ConnectionError as error:
                raise _NotSentError(str(error)) from error
            return _receive_line(self._connection)[0]
        except OSError:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _gone(self, operation: object, error: OSError) -> KeeperUnavailable:
        return KeeperUnavailable(
            f"keeper in {self._starter.directory}: no answer to {operation!r} ({error}); "
            f"it may have been done: ask `held()`, and see keeper.log there"
        )


class _NotSentError(ConnectionError):
    """The connection was gone before the request was out."""


def _line(request: dict[str, object]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def _receive_line(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """A reply, and what came after it. Raises ConnectionError when the keeper hangs up, TimeoutError."""
    received = b""
    while b"\n" not in received:
        part = connection.recv(64 * 1024)
        if not part:
            raise ConnectionResetError("the keeper hung up")
        received += part
    line, _, rest = received.partition(b"\n")
    reply: dict[str, Any] = json.loads(line)
    return reply, rest


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if not reply["ok"]:
        raise KeeperRefused(str(reply["code"]), str(reply["error"]))
    return reply
