"""The relay to the model API where it is used: on the loopback of a sandbox without a network, by each way in."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.integration.sandbox.conftest import ENTRY_KINDS, EntranceOf, RunInside, SpecOf
from tests.model_api.scenarios import Script, answer, marker, refuse
from tests.model_api.stub import ModelApi
from tests.unit.model_api.api import SECONDS, STREAM, Api, Request, access_to, running_api
from workers.egress import EgressReport, Policy, proxy
from workers.egress.namespace import PROXY_PORT
from workers.model_api import relay
from workers.model_api.access import Access
from workers.model_api.address import MODEL_PORT
from workers.model_api.meter import Meter
from workers.model_api.prices import BUILT_IN
from workers.network.entry import Entrance
from workers.sandbox.docker.engine import DockerBackend

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another network namespace"),
    pytest.mark.parametrize("entry_kind", ENTRY_KINDS),
]

KEY = "sk-ant-the-operators-own-key-0123456789"
MODEL = "claude-sonnet-4-5-20250929"
PORTS = (PROXY_PORT, MODEL_PORT)
PLAYS: Script = {
    "greet": [answer("Hello.")],
    "dear": [answer("Dear.", usage={"input_tokens": 200_000})],  # 0.60 USD at the list price
    "tell": [refuse(400, f"the key {KEY} is not welcome")],
}

ASK = r"""
import http.client, json, sys
answers = []
one = http.client.HTTPConnection("127.0.0.1", 3129, timeout=60)
for method, path, headers, body in json.loads(sys.argv[1]):
    one.request(method, path, None if body is None else json.dumps(body), headers)
    answer = one.getresponse()
    answers.append([answer.status, answer.read().decode()])
print(json.dumps(answers))
"""


@dataclass
class Doors:
    """Both doors of one sandbox, as a worker opens them."""

    entrance: Entrance
    access: Access
    meter: Meter = field(default_factory=lambda: Meter(None, BUILT_IN))

    @contextmanager
    def open(self) -> Iterator[None]:
        """The proxy lets nothing through."""
        report = EgressReport()
        try:
            to_hosts, to_model = self.entrance.open()
            listeners = [
                proxy(to_hosts, Policy.for_url("http://127.0.0.1:1/x", ()), report),
                relay(to_model, lambda: self.access, self.meter),
            ]
            try:
                yield
            finally:
                for one in listeners:
                    one.close()
        finally:
            self.entrance.close()


@pytest.fixture
def ask(run_inside: RunInside, entrance_of: EntranceOf) -> Callable[..., list[list[Any]]]:
    """Return a function that sends requests, by one connection, from inside a sandbox: status and body of each."""

    def run(url: str, *requests: tuple[str, str, dict[str, str], Any], meter: Meter | None = None) -> list[list[Any]]:
        @contextmanager
        def network(sandbox: str) -> Iterator[None]:
            doors = Doors(replace(entrance_of(sandbox), ports=PORTS), access_to(url, secrets=(KEY,), x_api_key=KEY))
            doors.meter = meter or doors.meter
            with doors.open():
                yield

        result = run_inside(["python3", "-c", ASK, json.dumps(requests)], network=network)
        assert result.exit_code == 0, result.stderr
        answers: list[list[Any]] = json.loads(result.stdout)
        return answers

    return run


def message(scenario: str, **headers: str) -> tuple[str, str, dict[str, str], Any]:
    said = [{"role": "user", "content": marker(scenario)}]
    return "POST", "/v1/messages", headers, {"model": MODEL, "max_tokens": 99, "messages": said}


def test_a_request_is_answered_with_the_operators_key_and_counted(ask: Callable[..., list[list[Any]]]) -> None:
    meter = Meter(None, BUILT_IN)
    with ModelApi(PLAYS, key=KEY) as api:
        placeholder = {"x-api-key": "placeholder", "authorization": "Bearer of the sandbox"}
        answers = ask(api.url, message("greet", **placeholder), message("greet"), meter=meter)
    assert [status for status, _ in answers] == [200, 200]
    assert json.loads(answers[0][1])["content"] == [{"type": "text", "text": "Hello."}]
    assert [one.headers["x-api-key"] for one in api.requests] == [KEY, KEY]
    assert not any("authorization" in one.headers for one in api.requests)
    counted = meter.snapshot()
    assert (counted["requests"], counted["input_tokens"], counted["output_tokens"]) == (2, 200, 40)


def test_other_paths_and_methods_are_refused_and_reach_nobody(ask: Callable[..., list[list[Any]]]) -> None:
    others = ("GET /", "GET /v1/messages", "POST /v1/files", "POST /v1/messages/batches", "GET /v1/models/../files")
    with ModelApi(PLAYS) as api:
        answers = ask(api.url, *((*one.split(), {}, {} if one.startswith("POST") else None) for one in others))
    assert [status for status, _ in answers] == [404] * len(others)
    assert {json.loads(body)["error"]["type"] for _, body in answers} == {"not_found_error"}
    assert (api.requests, api.strays) == ([], [])


def test_after_the_budget_nothing_is_let_through(ask: Callable[..., list[list[Any]]]) -> None:
    meter = Meter(0.5, BUILT_IN)
    with ModelApi(PLAYS) as api:
        (dear, _), (status, refused) = ask(api.url, message("dear"), message("greet"), meter=meter)
    assert (dear, status, len(api.requests)) == (200, 400, 1)
    assert "budget used up" in refused


def test_an_api_that_repeats_the_key_does_not_tell_it_to_the_sandbox(ask: Callable[..., list[list[Any]]]) -> None:
    with ModelApi(PLAYS) as api:
        [(status, body)] = ask(api.url, message("tell"))
    assert status == 400
    assert "the key *** is not welcome" in body
    assert KEY not in body


STREAMED = r"""
import socket
body = b'{"stream": true}'
head = "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
with socket.create_connection(("127.0.0.1", 3129), 60) as one, socket.create_connection(("127.0.0.1", 3129), 60) as two:
    one.sendall(head.encode() + body)
    received = b""
    while b"\r\n\r\n28\r\n" not in received:
        received += one.recv(65536)
    two.sendall(head.encode() + body)  # says that the first piece is here
    while not received.endswith(b"0\r\n\r\n"):
        received += one.recv(65536)
print(received.count(b"message_stop"))
"""


def test_a_stream_passes_as_it_comes(run_inside: RunInside, entrance_of: EntranceOf) -> None:
    first_is_there = threading.Event()

    def stream(request: Request) -> None:
        if len(api.seen) > 1:
            first_is_there.set()
        request.begin_stream()
        request.chunk(STREAM[:40])
        assert first_is_there.wait(SECONDS)
        request.chunk(STREAM[40:])
        request.chunk(b"")

    api: Api
    with running_api(stream) as api:

        @contextmanager
        def network(sandbox: str) -> Iterator[None]:
            with Doors(replace(entrance_of(sandbox), ports=PORTS), access_to(api.url)).open():
                yield

        result = run_inside(["python3", "-c", STREAMED], network=network)
    assert (result.exit_code, result.stderr) == (0, "")
    assert int(result.stdout) > 0


def test_both_doors_are_open_at_once_closed_for_good_and_opened_again(
    backend: DockerBackend, spec_of: SpecOf, entrance_of: EntranceOf
) -> None:
    made = backend.create(spec_of())
    try:
        stream = backend.attach(made)
        backend.start(made)
        process_id = backend.inspect(made).process_id
        assert process_id
        threads = threading.active_count()
        for _ in range(2):
            with Doors(replace(entrance_of(made), ports=PORTS), access_to("http://127.0.0.1:1")).open():
                assert answers_of(process_id) == {PROXY_PORT: 403, MODEL_PORT: 404}
            assert answers_of(process_id) == {}
        assert threading.active_count() == threads
        os.close(stream)
    finally:
        backend.destroy(made)


def answers_of(process_id: int) -> dict[int, int]:
    """What the doors that are open say to a request for a stranger, from the network namespace of a process."""
    found = {}
    for port in PORTS:
        asked = (
            f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3 && head -1 <&3"
        )
        command = ["nsenter", f"--net=/proc/{process_id}/ns/net", "bash", "-c", asked]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if said:
            found[port] = int(said.split()[1])
    return found
