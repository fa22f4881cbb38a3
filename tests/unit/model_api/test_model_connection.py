"""The relay between a sandbox and a model API, on real sockets of this process. Loopback only."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.e2e.stack import eventually
from tests.unit.model_api.api import (
    KEY,
    MESSAGE,
    MODEL,
    SECONDS,
    STREAM,
    Request,
    access_to,
    message_of,
    post,
    running_api,
    sandbox,
    sandbox_of,
    start,
    stop,
    streamed,
    text,
)
from workers.model_api import connection as connections
from workers.model_api import incoming, relay
from workers.model_api.access import Access, ModelKeyUnavailable
from workers.model_api.meter import Meter
from workers.model_api.prices import BUILT_IN


def test_a_stream_passes_byte_for_byte_as_it_comes_and_is_counted() -> None:
    first_has_come = threading.Event()

    def answer(request: Request) -> None:
        request.begin_stream(("request-id", "req_1"), ("Set-Cookie", "a=b"), ("Connection", "x-odd"), ("X-Odd", "1"))
        request.chunk(STREAM[:40])
        assert first_has_come.wait(SECONDS)
        request.chunk(STREAM[40:])
        request.chunk(b"")

    with running_api(answer) as api, sandbox_of(api) as one:
        one.send(post(b'{"stream": true}'))
        received = b""
        while STREAM[:40] not in received:
            received += one.socket.recv(65536)
        first_has_come.set()
        while not received.endswith(b"0\r\n\r\n"):
            received += one.socket.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"28\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (STREAM[:40], len(STREAM) - 40, STREAM[40:])
        lines = head.lower().split(b"\r\n")
        assert {b"content-type: text/event-stream", b"request-id: req_1", b"transfer-encoding: chunked"} < set(lines)
        assert not any(line.startswith((b"set-cookie", b"x-odd")) for line in lines)
        assert api.seen[0][0] == "POST /v1/messages?beta=true"
        assert api.seen[0][2] == b'{"stream": true}'
    assert one.meter.snapshot() == {
        "requests": 1, "failed": 0, "input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 0,
        "cache_write_tokens": 0, "cost_usd": 0.0006, "budget_exhausted": False,
        "models": {
            MODEL: {
                "requests": 1, "input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 0,
                "cache_write_tokens": 0, "cost_usd": 0.0006,
            }
        },
    }  # fmt: skip


def test_only_headers_of_the_api_are_passed_on_and_the_operators_are_added() -> None:
    sent = (
        "Content-Type: application/json", "Accept: application/json", "User-Agent: claude-cli/2",
        "anthropic-version: 2023-06-01", "anthropic-beta: a", "anthropic-beta: b", "X-Stainless-Lang: js",
        "x-app: cli", "X-Claude-Code-Session-Id: 1", "Accept-Encoding: gzip, br",
        "x-api-key: placeholder", "Authorization: Bearer placeholder", "Cookie: a=b", "Proxy-Authorization: x",
        "X-Forwarded-For: 127.0.0.1", "Connection: keep-alive, anthropic-version", "Forwarded: for=1", "X-Team: theirs",
    )  # fmt: skip
    with (
        running_api() as api,
        sandbox(access_to(api.url, x_api_key=KEY, x_team="ours", anthropic_version="2099-01-01")) as one,
    ):
        one.send(post(b"{}", "/v1/messages", *sent))
        assert one.answer()[0] == 200
        [(_, headers, _)] = api.seen
    assert sorted((name.lower(), value) for name, value in headers) == sorted(
        [
            ("host", f"127.0.0.1:{api.port}"), ("connection", "keep-alive"), ("content-length", "2"),
            ("accept", "application/json"), ("accept-encoding", "identity"), ("content-type", "application/json"),
            ("user-agent", "claude-cli/2"), ("anthropic-version", "2099-01-01"), ("anthropic-beta", "a"),
            ("anthropic-beta", "b"), ("x-stainless-lang", "js"), ("x-app", "cli"), ("x-claude-code-session-id", "1"),
            ("x-api-key", KEY), ("x-team", "ours"),
        ]
    )  # fmt: skip


def test_a_path_of_the_operators_url_stands_before_every_request() -> None:
    with running_api() as api, sandbox(access_to(f"{api.url}/teams/a%20b")) as one:
        assert one.ask(path="/v1/messages/count_tokens")[0] == 200
        assert api.seen[0][0] == "POST /teams/a%20b/v1/messages/count_tokens"
    assert one.meter.snapshot()["requests"] == 0, "counting tokens is free"


def test_an_echoed_key_is_masked_in_the_headers_and_the_body_of_an_error() -> None:
    def answer(request: Request) -> None:
        echoed = {"type": "error", "error": {"type": "authentication_error", "message": f"bad key {KEY}, Bearer {KEY}"}}
        request.reply(401, json.dumps(echoed).encode(), ("Content-Type", "application/json"), ("X-Echo", f"k={KEY}"))

    with running_api(answer) as api, sandbox_of(api) as one:
        status, headers, body = one.ask()
    assert (status, headers["x-echo"]) == (403, "k=***")
    assert message_of(body, "authentication_error") == "bad key ***, Bearer ***"
    assert (one.meter.snapshot()["requests"], one.meter.snapshot()["failed"]) == (1, 1)
    assert one.meter.snapshot()["models"] == {}


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (429, "rate_limit_error"), (529, "overloaded_error")]
)
def test_errors_of_the_api_pass_back_as_they_are_so_that_a_client_tries_again_as_it_should(
    status: int, kind: str
) -> None:
    said = json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()
    with running_api(lambda request: request.reply(status, said, ("Retry-After", "3"))) as api, sandbox_of(api) as one:
        got, headers, body = one.ask()
    assert (got, headers["retry-after"], body) == (status, "3", said)


def test_an_error_that_is_too_long_is_not_held_and_its_status_is_told() -> None:
    def answer(request: Request) -> None:
        request.reply(500, b"x" * (connections.MAX_ERROR_BYTES + 1))

    with running_api(answer) as api, sandbox_of(api) as one:
        status, _, body = one.ask()
    assert status == 502
    assert "answered with status 500 and more than 1,048,576 bytes" in message_of(body, "api_error")


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET /v1/files HTTP/1.1", 404), ("GET / HTTP/1.1", 404), ("DELETE /v1/models/a HTTP/1.1", 404),
        ("POST /v1/messages/../files HTTP/1.1", 404), ("POST /v1/messages/batches HTTP/1.1", 404),
        ("POST /v1/messages%2f..%2ffiles HTTP/1.1", 404), ("POST /v1/%6dessages HTTP/1.1", 404),
        ("POST //v1/messages HTTP/1.1", 404), ("POST /v1/messages/ HTTP/1.1", 404),
        ("POST /v1/messages;a=b HTTP/1.1", 404), ("POST /v1/messages?a=b%20c HTTP/1.1", 404),
        ("POST /v1/messages?url=http://evil.test HTTP/1.1", 404), ("POST /v1/messages#x HTTP/1.1", 404),
        ("GET /v1/models/../files HTTP/1.1", 404), ("GET /v1/models/a/b HTTP/1.1", 404),
        ("GET /v1/messages HTTP/1.1", 404), ("HEAD /v1/messages HTTP/1.1", 404), ("PURGE / HTTP/1.1", 404),
        ("POST http://evil.test/v1/messages HTTP/1.1", 400), ("CONNECT evil.test:443 HTTP/1.1", 400),
        ("GET http://127.0.0.1/v1/models HTTP/1.1", 400), ("OPTIONS * HTTP/1.1", 400),
        ("POST /v1/messages HTTP/1.0", 400), ("POST /v1/messages HTTP/2.0", 400), ("POST /v1/messages", 400),
        ("post /v1/messages HTTP/1.1", 400), ("POST  /v1/messages HTTP/1.1", 400), ("\x16\x03\x01", 400),
        ("POST /v1/messages HTTP/1.1\r\n folded", 400), ("POST /v1/messages HTTP/1.1\nx: y", 400),
    ],
)  # fmt: skip
def test_whatever_else_is_asked_for_does_not_reach_the_api(first: str, status: int) -> None:
    with running_api() as api, sandbox_of(api) as one:
        one.send(f"{first}\r\nContent-Length: {2 if first.startswith('POST') else 0}\r\n\r\n".encode())
        if first.startswith("POST"):
            one.send(b"{}")
        got, _, body = one.answer()
        assert got == status
        message = message_of(body, "not_found_error" if status == 404 else "invalid_request_error")
        assert "POST /v1/messages" in message or "no header" in message
        assert api.seen == []
    assert one.meter.snapshot()["requests"] == 0


HIDDEN = b"POST /v1/files HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (["Content-Length: 2", "Content-Length: 2"], 400),
        (["Content-Length: 2", "Content-Length: 40"], 400),
        (["Content-Length: 2, 2"], 400),
        (["Content-Length: +2"], 400),
        (["Content-Length: -2"], 400),
        (["Content-Length: 0x2"], 400),
        (["Content-Length: 2 "], 200),
        (["Content-Length:"], 400),
        (["Content-Length : 2"], 400),
        (["Content-Length: 2", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 2"], 400),
        (["Content-Length: 2", "Transfer-Encoding: identity"], 400),
        (["Transfer-Encoding: chunked"], 411),
        (["Transfer-Encoding: xchunked"], 411),
        ([], 411),
        (["Content-Length: 67108865"], 413),
        (["Content-Length: 999999999999999999"], 413),
        (["Content-Length: 2", "Expect: 200-ok"], 400),
        (["Content-Length: 2", "X: a\x00b"], 400),
        (["Content-Length: 2", "X: a\rb"], 400),
    ],
)
def test_a_body_whose_end_is_not_plain_is_refused_and_nothing_behind_it_is_read(
    framing: list[str], status: int
) -> None:
    with running_api() as api, sandbox_of(api) as one:
        head = "\r\n".join(["POST /v1/messages HTTP/1.1", "Host: x", *framing, "", ""]).encode()
        one.send(head + b"{}" + (b"" if status == 200 else HIDDEN + post()))
        got, headers, _ = one.answer()
        assert got == status
        if status != 200:
            assert headers["connection"] == "close"
            assert one.hang_up() == b""
            assert one.is_over()
            assert api.seen == []


def test_a_body_behind_a_get_is_refused() -> None:
    with running_api() as api, sandbox_of(api) as one:
        one.send(b"GET /v1/models HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert one.answer()[0] == 400
        assert one.hang_up() == b""
        assert one.is_over()
        assert api.seen == []


@pytest.mark.parametrize("header", [b"A: " + b"b" * (80 << 10), b"A: b\r\n" * 20_000])
def test_a_head_that_is_too_large_is_refused_and_not_held(header: bytes) -> None:
    with running_api() as api, sandbox_of(api) as one:
        one.send(b"POST /v1/messages HTTP/1.1\r\n" + header)
        status, headers, _ = one.answer()
        assert (status, headers["connection"]) == (431, "close")
        assert one.hang_up() == b""
        assert one.is_over()
        assert api.seen == []


def test_who_was_refused_and_goes_on_to_send_is_not_listened_to_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    with running_api() as api, sandbox_of(api) as one:
        one.send(b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n")
        assert one.answer()[0] == 400
        assert one.is_over()
        assert one.rest() == b""
        assert one.ended == []


def test_one_connection_serves_requests_of_every_kind_one_after_another() -> None:
    with running_api() as api, sandbox_of(api) as one:
        assert one.ask(b"x" * 100_000)[2] == STREAM
        one.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.socket.recv(65536) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
        assert one.ask(b"not for you" * 9000, "/v1/files")[0] == 404
        assert one.ask(b"", "/v1/messages")[0] == 200
        one.send(b"GET /v1/models?limit=10 HTTP/1.1\r\n\r\nGET /v1/models/claude-a.b:1@2 HTTP/1.1\r\n\r\n" + post(b"1"))
        assert [one.answer()[0] for _ in range(3)] == [200, 200, 200]
        one.send(post(b"{}", "/v1/messages", "Connection: Close"))
        status, headers, _ = one.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert one.rest() == b""
        assert one.is_over()
        assert [line for line, _, _ in api.seen] == [
            "POST /v1/messages?beta=true", "POST /v1/messages", "GET /v1/models?limit=10",
            "GET /v1/models/claude-a.b:1@2", "POST /v1/messages?beta=true", "POST /v1/messages",
        ]  # fmt: skip
    assert one.ended == []
    assert one.meter.snapshot()["requests"] == 4


def test_requests_that_follow_each_other_use_one_connection_to_the_api() -> None:
    ports = set()

    def answer(request: Request) -> None:
        ports.add(request.client_address[1])
        request.reply(200, MESSAGE, ("Set-Cookie", "sticky=1"))

    with running_api(answer) as api, sandbox_of(api) as one:
        assert [one.ask()[0] for _ in range(3)] == [200, 200, 200]
        assert len(ports) == 1
        assert "cookie" not in api.headers()


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    with running_api() as api, sandbox_of(api) as one:
        one.send(post(b"", "/v1/messages", "Expect: 100-continue").replace(b"Length: 0", b"Length: 5"))
        assert one.socket.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.send(b"12345")
        assert one.answer()[0] == 200
        assert api.seen[0][2] == b"12345"


@pytest.mark.parametrize("sent", [b"POST /v1/mess", b"POST /v1/messages HTTP/1.1\r\nA: b\r\n"])
def test_who_does_not_finish_a_head_is_cut(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "HEAD_SECONDS", 0.1)
    with running_api() as api, sandbox_of(api) as one:
        one.send(sent)
        assert one.rest() == b""
        assert one.is_over()
        assert [type(error) for error in one.ended] == [incoming.ClientGone]


def test_who_says_nothing_between_two_requests_is_cut_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_api() as api, sandbox_of(api) as one:
        monkeypatch.setattr(incoming, "IDLE_SECONDS", 0.1)
        assert one.ask()[0] == 200
        assert one.rest() == b""
        assert one.is_over()
        assert one.ended == []


def test_who_does_not_finish_a_body_is_cut_and_the_api_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "BODY_SECONDS", 0.2)
    taken: list[int] = []

    def answer(request: Request) -> None:
        taken.append(len(request.rfile.read(1000)))
        request.close_connection = True

    with running_api(answer, reads_body=False) as api, sandbox_of(api) as one:
        one.send(post(b"x" * 1000)[:-300])
        assert one.rest() == b""
        assert one.is_over()
        eventually("the API's end is closed", lambda: taken == [700], SECONDS)
    assert [type(error) for error in one.ended] == [incoming.ClientGone]
    assert one.meter.snapshot()["failed"] == 1


def test_an_api_that_answers_before_it_has_taken_the_body_is_heard() -> None:
    def answer(request: Request) -> None:
        request.reply(413, b"{}")
        request.close_connection = True

    with running_api(answer, reads_body=False) as api, sandbox_of(api) as one:
        sending = threading.Thread(target=one.send, args=(post(b"x" * (8 << 20)),))
        sending.start()
        status, _, _ = one.answer()
        sending.join(SECONDS)
        # The break of its connection may overtake the API's answer.
        assert status in (413, 502)
        assert one.ask(b"", "/v1/files")[0] == 404, "the connection of the sandbox is in step"


def test_an_api_that_is_away_is_a_502_that_names_it_and_whose_setting_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with sandbox(access_to(f"http://127.0.0.1:{port}")) as one:
        for _ in range(2):
            status, headers, body = one.ask(b"x" * 100_000)
            assert (status, headers["content-type"]) == (502, "application/json")
            message = message_of(body, "api_error")
            assert message.startswith("the model API at 127.0.0.1, which the worker's operator sets in SANDBOX_MODEL_")
            assert "cannot be reached: [Errno 111] Connection refused" in message
    assert (one.meter.snapshot()["requests"], one.meter.snapshot()["failed"]) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda request: request.break_off(), "broke off"),
        (lambda request: request.reply(307, b"", ("Location", "http://evil.test/")), "with status 307, which cannot"),
        (lambda request: request.reply(204, b""), "with status 204, which cannot"),
        (lambda request: request.reply(200, b"x", ("Content-Encoding", "br")), "in the encoding 'br', which cannot"),
        (lambda request: request.wfile.write(b"HTTP/1.1 junk\r\n\r\n"), "broke off"),
    ],
)
def test_an_answer_that_is_none_is_a_502_and_the_connection_goes_on(
    answer: Callable[[Request], None], words: str
) -> None:
    with running_api(answer) as api, sandbox_of(api) as one:
        status, _, body = one.ask()
        assert (status, words in message_of(body, "api_error")) == (502, True)
        api.answer = streamed
        assert one.ask()[0] == 200
    assert (one.meter.snapshot()["requests"], one.meter.snapshot()["failed"]) == (2, 1)


def test_a_compressed_answer_is_passed_back_plain_and_counted() -> None:
    def answer(request: Request) -> None:
        request.reply(200, gzip.compress(STREAM), ("Content-Encoding", "gzip"), ("Content-Type", "text/event-stream"))

    with running_api(answer) as api, sandbox_of(api) as one:
        status, headers, body = one.ask()
    assert (status, body, "content-encoding" in headers) == (200, STREAM, False)
    assert one.meter.snapshot()["output_tokens"] == 20


def breaks_in_a_chunked_stream(request: Request) -> None:
    request.begin_stream()
    request.chunk(start(input_tokens=50, output_tokens=1) + text("x" * 400))
    request.break_off()


def breaks_in_a_stream_without_a_length(request: Request) -> None:
    request.begin_endless()
    request.wfile.write(start(input_tokens=50, output_tokens=1) + text("x" * 400))
    request.close_connection = True


def breaks_before_a_declared_end(request: Request) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream")
    request.send_header("Content-Length", "100000")
    request.end_headers()
    request.wfile.write(start(input_tokens=50, output_tokens=1) + text("x" * 400))
    request.break_off()


@pytest.mark.parametrize(
    "answer", [breaks_in_a_chunked_stream, breaks_in_a_stream_without_a_length, breaks_before_a_declared_end]
)
def test_an_answer_that_breaks_off_looks_broken_off_and_what_was_seen_of_it_is_counted(
    answer: Callable[[Request], None],
) -> None:
    with running_api(answer) as api, sandbox_of(api) as one:
        with pytest.raises(IncompleteRead):
            one.ask()
        assert one.is_over()
    assert [type(error) for error in one.ended] == [connections.BrokeOff]
    found = one.meter.snapshot()
    assert (found["input_tokens"], found["output_tokens"], found["failed"]) == (50, 100, 1)


@pytest.mark.parametrize(("kind", "whole"), [("text/event-stream", STREAM), ("application/json", MESSAGE)])
def test_an_answer_that_ends_with_its_connection_is_whole_when_the_api_has_said_so(kind: str, whole: bytes) -> None:
    def answer(request: Request) -> None:
        request.begin_endless(kind)
        request.wfile.write(whole)

    with running_api(answer) as api, sandbox_of(api) as one:
        assert [one.ask()[2] for _ in range(2)] == [whole, whole]
    assert one.meter.snapshot()["failed"] == 0


def test_half_a_json_answer_without_a_length_looks_broken_off() -> None:
    def answer(request: Request) -> None:
        request.begin_endless("application/json")
        request.wfile.write(MESSAGE[:-1])
        request.close_connection = True

    with running_api(answer) as api, sandbox_of(api) as one, pytest.raises(IncompleteRead):
        one.ask()


def test_an_error_inside_a_stream_is_passed_on_and_counts_as_failed() -> None:
    said = start(input_tokens=5) + b'data: {"type": "error", "error": {"type": "overloaded_error"}}\n\n'

    def answer(request: Request) -> None:
        request.begin_stream()
        request.chunk(said)
        request.chunk(b"")

    with running_api(answer) as api, sandbox_of(api) as one:
        assert one.ask()[2] == said
    assert (one.meter.snapshot()["input_tokens"], one.meter.snapshot()["failed"]) == (5, 1)


def test_a_sandbox_that_goes_away_in_the_middle_pays_for_what_was_put_out_and_the_api_is_told() -> None:
    told = threading.Event()

    def answer(request: Request) -> None:
        request.begin_stream()
        request.chunk(start(input_tokens=50, output_tokens=1) + text("x" * 400))
        try:
            while not told.wait(0.01):
                request.chunk(b": ping\n\n")
        except OSError:
            told.set()

    with running_api(answer) as api, sandbox_of(api) as one:
        one.send(post())
        assert one.socket.recv(100).startswith(b"HTTP/1.1 200 OK")
        one.socket.close()
        assert told.wait(SECONDS)
        assert one.is_over()
    found = one.meter.snapshot()
    assert (found["input_tokens"], found["output_tokens"], found["failed"]) == (50, 100, 1)


def test_an_answer_in_one_piece_is_counted_when_the_sandbox_does_not_wait_for_its_end() -> None:
    gone = threading.Event()

    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str((1 << 20) + len(MESSAGE)))
        request.end_headers()
        request.wfile.write(b" " * 1000)
        assert gone.wait(SECONDS)
        request.wfile.write(b" " * ((1 << 20) - 1000) + MESSAGE)

    with running_api(answer) as api, sandbox_of(api) as one:
        one.send(post())
        assert one.socket.recv(1000)
        one.socket.close()
        gone.set()
        assert one.is_over()
    assert one.meter.snapshot()["input_tokens"] == 7


def test_a_used_up_budget_is_a_400_that_names_it_and_reaches_no_api() -> None:
    def answer(request: Request) -> None:
        request.begin_stream()
        request.chunk(start(input_tokens=1_000_000) + stop(output_tokens=0))
        request.chunk(b"")

    meter = Meter(5.0, BUILT_IN)
    with running_api(answer) as api, sandbox_of(api, meter) as one:
        assert [one.ask()[0] for _ in range(2)] == [200, 200]  # 3 USD each
        assert meter.budget_exhausted
        status, headers, body = one.ask(b"x" * 100_000)
        assert (status, headers["connection"]) == (400, "keep-alive")
        message = message_of(body, "invalid_request_error")
        assert message.startswith("budget used up: this task has spent 6.0000 of 5 USD (claude.max_budget_usd)")
        assert one.ask(path="/v1/messages/count_tokens")[0] == 200, "counting is free"
        assert len(api.seen) == 3
    assert (meter.snapshot()["requests"], meter.snapshot()["budget_exhausted"]) == (2, True)


def test_a_key_is_read_for_each_request_and_one_that_is_gone_is_told_with_what_to_do() -> None:
    keys: list[str | None] = ["first-key", None, "second-key"]

    with running_api() as api:

        def access() -> Access:
            key = keys.pop(0)
            if key is None:
                raise ModelKeyUnavailable("the key file is empty", "the operator puts a key there")
            return access_to(api.url, authorization=f"Bearer {key}")

        with sandbox(access) as one:
            answers = [one.ask() for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 403, 200]
        assert message_of(answers[1][2], "authentication_error") == (
            "the key file is empty; the operator puts a key there"
        )
        assert [api.headers(number)["authorization"] for number in (0, 1)] == ["Bearer first-key", "Bearer second-key"]
    assert one.meter.snapshot()["requests"] == 2


@pytest.mark.parametrize("begins", [False, True])
def test_cutting_wakes_a_thread_that_waits_for_the_api_and_the_api_sees_it(begins: bool) -> None:
    waits, seen = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        if begins:
            request.begin_stream()
            request.chunk(start(input_tokens=9))
        waits.set()
        if request.rfile.read(1) == b"":
            seen.set()
        request.close_connection = True

    with running_api(answer) as api, sandbox_of(api) as one:
        one.send(post())
        assert waits.wait(SECONDS)
        if begins:
            eventually("its beginning is counted", lambda: one.meter.snapshot()["input_tokens"] == 9, SECONDS)
        one.connection.cut()
        one.connection.cut()
        assert one.is_over()
        assert seen.wait(SECONDS)
    assert one.meter.snapshot()["failed"] == 1


def test_cutting_wakes_a_thread_that_waits_for_the_sandbox() -> None:
    with running_api() as api, sandbox_of(api) as one:
        assert one.ask()[0] == 200
        one.connection.cut()
        assert one.is_over()
        assert one.rest() == b""


def test_a_sandbox_that_takes_no_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.2)
    seen = threading.Event()

    def answer(request: Request) -> None:
        request.begin_stream()
        try:
            while not seen.is_set():
                request.chunk(b": nobody reads this\n\n" * 5000)
        except OSError:
            seen.set()

    with running_api(answer) as api, sandbox_of(api) as one:
        one.send(post())
        assert one.is_over()
        assert seen.wait(SECONDS)
    assert [type(error) for error in one.ended] == [TimeoutError]


def proxied(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", url)


def test_a_proxy_of_the_environment_is_used_for_an_api_that_is_not_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_api() as proxy:
        proxied(monkeypatch, proxy.url)
        with sandbox(access_to("http://api.example.test")) as one:
            assert one.ask()[0] == 200
        assert proxy.seen[0][0] == "POST http://api.example.test/v1/messages?beta=true"
        with running_api() as api, sandbox_of(api) as one:
            assert one.ask()[0] == 200
        assert len(proxy.seen) == 1


def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied(monkeypatch, "gopher://127.0.0.1:1")
    with sandbox(access_to("http://api.example.test")) as one:
        status, _, body = one.ask()
    assert (status, "cannot be reached" in message_of(body, "api_error")) == (502, True)


def test_the_relay_serves_many_at_once_and_closing_it_cuts_all(tmp_path: Path) -> None:
    held = threading.Semaphore(0)
    before = threading.active_count()

    def answer(request: Request) -> None:
        request.begin_stream()
        request.chunk(start(input_tokens=1))
        held.release()
        request.rfile.read(1)

    meter = Meter(None, BUILT_IN)
    with running_api(answer) as api:
        listening = socket.create_server(("127.0.0.1", 0))
        access = access_to(api.url)
        listener = relay(listening, lambda: access, meter)
        clients = [socket.create_connection(listening.getsockname(), SECONDS) for _ in range(5)]
        for client in clients:
            client.sendall(post())
        assert all(held.acquire(timeout=SECONDS) for _ in clients)
        eventually("all are counted", lambda: meter.snapshot()["input_tokens"] == 5, SECONDS)
        listener.close()
        for client in clients:
            with closing(client):
                while client.recv(65536):
                    pass
        eventually("no thread of the relay is left", lambda: meter.snapshot()["failed"] == 5, SECONDS)
    eventually("the threads have ended", lambda: threading.active_count() <= before, SECONDS)
