"""The Python client against scripted answers and against a server that cuts connections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from api.client import Client, Event, LogRecord, NotFound, ServerRefused, ServerUnreachable, WaitTimedOut
from api.client_errors import refusal
from api.connection import Connection, InvalidServer
from api.following import Deadline, EventFollower, LogFollower
from tests.unit.fake_api import AT, FakeApi, change, changed, end, frame, line, task

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Script(httpx.BaseTransport):
    """Answers each request with the next thing of a list; a request too many is an error."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.slept: list[float] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def client(self, server: str = "http://server.test", token: str | None = None) -> Client:
        return Client(server, token, transport=self, sleep=self.slept.append)


def sse(*records: tuple[str, dict[str, object]], first: int = 1, tail: str = "") -> httpx.Response:
    text = "".join(
        f": keep-alive\n\nid: {seq}\nevent: {kind}\ndata: {json.dumps(body)}\n\n"
        for seq, (kind, body) in enumerate(records, first)
    )
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=(text + tail).encode())


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        yield running


def data_of(records: list[LogRecord]) -> str:
    return "".join(record.data for record in records)


def test_a_submission_carries_type_token_and_key() -> None:
    script = Script(httpx.Response(202, json={"task_id": "t", "state": "pending"}))
    answer = script.client(token=" secret\n").submit(b"x: 1", "application/yaml", idempotency_key="k")
    request = script.requests[0]
    assert answer["task_id"] == "t"
    assert str(request.url) == "http://server.test/api/v1/tasks"
    assert request.headers["content-type"] == "application/yaml"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["idempotency-key"] == "k"
    assert request.content == b"x: 1"


def test_a_server_below_a_path_is_addressed_below_it() -> None:
    script = Script(httpx.Response(200, json={"workers": []}))
    script.client("https://host.test/sandbox/").workers()
    assert str(script.requests[0].url) == "https://host.test/sandbox/api/v1/workers"


def test_a_submission_with_a_key_is_repeated_when_the_connection_breaks() -> None:
    script = Script(httpx.ReadError("reset"), httpx.Response(202, json={"task_id": "t"}))
    script.client().submit(b"x", idempotency_key="k")
    assert [one.headers["idempotency-key"] for one in script.requests] == ["k", "k"]
    assert script.slept == [0.5]


def test_a_submission_without_a_key_is_never_repeated() -> None:
    script = Script(httpx.ReadError("reset"))
    with pytest.raises(ServerUnreachable, match="reset"):
        script.client().submit(b"x")
    assert len(script.requests) == 1


def test_a_refused_connection_fails_at_once_and_names_the_server() -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(ServerUnreachable, match=r"http://server\.test: refused.*sandbox up") as caught:
        script.client().get("t")
    assert caught.value.url == "http://server.test"
    assert len(script.requests) == 1


def test_a_refusal_carries_everything_the_server_said() -> None:
    body = {
        "error": "invalid_manifest",
        "message": "vm.cpus is wrong.",
        "details": {"field": "vm.cpus"},
        "errors": [{"field": "vm.cpus", "line": 3, "column": 9, "message": "vm.cpus is wrong"}],
        "request_id": "r-7",
    }
    script = Script(httpx.Response(400, json=body))
    with pytest.raises(ServerRefused) as caught:
        script.client().submit(b"x")
    error = caught.value
    assert (error.status, error.error, error.message) == (400, "invalid_manifest", "vm.cpus is wrong.")
    assert (error.details, error.request_id, error.errors[0]["line"]) == ({"field": "vm.cpus"}, "r-7", 3)
    assert "r-7" in str(error)


def test_a_missing_task_is_its_own_error() -> None:
    script = Script(httpx.Response(404, json={"error": "task_not_found", "message": "no task t."}))
    with pytest.raises(NotFound, match="no task t"):
        script.client().get("t")


def test_a_rate_limit_says_when_to_try_again() -> None:
    script = Script(
        httpx.Response(429, json={"error": "rate_limit_exceeded", "message": "m."}, headers={"Retry-After": "7"})
    )
    with pytest.raises(ServerRefused, match="Try again in 7 s") as caught:
        script.client().workers()
    assert caught.value.retry_after_seconds == 7


def test_an_error_page_of_a_proxy_is_a_refusal_with_its_status() -> None:
    script = Script(httpx.Response(502, html="<h1>Bad gateway</h1>"))
    with pytest.raises(ServerRefused, match="502") as caught:
        script.client().workers()
    assert caught.value.error == "http_502"


def test_a_redirect_is_not_followed_and_is_named() -> None:
    script = Script(httpx.Response(301, headers={"Location": "https://elsewhere.test/"}))
    with pytest.raises(ServerRefused, match=r"elsewhere\.test.*--server"):
        script.client().workers()
    assert len(script.requests) == 1


def test_another_kind_of_server_is_recognised() -> None:
    script = Script(httpx.Response(200, html="<h1>It works</h1>"))
    with pytest.raises(ServerUnreachable, match="not this product's API"):
        script.client().workers()


@pytest.mark.parametrize("task_id", ["", "..", "a/b", "stream", "a?b", "x" * 129, "-a", "a\nb"])
def test_an_id_no_task_can_have_is_not_sent(task_id: str) -> None:
    script = Script()
    with pytest.raises(NotFound):
        script.client().get(task_id)
    with pytest.raises(NotFound):
        script.client().cancel(task_id)
    with pytest.raises(NotFound):
        script.client().logs(task_id)
    assert script.requests == []


@pytest.mark.parametrize("server", ["localhost:8122", "ftp://x", "", "http://", "http://user:pw@host"])
def test_an_unusable_address_is_refused_without_showing_a_password(server: str) -> None:
    with pytest.raises(InvalidServer) as caught:
        Client(server)
    assert "pw" not in str(caught.value)


def test_a_token_with_a_line_end_inside_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidServer) as caught:
        Client("http://server.test", "abc\ndef")
    assert "abc" not in str(caught.value)


def test_a_list_names_states_labels_and_page() -> None:
    script = Script(httpx.Response(200, json={"tasks": []}))
    script.client().list(
        states=["running", "pending"],
        labels={"team": "a b", "x/y": ""},
        limit=5,
        offset=10,
        sort="name",
        order="asc",
    )
    assert script.requests[0].url.params.multi_items() == [
        ("state", "running,pending"),
        ("label", "team=a b"),
        ("label", "x/y="),
        ("limit", "5"),
        ("offset", "10"),
        ("sort", "name"),
        ("order", "asc"),
    ]


def test_a_cancellation_outlasts_the_time_the_server_may_take() -> None:
    script = Script(httpx.Response(200, json={"success": True}))
    script.client().cancel("t", reason="why", force=True, wait=120, children=True)
    request = script.requests[0]
    expected = {"reason": "why", "force": "true", "children": "true", "wait": "120"}
    assert (request.method, dict(request.url.params)) == ("DELETE", expected)
    assert request.extensions["timeout"]["read"] > 120


def test_rerun_and_purge_use_their_addresses() -> None:
    script = Script(
        httpx.Response(202, json={"task_id": "u"}),
        httpx.Response(202, json={"task_id": "v"}),
        httpx.Response(204),
    )
    client = script.client()
    assert client.rerun("t")["task_id"] == "u"
    assert client.rerun("t", {"vm": {"cpus": 2}}, idempotency_key="k")["task_id"] == "v"
    client.purge("t")
    assert [(one.method, one.url.path) for one in script.requests] == [
        ("POST", "/api/v1/tasks/t/rerun"),
        ("POST", "/api/v1/tasks/t/rerun"),
        ("DELETE", "/api/v1/tasks/t/data"),
    ]
    assert script.requests[0].content == b""
    assert "idempotency-key" not in script.requests[0].headers
    assert script.requests[1].headers["content-type"] == "application/merge-patch+json"
    assert script.requests[1].headers["idempotency-key"] == "k"
    assert json.loads(script.requests[1].content) == {"vm": {"cpus": 2}}


def test_a_log_that_ends_too_early_goes_on_behind_the_last_cursor() -> None:
    script = Script(
        sse(line("one\n"), line("two\n"), tail="id: 3\nevent: stdout\ndata: {"),
        sse(line("three\n"), end("completed", 0), first=3),
    )
    records = list(script.client().logs("t", follow=True, tail=2, after="0", since="2026-01-29T00:00:00Z"))
    assert data_of(records) == "one\ntwo\nthree\n"
    assert [record.cursor for record in records] == ["1", "2", "3", "4"]
    first, second = script.requests
    assert dict(first.url.params) == {
        "format": "sse",
        "stream": "all",
        "follow": "true",
        "since": "2026-01-29T00:00:00Z",
        "tail": "2",
        "after": "0",
    }
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "2"
    assert {"tail", "after"}.isdisjoint(second.url.params)


def test_a_log_cut_in_the_middle_of_records_loses_nothing_and_repeats_nothing(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "completed")
    printed = [f"line {number} ä€\n" for number in range(20)]
    api.records["t"] = [*(line(text) for text in printed), end("completed", 0)]
    api.cut_logs_after = [0, 1, 7, 0, 5]
    with Client(api.url, sleep=lambda _: None) as client:
        records = list(client.logs("t", follow=True))
    assert data_of(records) == "".join(printed)
    assert records[-1].kind == "end"
    assert [one.headers.get("last-event-id") for one in api.seen] == [None, None, "1", "8", "8", "13"]


def test_a_passing_refusal_is_waited_for_and_a_final_one_is_raised() -> None:
    busy = httpx.Response(503, json={"error": "service_unavailable", "message": "m."}, headers={"Retry-After": "3"})
    gone = httpx.Response(404, json={"error": "task_not_found", "message": "gone."})
    script = Script(sse(line("one\n")), busy, gone)
    records: list[LogRecord] = []
    with pytest.raises(NotFound, match="gone"):
        records.extend(record for record in script.client().logs("t", follow=True))
    assert len(script.requests) == 3
    assert script.slept[1] == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "this server does not answer as 'x'; name it in SANDBOX_ALLOWED_HOSTS"),
        (401, "send a token. The operator makes them with `sandbox token create`"),
    ],
)
def test_the_servers_own_advice_is_told_once_and_no_other(status: int, message: str) -> None:
    answer = httpx.Response(status, json={"error": "e", "message": message, "request_id": "r1"})
    assert str(refusal(answer)) == f"{message} ({status} e, request r1)"


@pytest.mark.parametrize("status", [401, 403])
def test_who_stands_between_us_and_the_server_is_named_when_it_refuses(status: int) -> None:
    answer = httpx.Response(status, text="<html>", request=httpx.Request("GET", "http://x/"))
    assert str(refusal(answer)).endswith("ask the operator of it.")


def test_the_first_connection_of_a_log_must_succeed() -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(ServerUnreachable):
        list(script.client().logs("t", follow=True))
    assert script.slept == []


def test_pauses_between_connections_grow_and_a_record_resets_them() -> None:
    script = Script(
        sse(line("one\n")),
        *[httpx.ConnectError("refused")] * 8,
        sse(line("two\n"), first=2),
        sse(end("completed", 0), first=3),
    )
    assert data_of(list(script.client().logs("t", follow=True))) == "one\ntwo\n"
    assert max(script.slept) <= 10
    assert script.slept[7] >= 5
    assert script.slept[-1] <= 0.5


def test_a_server_that_stays_away_is_given_up_at_last() -> None:
    seconds = iter(range(0, 1000, 100))
    script = Script(sse(line("one\n")), *[httpx.ConnectError("refused")] * 5)
    connection = Connection("http://server.test", transport=script, sleep=script.slept.append)
    deadline = Deadline("t", None, clock=lambda: next(seconds))
    records: list[LogRecord] = []
    with pytest.raises(ServerUnreachable, match="refused"):
        records.extend(record for record in LogFollower(connection, "/logs", {}, deadline, patience_seconds=250))
    assert len(script.requests) == 4


def test_a_log_that_is_no_event_stream_is_recognised() -> None:
    script = Script(httpx.Response(200, html="<p>hello"))
    with pytest.raises(ServerUnreachable, match="not this product's log"):
        list(script.client().logs("t"))


def test_waiting_ends_at_the_callers_limit_while_the_stream_is_silent(api: FakeApi) -> None:
    api.tasks["t"] = task("t")
    api.records["t"] = [change("pending", "staging")]
    seen: list[LogRecord] = []
    with Client(api.url) as client, pytest.raises(WaitTimedOut, match=r"task t .* 0\.2 s"):
        client.wait_for_end("t", timeout_seconds=0.2, on_record=seen.append)
    assert [record.body["new_state"] for record in seen] == ["staging"]


def test_waiting_returns_the_ended_task_and_reports_each_record_once(api: FakeApi) -> None:
    api.tasks["t"] = task("t", "failed", exit_code=3)
    api.records["t"] = [
        change("pending", "running"),
        line("hidden\n"),
        change("running", "failed"),
        end("failed", 3),
    ]
    api.cut_logs_after = [1]
    seen: list[LogRecord] = []
    with Client(api.url, sleep=lambda _: None) as client:
        found = client.wait_for_end("t", on_record=seen.append)
    assert found["exit_code"] == 3
    assert [record.body["new_state"] for record in seen] == ["running", "failed"]


def test_waiting_looks_again_when_the_log_ends_before_the_task() -> None:
    script = Script(
        sse(end("completing", None)),
        httpx.Response(200, json=task("t", "completing")),
        sse(end("completed", 0), first=2),
        httpx.Response(200, json=task("t", "completed")),
    )
    assert script.client().wait_for_end("t")["state"] == "completed"
    assert script.requests[2].url.params["after"] == "1"


# --- the event stream

GONE = httpx.Response(403, json={"error": "forbidden", "message": "enough.", "request_id": "r"})
"""Ends a stream that has no end."""


def stream(*frames: tuple[str | None, dict[str, object]], tail: str = "") -> httpx.Response:
    """The frames with their cursors, as one connection brings them."""
    text = "".join(
        (f"id: {cursor}\n" if cursor else "") + f"event: {body['type']}\ndata: {json.dumps({'id': cursor, **body})}\n\n"
        for cursor, body in frames
    )
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=(text + tail).encode())


def until_refused(events: Iterator[Event]) -> list[Event]:
    found: list[Event] = []
    with pytest.raises(ServerRefused, match="enough"):
        found.extend(one for one in events)
    return found


HEARTBEAT = frame("heartbeat", None)


def test_the_event_stream_is_asked_for_what_the_caller_names() -> None:
    script = Script(GONE, GONE)
    client = script.client()
    until_refused(client.events())
    until_refused(
        client.events(
            "t",
            filters=["output", "error"],
            labels={"team": "a b", "x/y": ""},
            states=["running", "failed"],
            parent_id="p",
            exclude_preexisting=True,
            heartbeat_interval_ms=2000,
            rate_limit_ms=50,
            after="0-7",
        )
    )
    first, second = script.requests
    assert first.url.path == "/api/v1/tasks/stream"
    assert dict(first.url.params) == {"exclude_preexisting": "false", "heartbeat_interval_ms": "30000"}
    assert first.headers["accept"] == "text/event-stream"
    assert dict(second.url.params) == {
        "exclude_preexisting": "true",
        "heartbeat_interval_ms": "2000",
        "task_id": "t",
        "filter": "output,error",
        "state": "running,failed",
        "parent_id": "p",
        "rate_limit_ms": "50",
        "after": "0-7",
        "label.team": "a b",
        "label.x/y": "",
    }


def test_a_frame_is_an_event_with_what_the_frame_says() -> None:
    body = frame("error", "t", error="timeout", message="too long")
    script = Script(stream((None, changed("t", None, "running", preexisting=True)), ("0-4", body)), GONE)
    snapshot, event = until_refused(script.client().events())
    assert (snapshot.cursor, snapshot.is_preexisting) == (None, True)
    assert (event.cursor, event.kind, event.task_id, event.is_preexisting) == ("0-4", "error", "t", False)
    assert event.body == {"id": "0-4", "attempt": 1, "timestamp": AT, **body}


def test_heartbeats_stay_inside_unless_they_are_asked_for() -> None:
    answers = (("0-1", HEARTBEAT), ("0-2", frame("progress", "t", progress={})), ("0-3", HEARTBEAT))
    script = Script(stream(*answers), GONE, stream(*answers), GONE)
    assert [one.kind for one in until_refused(script.client().events())] == ["progress"]
    found = until_refused(script.client().events(heartbeats=True))
    assert [(one.kind, one.task_id) for one in found] == [("heartbeat", None), ("progress", "t"), ("heartbeat", None)]
    assert script.requests[3].headers["last-event-id"] == "0-3"


def test_an_event_stream_that_is_cut_goes_on_behind_the_last_frame() -> None:
    script = Script(
        stream(("0-1", changed("t", "pending", "staging")), tail='id: 0-2\nevent: output\ndata: {"type": "out'),
        httpx.ReadError("reset"),
        stream(("0-2", frame("output", "t", data="x")), ("0-2", HEARTBEAT)),
        GONE,
    )
    found = until_refused(script.client().events(after="0-0"))
    assert [one.cursor for one in found] == ["0-1", "0-2"]
    assert [one.headers.get("last-event-id") for one in script.requests] == [None, "0-1", "0-1", "0-2"]
    assert [one.url.params.get("after") for one in script.requests] == ["0-0", None, None, None]


def test_a_snapshot_that_is_cut_counts_for_nothing() -> None:
    a, b, c = (changed(one, None, "running", preexisting=True) for one in "abc")
    script = Script(stream((None, a), (None, b)), stream((None, b), (None, c), ("0-5", HEARTBEAT)), GONE)
    assert [one.task_id for one in until_refused(script.client().events())] == ["b", "c"]
    assert [one.headers.get("last-event-id") for one in script.requests] == [None, None, "0-5"]


def test_an_event_stream_cut_anywhere_loses_nothing_and_repeats_nothing(api: FakeApi) -> None:
    api.tasks["t"] = task("t")
    printed = [f"line {number} ä€\n" for number in range(20)]
    api.frames = [*(frame("output", "t", stream="stdout", data=text) for text in printed), changed("t", "running", "x")]
    api.cut_streams_after = [0, 1, 2, 7, 0, 5]
    found: list[Event] = []
    with Client(api.url, sleep=lambda _: None) as client:
        for event in client.events():
            found.append(event)
            if event.body.get("new_state") == "x":
                break
    assert "".join(str(one.body.get("data", "")) for one in found) == "".join(printed)
    assert [one.kind for one in found] == ["state_change", *["output"] * 20, "state_change"]


def test_a_connection_that_misses_three_heartbeats_is_dead() -> None:
    script = Script(
        stream(("0-1", HEARTBEAT)), httpx.ReadTimeout("silent"), stream(("0-2", changed("t", "a", "b"))), GONE
    )
    found = until_refused(script.client().events(heartbeat_interval_ms=2000))
    assert [one.cursor for one in found] == ["0-2"]
    assert script.requests[0].extensions["timeout"]["read"] == 6


def test_the_first_connection_of_an_event_stream_must_succeed() -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(ServerUnreachable, match="refused"):
        next(script.client().events())
    assert script.slept == []


def test_a_server_that_has_answered_may_be_away_for_a_while_and_no_longer() -> None:
    seconds = iter(range(0, 1000, 100))
    script = Script(stream(("0-1", HEARTBEAT)), *[httpx.ConnectError("refused")] * 5)
    connection = Connection("http://server.test", transport=script, sleep=script.slept.append)
    follower = EventFollower(connection, "/stream", {}, 30, patience_seconds=250, clock=lambda: next(seconds))
    with pytest.raises(ServerUnreachable, match="refused"):
        list(follower)
    assert len(script.requests) == 4


def test_what_is_no_frame_is_passed_over() -> None:
    odd = ': comment\n\nevent: x\ndata: no json\n\ndata: [1]\n\ndata: {}\n\nevent: new\ndata: {"type": "new"}\n\n'
    script = Script(stream(("0-1", HEARTBEAT), tail=odd), GONE)
    assert [one.kind for one in until_refused(script.client().events())] == ["new"]


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "invalid_parameter", "message": "m", "details": {"parameter": "exclude_preexisting"}},
        {"error": "not_found", "message": "m"},
        {"error": "task_not_found", "message": "there is no task stream"},
    ],
)
def test_a_server_without_an_event_stream_is_to_be_upgraded(answer: dict[str, object]) -> None:
    script = Script(httpx.Response(400 if "details" in answer else 404, json=answer))
    with pytest.raises(ServerRefused, match=r"older than this client\. Upgrade it") as caught:
        next(script.client().events())
    assert caught.value.exit_code == 4


def test_what_a_server_with_an_event_stream_refuses_is_told_as_it_is() -> None:
    unknown = httpx.Response(404, json={"error": "task_not_found", "message": "no task t."})
    bad = httpx.Response(400, json={"error": "invalid_parameter", "message": "m.", "details": {"parameter": "filter"}})
    with pytest.raises(NotFound, match="no task t"):
        next(Script(unknown).client().events("t"))
    with pytest.raises(ServerRefused, match=r"^m\. "):
        next(Script(bad).client().events(filters=["nonsense"]))


def test_an_older_server_is_recognised_by_what_it_really_answers(api: FakeApi) -> None:
    api.has_event_stream = False
    with Client(api.url) as client, pytest.raises(ServerRefused, match="older than this client"):
        next(client.events(filters=["error"]))
