"""H6: clients that never finish what they began keep nobody else out, however many they are."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from api.capacity import THREADS
from orchestrator.access import USUAL
from orchestrator.services import tokens
from tests.integration.api.installation import MANIFEST, BuildHost, open_product
from tests.integration.api.live import Exchange, LiveServer, read_to_the_end
from tests.integration.broker.certificates import Certificates

CONNECTIONS = THREADS + 150
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 12)]
ANSWER_SECONDS = 120
"""Far more than it takes, and far less than for ever."""
HURRY = (
    "from api import server; server.HEAD_SECONDS = server.BODY_SECONDS = 3; from orchestrator.cli import main; main()"
)
HURRIED = ("-c", HURRY)
"""`sandbox` that waits three seconds for a head or a body."""
POST = b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/yaml\r\n"
BEGUN = (
    b"",
    b"GET / HTTP/1.1\r\nX: ",
    POST + b"Content-Length: 1000\r\n\r\nver",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nver\r\n3e8\r\n",
)
HANDSHAKE_BEGUN = (b"\x16\x03\x01\x02\x00\x01",)
"""Of a record with 512 bytes: a byte now and then breaks no rule of TLS."""

Serve = Callable[..., LiveServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[LiveServer] = []

    def serve(**fields: object) -> LiveServer:
        started.append(LiveServer(tmp_path / "data", **fields))  # type: ignore[arg-type]
        started[-1].start()
        return started[-1]

    yield serve
    for server in started:
        server.stop()
        assert "Traceback" not in server.log


@contextmanager
def slow_clients(server: LiveServer, begun: tuple[bytes, ...], addresses: list[str]) -> Iterator[None]:
    """More connections than the server has threads, from these addresses in turn; each sends a byte now and then."""
    connections: list[socket.socket] = []
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.5):
            for connection in connections:
                with suppress(OSError):
                    connection.send(b"a")

    dripping = threading.Thread(target=drip)
    try:
        for _, text, address in zip(range(CONNECTIONS), cycle(begun), cycle(addresses), strict=False):
            connection = socket.create_connection(("127.0.0.1", server.port), source_address=(address, 0))
            connections.append(connection)
            with suppress(OSError):  # closed already, for being one of too many
                connection.sendall(text)
        dripping.start()
        yield
    finally:
        stop.set()
        for connection in connections:
            connection.close()
        if dripping.ident:
            dripping.join()


def test_h6_health_and_the_list_answer_beside_one_address_with_more_connections_than_there_are_threads(
    serve: Serve,
) -> None:
    server = serve()
    product = open_product(server.data_dir)
    _, text = tokens.create(product.database, name="n", owner="alice", scopes=USUAL)
    product.database.close()
    bearer = {"Authorization": f"Bearer {text}"}
    with slow_clients(server, BEGUN[1:2], ["127.0.0.1"]):
        assert httpx.get(f"{server.url}/api/v1/health", timeout=ANSWER_SECONDS).status_code == 200
        listed = httpx.get(f"{server.url}/api/v1/tasks", headers=bearer, timeout=ANSWER_SECONDS)
        assert listed.status_code == 200


def test_h6_many_addresses_with_few_slow_connections_each_are_let_go_and_followers_stay(serve: Serve) -> None:
    server = serve(program=HURRIED)
    product = open_product(server.data_dir)
    host = BuildHost(product)
    host.register()
    submitted = httpx.post(f"{server.url}/api/v1/tasks", content=MANIFEST, headers={"Content-Type": "text/yaml"})
    claim = host.run(submitted.json()["task_id"])
    with closing(Exchange(server, f"GET /api/v1/tasks/{claim.task_id}/logs?follow=true")) as follower:
        with slow_clients(server, BEGUN, ADDRESSES):
            assert httpx.get(f"{server.url}/api/v1/health", timeout=ANSWER_SECONDS).status_code == 200
        host.say(claim, "still here\n")
        host.exit(claim)
        read_to_the_end([follower], ANSWER_SECONDS)
        assert b"still here" in follower.body
        assert b"event: end" in follower.body
    product.database.close()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ADDRESSES], ids=["one address", "many addresses"])
def test_h6_handshakes_that_never_end_take_no_thread_for_long(
    serve: Serve, tmp_path: Path, addresses: list[str]
) -> None:
    certificates = Certificates(tmp_path, "IP:127.0.0.1")
    server = serve(
        program=HURRIED,
        environment={"SANDBOX_TLS_CERT": str(certificates.certificate), "SANDBOX_TLS_KEY": str(certificates.key)},
        authority=certificates.authority,
    )
    trusting = ssl.create_default_context(cafile=certificates.authority)
    with slow_clients(server, HANDSHAKE_BEGUN, addresses):
        answer = httpx.get(f"{server.url}/api/v1/health/live", verify=trusting, timeout=ANSWER_SECONDS)
        assert answer.status_code == 200
