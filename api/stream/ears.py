"""Notices that the other end of a connection says something, or goes, while nothing is sent to it."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

log = logging.getLogger(__name__)

GOODBYE = select.EPOLLRDHUP | select.EPOLLONESHOT
ANYTHING = GOODBYE | select.EPOLLIN
"""Only for who reads what has come: what stays unread would be heard again and again."""


class Ears:
    """One thread a process for all connections. Thread-safe."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._lock = threading.Lock()
        self._wake: dict[int, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def on(self, connection: socket.socket | None, what: int, wake: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """Call `wake` once when `GOODBYE` or `ANYTHING` is to be heard; what is yielded listens for the next time."""
        if connection is None or connection.fileno() < 0:
            yield lambda: None
            return
        number = connection.fileno()
        with self._lock:
            self._wake[number] = wake
            self._poll.register(number, what)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="stream-ears", daemon=True)
                self._thread.start()
        try:
            yield lambda: self._again(number, what)
        finally:
            with self._lock:
                del self._wake[number]
                with suppress(OSError, ValueError):  # closed already, and so forgotten
                    self._poll.unregister(number)

    def _again(self, number: int, what: int) -> None:
        with suppress(OSError, ValueError):  # closed meanwhile: whoever reads from it will see
            self._poll.modify(number, what)

    def _listen(self) -> None:
        while True:
            try:
                for number, _ in self._poll.poll():
                    with self._lock:
                        wake = self._wake.get(number)
                    if wake is not None:
                        wake()
            except Exception:  # without this thread goodbyes are noticed late, and nothing else is wrong
                log.exception("listening to the readers of the event stream failed, going on")
