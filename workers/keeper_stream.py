"""One sandbox in the keeper: its attach stream on one side, its spool on the other, the gate in between."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from workers.spool import CHUNK_MAX_BYTES, HEADER, SpoolWriter

if TYPE_CHECKING:
    from workers.keeper_connection import Connection

OUTGOING_MAX_BYTES = 4 * 1024 * 1024
# What may still lie in the kernel when a stream is shut; more than this, and somebody is still sending.
_DRAIN_MAX_BYTES = 8 * 1024 * 1024
_DISK_RETRY_SECONDS = 1.0

# The keeper has one thread: one buffer serves every stream, and each chunk is written from it without a copy.
_FRAME = memoryview(bytearray(HEADER.size + CHUNK_MAX_BYTES))


class HeldStream:
    """Owns the socket from construction to the end of the stream. Not thread-safe; only the disk blocks."""

    def __init__(
        self,
        name: str,
        attach: socket.socket,
        writer: SpoolWriter,
        stop_argv: list[str],
        selector: selectors.BaseSelector,
    ) -> None:
        self.name = name
        self.stop_argv = stop_argv
        self.writer = writer
        self.paused = False
        self._socket: socket.socket | None = attach
        self._selector = selector
        self._events = 0
        self._outgoing = bytearray()
        self._half_close = False
        self._watchers: set[Connection] = set()
        self._disk_retry_at = 0.0
        self._await()

    @property
    def open(self) -> bool:
        """True until the end marker is on disk."""
        return self.writer.ended is None

    @property
    def blocked(self) -> bool:
        """True while the stream is not read: spool at its limit, or a disk that refuses."""
        return self.open and (self.paused or self.writer.stalled is not None)

    def ready(self, mask: int) -> None:
        """The selector's call. An error on the socket ends the stream, never the keeper."""
        if mask & selectors.EVENT_WRITE:
            self._send_outgoing()
        if mask & selectors.EVENT_READ:
            if self._receive(self.writer.room_bytes()) == 0:
                self._end("ended")
            self._await()

    def unblock(self, now: float) -> None:
        """Look again whether the disk takes what it refused (each second), and whether the spool has room."""
        if not self.open:
            return
        if self.writer.stalled is not None and now >= self._disk_retry_at:
            self._disk_retry_at = now + _DISK_RETRY_SECONDS
            if self.writer.retry():
                self._ring()
        if self.paused and self.writer.room_bytes() > 0:
            self.paused = False
        self._await()

    def write(self, data: bytes, *, half_close: bool) -> bool:
        """Queue `data` towards the sandbox's stdin; True when it was taken, False when 4 MiB wait already.

        After `half_close` stdin ends once everything queued is sent.
        """
        if len(self._outgoing) + len(data) > OUTGOING_MAX_BYTES:
            return False
        self._outgoing += data
        self._half_close = self._half_close or half_close
        self._send_outgoing()
        return True

    def refuse_input(self) -> None:
        """Nothing is written to this stream: the sandbox has got its input, or the socket takes none."""
        self._half_close = True

    @property
    def stdin_closed(self) -> bool:
        """True once everything that was to be written is in the keeper's hands."""
        return self._half_close

    @property
    def writable(self) -> bool:
        """False once the stream has ended or stdin was closed."""
        return self._socket is not None and not self._half_close

    def shut(self, reason: str) -> None:
        """Shut and close the socket, which frees the engine; keep what had arrived. Harmless when ended."""
        if self._socket is None:
            return
        with suppress(OSError):  # not connected any more: as good as shut
            self._socket.shutdown(socket.SHUT_RDWR)
        # Above the limit, if need be: nothing can follow, so this is bounded by the kernel's buffer.
        left = _DRAIN_MAX_BYTES
        while left > 0 and self.writer.stalled is None:
            received = self._receive(self.writer.chunk_bytes)
            if not received:
                break
            left -= received
        self._end("cut" if self.writer.stalled is not None or left <= 0 else reason)

    def forget(self) -> None:
        """Shut, and give up what the disk still refuses: the spool's owner is about to delete it."""
        self.shut("shut")
        self.writer.close()
        for watcher in list(self._watchers):
            watcher.ring_end()
        self._watchers.clear()

    def add_watcher(self, watcher: Connection) -> None:
        """Ring `watcher` for every write from now on, and once at the start for what was written before."""
        self._watchers.add(watcher)
        watcher.ring_data()
        if not self.open:
            watcher.ring_end()

    def remove_watcher(self, watcher: Connection) -> None:
        """Ring it no more. Harmless when it was never added."""
        self._watchers.discard(watcher)

    def _receive(self, room_bytes: int) -> int | None:
        """One read into the spool, at most `room_bytes`: how many came; 0 at the end, None if none did."""
        if self._socket is None:
            return None
        if room_bytes <= 0:
            self.paused = True
            return None
        try:
            # Per call, because O_NONBLOCK would also change the worker's copy of the socket.
            window = _FRAME[HEADER.size : HEADER.size + room_bytes]
            received = self._socket.recv_into(window, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return 0  # reset by the engine: the stream is over, however it ended
        if received > 0:
            self.writer.append(_FRAME[: HEADER.size + received], time.time())
            self._ring()
        return received

    def _send_outgoing(self) -> None:
        if self._socket is None:
            return
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing, socket.MSG_DONTWAIT)]
            if self._half_close:
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            # The sandbox's stdin is gone; its output may still follow and tells why.
            self._outgoing.clear()
        self._await()

    def _end(self, reason: str) -> None:
        if self._socket is None:
            return
        self._watch_socket(0)
        self._socket.close()
        self._socket = None
        self._outgoing.clear()
        self.paused = False
        self.writer.finish(reason)
        self._ring()

    def _ring(self) -> None:
        for watcher in list(self._watchers):
            if self.open:
                watcher.ring_data()
            else:
                watcher.ring_end()

    def _await(self) -> None:
        """Tell the selector what this stream waits for now."""
        if self._socket is None:
            return
        reads = 0 if self.blocked else selectors.EVENT_READ
        self._watch_socket(reads | (selectors.EVENT_WRITE if self._outgoing else 0))

    def _watch_socket(self, events: int) -> None:
        if self._socket is None or events == self._events:
            return
        if events == 0:
            self._selector.unregister(self._socket)
        elif self._events == 0:
            self._selector.register(self._socket, events, self.ready)
        else:
            self._selector.modify(self._socket, events, self.ready)
        self._events = events
