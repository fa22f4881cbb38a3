"""The real server: many at once, readers that misbehave, death and return."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from orchestrator.models import Claim
from orchestrator.product import Product
from tests.integration.api import openapi, sse
from tests.integration.api.installation import MANIFEST, BuildHost, open_product
from tests.integration.api.live import Exchange, LiveServer, is_alive, read_to_the_end
from tests.integration.api.waiting import Background, eventually
from tests.servers.process import free_port

FOLLOWERS, WAITING = 200, 50
HEALTH_SECONDS = 10


def _check(response: httpx.Response) -> None:
    response.read()
    path = response.request.url.raw_path.decode().partition("?")[0]
    openapi.check(response.request.method, path, response.status_code, response.headers, response.content)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "data"


@pytest.fixture(scope="module")
def stored(directory: Path) -> Iterator[Product]:
    """The same store, opened by the process that plays the worker."""
    product = open_product(directory)
    yield product
    product.database.close()


@pytest.fixture(scope="module")
def server(directory: Path, stored: Product) -> Iterator[LiveServer]:
    server = LiveServer(directory, options=("--stream-port", str(free_port())))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def worker(stored: Product) -> BuildHost:
    host = BuildHost(stored)
    host.register(slots=1000, cpus=1000)
    return host


@pytest.fixture
def api(server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=60, event_hooks={"response": [_check]}) as client:
        yield client


def submit(api: httpx.Client) -> str:
    response = api.post("/tasks", content=MANIFEST, headers={"Content-Type": "application/yaml"})
    assert response.status_code == 202, response.text
    return str(response.json()["task_id"])


def start(api: httpx.Client, worker: BuildHost) -> Claim:
    return worker.run(submit(api))


def test_200_followers_and_50_waiting_deletes_at_once_are_all_served_and_health_answers(
    server: LiveServer, api: httpx.Client, worker: BuildHost
) -> None:
    followed = start(api, worker)
    doomed = [start(api, worker) for _ in range(WAITING)]
    path = f"GET /api/v1/tasks/{followed.task_id}/logs?follow=true"
    followers = [Exchange(server, path) for _ in range(FOLLOWERS)]
    deletes = [Exchange(server, f"DELETE /api/v1/tasks/{claim.task_id}?wait=300") for claim in doomed]

    def are_wanted() -> bool:
        return all(api.get(f"/tasks/{claim.task_id}").json()["cancel"] for claim in doomed)

    try:
        eventually("all wishes are stored", are_wanted)
        assert httpx.get(f"{server.url}/api/v1/health", timeout=HEALTH_SECONDS).status_code == 200
        for number in range(50):
            worker.say(followed, f"line {number}\n")
        worker.exit(followed)
        for claim in doomed:
            worker.confirm_cancel(claim)
        read_to_the_end([*followers, *deletes])
    finally:
        for exchange in (*followers, *deletes):
            exchange.close()
    assert {exchange.status for exchange in deletes} == {200}
    assert all(json.loads(exchange.body)["new_state"] == "cancelled" for exchange in deletes)
    bodies = {exchange.body.replace(b": keep-alive\n\n", b"") for exchange in followers}
    events = [sse.read(body) for body in bodies]
    for one in events:
        assert [event.body["data"] for event in one if event.name == "stdout"] == [f"line {n}\n" for n in range(50)]
        assert one[-1].name == "end"


def test_readers_that_stop_reading_or_vanish_do_not_hold_up_the_others(
    server: LiveServer, api: httpx.Client, worker: BuildHost
) -> None:
    claim = start(api, worker)
    path = f"GET /api/v1/tasks/{claim.task_id}/logs?follow=true&format=raw&stream=stdout"
    stalled = [Exchange(server, path, receive_bytes=1 << 16) for _ in range(5)]
    vanishing = [Exchange(server, path) for _ in range(10)]
    reader = Exchange(server, path)
    block = b"x" * 1023 + b"\n"
    try:
        worker.say(claim, block * 64)
        for exchange in vanishing:  # a reset: the process was killed, or its network is gone
            exchange.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            exchange.close()
        for _ in range(20):
            worker.say(claim, *[block * 64] * 8)
        assert api.get("/health").status_code == 200
        worker.exit(claim)
        read_to_the_end([reader])
        assert reader.body == block * 64 * 161
        assert api.get(f"/tasks/{claim.task_id}").json()["state"] == "completed"
        read_to_the_end(stalled)  # who reads on has lost nothing either
        assert {exchange.body for exchange in stalled} == {reader.body}
    finally:
        for exchange in (*stalled, reader):
            exchange.close()


def test_200_connections_that_never_finish_their_request_leave_the_server_usable(
    server: LiveServer, api: httpx.Client
) -> None:
    slow = []
    try:
        for number in range(200):
            slow.append(socket.create_connection(("127.0.0.1", server.port)))
            slow[-1].sendall(
                b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"Content-Length: 9\r\n\r\nx" * (number % 2)
            )
        assert httpx.get(f"{server.url}/api/v1/health", timeout=HEALTH_SECONDS).status_code == 200
        assert submit(api)
    finally:
        for connection in slow:
            connection.close()


def test_a_body_in_chunks_is_counted(api: httpx.Client) -> None:
    def endless(mebibytes: int) -> Iterator[bytes]:
        yield MANIFEST.encode()
        for _ in range(mebibytes * 16):
            yield b"#" * 65_535 + b"\n"

    headers = {"Content-Type": "application/yaml"}
    assert api.post("/tasks", content=endless(1), headers=headers).status_code == 202
    refused = api.post("/tasks", content=endless(3), headers=headers)
    assert refused.status_code == 413
    assert refused.json()["error"] == "manifest_too_large"


POST = b"POST /api/v1/tasks HTTP/1.1\r\n"
YAML = b"Content-Type: text/yaml\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        (POST + YAML + b"Content-Length: 9999999\r\n", 413, "manifest_too_large"),
        (POST + b"Content-Length: 3\r\n", 415, "unsupported_content_type"),
        (POST + YAML + b"Transfer-Encoding: chunked\r\n", 400, "invalid_parameter"),
        (b"GET //api//v1/tasks HTTP/1.1\r\n", 404, "not_found"),
        (b"GET /api/v1/tasks/%00 HTTP/1.1\r\n", 404, "not_found"),
        (b"GET /api/v1/tasks/%ff%fe HTTP/1.1\r\n", 404, "task_not_found"),
        (b"GET /api/v1/tasks/../../metrics HTTP/1.1\r\n", 404, "not_found"),
        (b"GET /api/v1/tasks?limit=%30%30%30x HTTP/1.1\r\n", 400, "invalid_parameter"),
        (b"GET /api/v1/tasks?%ff=1 HTTP/1.1\r\n", 400, "invalid_parameter"),
        (b"BREW /api/v1/tasks HTTP/1.1\r\n", 405, "method_not_allowed"),
        (b"GET /api/v1/tasks HTTP/1.1\r\nOrigin: http://evil.example.org\r\n", 403, "forbidden"),
    ],
)
def test_what_arrives_on_the_wire_is_refused_with_the_error_body(
    server: LiveServer, request_: bytes, status: int, error: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request_ + b"Host: 127.0.0.1\r\nConnection: close\r\n\r\nxyz")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):  # the server need not read what it refuses
            while data := connection.recv(1 << 16):
                answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    told = json.loads(body)
    assert told["error"] == error
    assert told["request_id"].encode() in head


def test_the_second_port_serves_the_same_application(server: LiveServer) -> None:
    assert httpx.get(f"http://127.0.0.1:{server.options[1]}/api/v1/health/live").status_code == 200


def test_the_server_leaves_nothing_in_the_home_directory(server: LiveServer, api: httpx.Client) -> None:
    assert api.get("/health").status_code == 200
    assert list(server.home.iterdir()) == []


def test_the_headers_of_a_follower_come_before_the_first_record(
    server: LiveServer, api: httpx.Client, worker: BuildHost
) -> None:
    claim = start(api, worker)
    for form in ("sse", "text", "ndjson"):
        url = f"{server.url}/api/v1/tasks/{claim.task_id}/logs?follow=true&stream=stderr&format={form}"
        with httpx.stream("GET", url, timeout=5) as response:
            assert response.status_code == 200


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that the test may end."""
    server = LiveServer(tmp_path / "data")
    server.start()
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def own_worker(own_server: LiveServer) -> Iterator[BuildHost]:
    product = open_product(own_server.data_dir)
    host = BuildHost(product)
    host.register()
    yield host
    product.database.close()


def follow_through_cuts(server: LiveServer, task_id: str, events: list[sse.Event]) -> None:
    """Read to the end as a browser does: connect again with the last cursor whenever the connection breaks."""
    while not events or events[-1].name != "end":
        headers = {"Last-Event-ID": str(events[-1].cursor)} if events else {}
        url = f"{server.url}/api/v1/tasks/{task_id}/logs?follow=true"
        reader = sse.Reader()
        with suppress(httpx.TransportError), httpx.stream("GET", url, headers=headers, timeout=20) as response:
            for data in response.iter_raw():
                events += reader.feed(data)


@pytest.mark.parametrize("whom", ["the server", "its worker process"])
def test_a_reader_loses_nothing_when_the_server_is_killed_and_comes_back(
    own_server: LiveServer, own_worker: BuildHost, whom: str
) -> None:
    with httpx.Client(base_url=f"{own_server.url}/api/v1", timeout=60) as api:
        claim = start(api, own_worker)
    events: list[sse.Event] = []
    reading = Background(follow_through_cuts, own_server, claim.task_id, events)
    said = 0
    for _ in range(2):
        wanted = said + 20
        while len([event for event in list(events) if event.name == "stdout"]) < wanted:
            own_worker.say(claim, f"{said}\n")
            said += 1
        before = own_server.workers()
        if whom == "the server":
            own_server.stop(signal.SIGKILL)
        else:
            os.kill(before[0], signal.SIGKILL)
        for _ in range(20):
            own_worker.say(claim, f"{said}\n")
            said += 1
        if whom == "the server":
            own_server.start()
        eventually("the killed processes are gone", lambda before=before: not any(map(is_alive, before)))
        eventually("it answers again", own_server.answers)
    own_worker.exit(claim)
    reading.result()
    assert [event.body["data"] for event in events if event.name == "stdout"] == [f"{n}\n" for n in range(said)]
    assert [event.cursor for event in events[:-1]] == list(range(1, len(events)))


def test_term_ends_the_server_though_readers_follow_and_deletes_wait(
    own_server: LiveServer, own_worker: BuildHost
) -> None:
    with httpx.Client(base_url=f"{own_server.url}/api/v1", timeout=60) as api:
        claim, doomed = start(api, own_worker), start(api, own_worker)
        with (
            closing(Exchange(own_server, f"GET /api/v1/tasks/{claim.task_id}/logs?follow=true")) as follower,
            closing(Exchange(own_server, f"DELETE /api/v1/tasks/{doomed.task_id}?wait=300")) as waiting,
        ):
            eventually("it waits", lambda: api.get(f"/tasks/{doomed.task_id}").json()["cancel"])
            processes = own_server.workers()
            assert own_server.stop() == 0
            assert not any(map(is_alive, processes))
            with suppress(ConnectionResetError):
                read_to_the_end([follower, waiting])
    assert b"event: end" not in follower.body
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{own_server.url}/api/v1/health/live")
    assert "Traceback" not in own_server.log
