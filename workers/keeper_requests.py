"""What the worker may ask of the keeper: one method a request, by name.

A request is `{"op": NAME, …}`, the reply `{"ok": true, …}` or `{"ok": false, "code": CODE, "error": TEXT}`.
"""

from __future__ import annotations

import binascii
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.keeper_stops import Lease, Stops, clock
from workers.keeper_stream import HeldStream
from workers.spool import LIMIT_DEFAULT_BYTES, SpoolWriter

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable

    from workers.keeper_connection import Connection

PROTOCOL_VERSION = 2
"""1 knows no keepsakes: it takes `hold` without them, and refuses `keepsake` as a bad request."""


class Refused(Exception):
    """A request that cannot be done; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Requests:
    """The keeper's state and the requests that change it."""

    def __init__(self, selector: selectors.BaseSelector, lease: Lease) -> None:
        self.streams: dict[str, HeldStream] = {}
        self.stops = Stops()
        self.lease = lease
        self.quitting = False
        self._keepsakes: dict[str, str] = {}
        self._selector = selector
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, object]]] = {
            "hello": self._hello,
            "list": self._list,
            "keepsake": self._keepsake,
            "shut": self._shut,
            "release": self._release,
            "write": self._write,
            "renew": self._renew,
            "pause_lease": self._pause_lease,
            "quit": self._quit,
        }

    def holding(self) -> bool:
        """True while a stream is open, or a sandbox not released may still have to be stopped.

        A stream may end while its container lives on (the engine restarted), so its end alone is not enough.
        """
        return any(stream.open or not self.stops.settled(name) for name, stream in self.streams.items())

    def handle(self, connection: Connection, request: dict[str, Any]) -> None:
        """Do one request and reply to it."""
        operation = request.get("op")
        try:
            if operation == "watch":
                stream = self._stream(request)
                connection.reply({"ok": True})
                stream.add_watcher(connection)
            elif operation == "hold":
                connection.reply({"ok": True, **self._hold(request, connection.take_descriptor())})
            elif operation in self._operations:
                connection.reply({"ok": True, **self._operations[operation](request)})
            else:
                known = ", ".join(sorted([*self._operations, "hold", "watch"]))
                message = f"the keeper does not know the request {operation!r}; use one of {known}"
                connection.reply({"ok": False, "code": "bad_request", "error": message})
        except Refused as refusal:
            connection.reply({"ok": False, "code": refusal.code, "error": str(refusal)})
        except (KeyError, TypeError, ValueError) as error:
            message = f"request {operation!r} refused: field missing or wrong ({error!r}); see workers/keeper.py"
            connection.reply({"ok": False, "code": "bad_request", "error": message})

    def drop_watcher(self, connection: Connection) -> None:
        """A connection has closed: ring it no more."""
        for stream in self.streams.values():
            stream.remove_watcher(connection)

    def _hold(self, request: dict[str, Any], descriptor: int | None) -> dict[str, object]:
        if descriptor is None:
            raise Refused("no_descriptor", "hold refused: no descriptor came along; send it in the same message")
        try:
            attach = socket.socket(fileno=descriptor)
        except OSError as error:
            os.close(descriptor)
            raise Refused(
                "no_socket", f"hold refused: the descriptor is no socket ({error}); pass the attach socket"
            ) from error
        try:
            self._hold_socket(request, attach)
        except BaseException:
            attach.close()
            raise
        return {}

    def _hold_socket(self, request: dict[str, Any], attach: socket.socket) -> None:
        name, stop_argv, spool = request["name"], request["stop"], Path(request["spool_dir"])
        known = self.streams.get(name)
        if known is not None and known.open:
            raise Refused("already_held", f"hold of {name!r} refused: its stream is still open; release it first")
        if not name or not spool.is_absolute() or not _is_argv(stop_argv):
            raise ValueError("name: not empty; spool_dir: absolute; stop: a list of strings, not empty")
        try:
            writer = SpoolWriter(spool, int(request.get("limit_bytes", LIMIT_DEFAULT_BYTES)))
        except OSError as error:
            raise Refused(
                "spool",
                f"hold of {name!r} refused: its spool {spool} cannot be made ({error}); fix the path or disk",
            ) from error
        if not self.holding():
            self.lease.ensure(clock())
        if known is not None:
            known.forget()
            self.stops.forget(name)
        stream = HeldStream(name, attach, writer, stop_argv, self._selector)
        if request.get("output_only", False):
            stream.refuse_input()
        self.streams[name] = stream
        kept = request.get("keepsake")
        if isinstance(kept, str):
            self._keepsakes[name] = kept

    def _stream(self, request: dict[str, Any]) -> HeldStream:
        name = request["name"]
        try:
            return self.streams[name]
        except KeyError:
            raise Refused("unknown", f"the keeper holds no sandbox {name!r}; hold it first, or see `list`") from None

    def _hello(self, request: dict[str, Any]) -> dict[str, object]:
        del request  # carries the worker's pid, for whoever reads a trace of the socket
        return {"pid": os.getpid(), "version": PROTOCOL_VERSION}

    def _list(self, request: dict[str, Any]) -> dict[str, object]:
        del request
        return {
            "held": {
                name: {
                    "spool_dir": str(stream.writer.directory),
                    "bytes_written": stream.writer.bytes_written,
                    "paused": stream.blocked,
                    "stalled": stream.writer.stalled,
                    "eof": stream.writer.ended,
                    "stopped": self.stops.succeeded(name),
                    "stdin_closed": stream.stdin_closed,
                }
                for name, stream in self.streams.items()
            }
        }

    def _keepsake(self, request: dict[str, Any]) -> dict[str, object]:
        return {"keepsake": self._keepsakes.get(self._stream(request).name)}

    def _shut(self, request: dict[str, Any]) -> dict[str, object]:
        stream = self.streams.get(request["name"])
        if stream is not None:
            stream.shut("shut")
        return {"known": stream is not None}

    def _release(self, request: dict[str, Any]) -> dict[str, object]:
        stream = self.streams.pop(request["name"], None)
        self._keepsakes.pop(request["name"], None)
        if stream is not None:
            stream.forget()
            self.stops.forget(stream.name)
        return {"known": stream is not None}

    def _write(self, request: dict[str, Any]) -> dict[str, object]:
        stream = self._stream(request)
        if not stream.writable:
            raise Refused("ended", f"write to {stream.name!r} refused: its stdin is closed; nothing more can be sent")
        data = binascii.a2b_base64(request["data_base64"], strict_mode=True)
        if not stream.write(data, half_close=bool(request.get("half_close", False))):
            raise Refused(
                "full",
                f"write to {stream.name!r} refused: 4 MiB wait already; the sandbox does not read, try later",
            )
        return {}

    def _renew(self, request: dict[str, Any]) -> dict[str, object]:
        self.lease.renew(clock(), _seconds(request["stop_after_seconds"]))
        self.stops.forget_all()
        return {}

    def _pause_lease(self, request: dict[str, Any]) -> dict[str, object]:
        self.lease.pause(clock(), _seconds(request["adopt_seconds"]))
        return {}

    def _quit(self, request: dict[str, Any]) -> dict[str, object]:
        if self.holding():
            if not request.get("force", False):
                names = ", ".join(sorted(self.streams))
                raise Refused(
                    "holding",
                    f"quit refused: the keeper still holds {names}; release them, or quit with force",
                )
            for stream in self.streams.values():
                stream.shut("cut")
        self.quitting = True
        return {}


def _is_argv(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1e9:  # neither NaN, which no lease would ever pass
        raise ValueError(f"{value!r} is no number of seconds from 0 on")
    return float(value)
