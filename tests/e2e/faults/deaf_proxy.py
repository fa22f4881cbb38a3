"""A socket in front of the engine's whose event streams can fall silent without an end (fault F23)."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


@dataclass
class _Connection:
    client: socket.socket
    engine: socket.socket
    follows_events: bool = False


@dataclass
class DeafProxy:
    """Passes everything on; with `deaf` set, nothing of subscriptions to the engine's events any more.

    A question for events of the past, which names its end (`until`), is answered as ever.
    """

    path: Path
    deaf: bool = False
    swallowed_bytes: int = 0
    _connections: list[_Connection] = field(default_factory=list)
    _listening: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.path}"}

    @property
    def subscriptions(self) -> int:
        return sum(one.follows_events for one in self._connections)

    def __enter__(self) -> Self:
        self._listening.bind(str(self.path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        for one in (self._listening, *(end for pair in self._connections for end in (pair.client, pair.engine))):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.path.unlink()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(ENGINE)
                connection = _Connection(client, engine)
                self._connections.append(connection)
                for pump in (self._ask, self._answer):
                    threading.Thread(target=pump, args=(connection,), daemon=True).start()

    def _ask(self, connection: _Connection) -> None:
        with suppress(OSError):
            while data := connection.client.recv(65536):
                request = data.partition(b"\r\n")[0]
                if b"/events?" in request:
                    connection.follows_events = b"until=" not in request
                connection.engine.sendall(data)
        with suppress(OSError):
            connection.engine.shutdown(socket.SHUT_WR)

    def _answer(self, connection: _Connection) -> None:
        with suppress(OSError):
            while data := connection.engine.recv(65536):
                if self.deaf and connection.follows_events:
                    self.swallowed_bytes += len(data)
                else:
                    connection.client.sendall(data)
        with suppress(OSError):
            connection.client.shutdown(socket.SHUT_WR)
