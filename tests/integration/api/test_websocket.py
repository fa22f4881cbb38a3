"""The event stream by WebSocket: handshake, frames, what the other end may say (contract §6, RFC 6455)."""

from __future__ import annotations

import base64
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import pytest
import websocket

from orchestrator.access import USUAL, Caller
from orchestrator.product import Product
from orchestrator.services.submit import submit
from orchestrator.services.tokens import create
from tests.integration.api.events import PATH, next_frame, open_websocket
from tests.integration.api.installation import BuildHost, open_product
from tests.integration.api.live import LiveServer
from tests.integration.api.waiting import eventually
from tests.integration.store.given import manifest_of
from tests.servers.process import free_port

ALICE, BOB = (Caller(owner, frozenset(scope.value for scope in USUAL)) for owner in ("alice", "bob"))


@pytest.fixture
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    opened = open_product(tmp_path_factory.mktemp("websocket") / "data")
    yield opened
    opened.database.close()


@pytest.fixture
def server(product: Product) -> Iterator[LiveServer]:
    live = LiveServer(product.settings.data_dir)
    live.start()
    yield live
    live.stop()


def given(product: Product, task_id: str = "t") -> BuildHost:
    host = BuildHost(product)
    host.register()
    submit(product, manifest_of(task_id=task_id))
    return host


def long_answers(server: LiveServer) -> str:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return next(line.split()[1] for line in lines if line.startswith("sandbox_api_long_answers "))


def test_each_message_is_a_frame_and_a_reader_resumes_behind_any(server: LiveServer, product: Product) -> None:
    host = given(product)
    with closing(open_websocket(server)) as connection:
        first = next_frame(connection)
        assert (first["preexisting"], first["new_state"], first["id"]) == (True, "pending", None)
        assert next_frame(connection)["type"] == "heartbeat"
        claim = host.run("t")
        states = [next_frame(connection, "state_change") for _ in range(4)]
        assert states[-1]["new_state"] == "running"
    host.say(claim, "while nobody listened\n", "x" * 70_000 + "\n")
    host.exit(claim)
    with closing(open_websocket(server, f"?after={states[1]['id']}")) as connection:
        assert [next_frame(connection) for _ in range(2)] == states[2:]
        assert next_frame(connection)["data"] == "while nobody listened\n"
        assert next_frame(connection)["bytes"] == 70_001
        ends = [next_frame(connection, "state_change")["new_state"] for _ in range(2)]
        assert ends == ["completing", "completed"]


def test_both_ports_carry_it(product: Product) -> None:
    port = free_port()
    server = LiveServer(product.settings.data_dir, ("--stream-port", str(port)))
    server.start()
    try:
        url = f"ws://127.0.0.1:{port}{PATH}?task_id=t"
        given(product)
        # A page of the one port may open its WebSocket on the other.
        with closing(websocket.create_connection(url, timeout=30, origin=server.url)) as connection:
            assert json.loads(connection.recv())["task_id"] == "t"
    finally:
        server.stop()


def test_a_ping_is_answered_and_a_goodbye_frees_the_place(server: LiveServer) -> None:
    connection = open_websocket(server)
    next_frame(connection, "heartbeat")
    assert long_answers(server) == "1.0"
    connection.ping(b"are you there")
    opcode, data = connection.recv_data(control_frame=True)
    assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"are you there")
    connection.send("a message that nobody asked for")
    connection.close(timeout=30)
    eventually("the place is free", lambda: long_answers(server) == "0.0")


def test_a_reader_that_vanishes_frees_its_place(server: LiveServer) -> None:
    connection = open_websocket(server)
    next_frame(connection, "heartbeat")
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.sock.close()
    eventually("the place is free", lambda: long_answers(server) == "0.0")
    assert "Traceback" not in server.log
    assert "socket error" not in server.log.lower()


def test_who_talks_instead_of_listening_is_sent_away(server: LiveServer) -> None:
    connection = open_websocket(server)
    next_frame(connection, "heartbeat")
    with suppress(websocket.WebSocketException, OSError):
        while True:
            connection.send("x" * 60_000)
    eventually("the place is free", lambda: long_answers(server) == "0.0")
    connection.shutdown()


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff", b"\x81\x05hello", b"\x8f\x80\x00\x00\x00\x00", b"\x83\x80\x00\x00\x00\x00", b"\x00" * 50],
)
def test_what_breaks_the_protocol_ends_the_connection_alone(server: LiveServer, garbage: bytes) -> None:
    connection = open_websocket(server)
    next_frame(connection, "heartbeat")
    connection.sock.sendall(garbage)
    eventually("the place is free", lambda: long_answers(server) == "0.0")
    connection.shutdown()
    with closing(open_websocket(server)) as other:
        next_frame(other, "heartbeat")
    assert "Traceback" not in server.log


def test_a_page_of_a_foreign_origin_gets_no_websocket(server: LiveServer) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_websocket(server, origin="https://evil.example")
    assert refused.value.status_code == 403
    with closing(open_websocket(server, origin=server.url)) as connection:
        next_frame(connection, "heartbeat")


def raw_answer(server: LiveServer, *lines: str) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        head = "".join(f"{line}\r\n" for line in (f"GET {PATH} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *lines))
        connection.sendall(f"{head}Connection: close, Upgrade\r\n\r\n".encode())
        answer = b""
        while b'"request_id"' not in answer:
            data = connection.recv(1 << 16)
            assert data, answer
            answer += data
        return answer


KEY = f"Sec-WebSocket-Key: {base64.b64encode(b'k' * 16).decode()}"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Upgrade: websocket",), b"400"),
        (("Upgrade: websocket", "Sec-WebSocket-Version: 13"), b"400"),
        (("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"), b"400"),
        (("Upgrade: websocket", "Sec-WebSocket-Version: 8", KEY), b"426"),
    ],
)
def test_a_handshake_that_is_none_is_refused_with_a_reason(
    server: LiveServer, lines: tuple[str, ...], status: bytes
) -> None:
    answer = raw_answer(server, *lines)
    assert answer.split(b" ", 2)[1] == status, answer
    assert b'"error"' in answer


def test_bad_parameters_are_refused_before_the_handshake(server: LiveServer) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_websocket(server, "?filter=nonsense")
    assert refused.value.status_code == 400


def test_a_browser_hands_its_token_in_among_the_subprotocols(server: LiveServer, product: Product) -> None:
    _, text = create(product.database, name="n", owner="alice", scopes=USUAL)
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_websocket(server)
    assert refused.value.status_code == 401
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_websocket(server, subprotocols=["sandbox.v1", f"sandbox.token.{text}x"])
    assert refused.value.status_code == 401
    submit(product, manifest_of(task_id="bobs"), by=BOB)
    submit(product, manifest_of(task_id="alices"), by=ALICE)
    with closing(open_websocket(server, subprotocols=["sandbox.v1", f"sandbox.token.{text}"])) as connection:
        assert connection.getsubprotocol() == "sandbox.v1"
        assert next_frame(connection)["task_id"] == "alices"
        assert next_frame(connection)["type"] == "heartbeat"
    for task_id in ("bobs", "nobodys"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            open_websocket(server, f"?task_id={task_id}", header={"Authorization": f"Bearer {text}"})
        assert refused.value.status_code == 404
    assert text not in server.log


def test_a_killed_server_is_gone_on_with_where_it_was_left(server: LiveServer, product: Product) -> None:
    host = given(product)
    with closing(open_websocket(server, "?after=0")) as connection:
        claim = host.run("t")
        seen = [next_frame(connection, "state_change") for _ in range(5)]
        server.stop(signal.SIGKILL)
    host.say(claim, "meanwhile\n")
    server.start()
    with closing(open_websocket(server, f"?after={seen[-1]['id']}")) as connection:
        assert next_frame(connection)["data"] == "meanwhile\n"
