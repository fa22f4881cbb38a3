"""H6: clients that never finish what they began keep nobody else out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from orchestrator.access import USUAL
from orchestrator.services import tokens
from tests.integration.api.installation import open_product
from tests.integration.api.live import LiveServer

CONNECTIONS = 200
ANSWER_SECONDS = 10
BEGUN = (
    b"",
    b"GET /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/yaml\r\nContent-Length: 1000\r\n\r\nver",
    b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nver\r\n",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path / "data")
    server.start()
    yield server
    server.stop()


def drip(connections: list[socket.socket], stop: threading.Event) -> None:
    """A byte now and then, so that none of them looks dead."""
    while not stop.wait(0.5):
        for connection in connections:
            with suppress(OSError):
                connection.send(b"a")


def test_h6_health_and_the_list_answer_beside_200_connections_that_never_finish(server: LiveServer) -> None:
    product = open_product(server.data_dir)
    _, text = tokens.create(product.database, name="n", owner="alice", scopes=USUAL)
    product.database.close()
    slow, stop = [], threading.Event()
    try:
        for number in range(CONNECTIONS):
            slow.append(socket.create_connection(("127.0.0.1", server.port)))
            begun = BEGUN[number % len(BEGUN)]
            if begun:
                slow[-1].sendall(begun)
        dripping = threading.Thread(target=drip, args=(slow, stop), daemon=True)
        dripping.start()
        for _ in range(5):
            assert httpx.get(f"{server.url}/api/v1/health", timeout=ANSWER_SECONDS).status_code == 200
        listed = httpx.get(
            f"{server.url}/api/v1/tasks", headers={"Authorization": f"Bearer {text}"}, timeout=ANSWER_SECONDS
        )
        assert listed.status_code == 200
    finally:
        stop.set()
        for connection in slow:
            connection.close()
    assert "Traceback" not in server.log
