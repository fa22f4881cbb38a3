"""Followers of live logs: what is written while they read, cuts at any byte, the end, silence."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from api.feed import KEPT_ROWS, Feed
from api.hangup import has_hung_up
from orchestrator import clock, journal
from orchestrator.models import Claim
from orchestrator.product import Product
from tests.integration.api import sse
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost
from tests.integration.api.test_logs import RETRIED, start_again
from tests.integration.api.waiting import Background, chance, eventually
from tests.integration.store.plans import heard

LOGS = "/api/v1/tasks/speaker/logs"


@pytest.fixture
def claim(client: CheckedClient, host: BuildHost) -> Claim:
    return host.run(client.task(id="speaker"))


def chunks(client: CheckedClient, headers: dict[str, str] | None = None, **query: object) -> Iterator[bytes]:
    """The body of a followed log, as it comes."""
    response = client.get(LOGS, query_string={"follow": "true", **query}, headers=headers or {})
    assert response.status_code == 200
    with closing(response):
        yield from response.response  # type: ignore[misc]


def whole(client: CheckedClient, **query: object) -> bytes:
    return b"".join(chunks(client, **query))


def noise(random_: random.Random) -> bytes:
    """A row of output such as tasks print: lines, halves of lines, odd bytes."""
    words = [
        b"line\n",
        b"half",
        b"",
        b"caf\xc3\xa9\n",
        b"\xff\xfe\n",
        b"\n\n",
        b"\xe2\x80\xa8\n",
        b"x" * 200 + b"\n",
        b"\x00\n",
    ]
    return b"".join(random_.choices(words, k=random_.randrange(1, 9))) or b"\n"


def speak(host: BuildHost, claim: Claim, rows: int, seed: int = 1) -> dict[str, bytes]:
    """Write rows of noise in transactions of several, then end; return what each stream was."""
    random_ = chance(seed)
    printed = {"stdout": b"", "stderr": b""}
    while rows > 0:
        records = []
        for _ in range(random_.randrange(1, 6)):
            stream = random_.choice(["stdout", "stdout", "stderr"])
            data = noise(random_)
            printed[stream] += data
            records.append(journal.output(stream, data, clock.now()))
        host.write(claim, *records)
        rows -= len(records)
    host.exit(claim, 5)
    return printed


def decoded(data: bytes) -> str:
    """As the log shows bytes: each line by itself."""
    return "".join(line.decode("utf-8", "replace") for line in data.splitlines(keepends=True))


def test_a_follower_gets_what_is_written_while_it_reads_and_the_end(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    host.say(claim, "before\n")
    stream = chunks(client)
    reader = sse.Reader()
    while reader.data("stdout") != "before\n":
        reader.feed(next(stream))
    host.say(claim, "while\n")
    while reader.data("stdout") != "before\nwhile\n":
        reader.feed(next(stream))
    host.exit(claim, 9)
    for data in stream:
        reader.feed(data)
    assert [event.body.get("new_state") for event in reader.events if event.name == "event"][-1] == "failed"
    end = reader.events[-1]
    assert (end.name, end.body["state"], end.body["exit_code"]) == ("end", "failed", 9)


@pytest.mark.parametrize("form", ["text", "ndjson", "sse", "raw"])
def test_followers_of_every_form_get_the_same_as_who_reads_afterwards(
    client: CheckedClient, host: BuildHost, claim: Claim, form: str
) -> None:
    query: dict[str, str] = {"format": form, "stream": "stdout" if form == "raw" else "all"}
    followers = [Background(whole, client, **query) for _ in range(5)]
    printed = speak(host, claim, 300)
    followed = {follower.result() for follower in followers}
    afterwards = client.get(LOGS, query_string=query).data
    if form == "sse":
        read = [sse.read(data.replace(b": keep-alive\n\n", b"")) for data in followed]
        assert all([(one.cursor, one.name) for one in events] == [
            (one.cursor, one.name) for one in sse.read(afterwards)
        ] for events in read)  # fmt: skip
        joined = "".join(event.body["data"] for event in read[0] if event.name == "stdout")
        assert joined == decoded(printed["stdout"])
    else:
        assert followed == {afterwards}
    if form == "raw":
        assert afterwards == printed["stdout"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", ["Last-Event-ID", "after"])
def test_a_follower_that_is_cut_50_times_loses_nothing_and_gets_nothing_twice(
    client: CheckedClient, host: BuildHost, claim: Claim, seed: int, how: str
) -> None:
    random_ = chance(seed)
    speaking = Background(speak, host, claim, 400, seed)
    events: list[sse.Event] = []
    cuts = 0
    while not events or events[-1].name != "end":
        cursor = events[-1].cursor if events else 0
        headers = {"Last-Event-ID": str(cursor)} if how == "Last-Event-ID" and events else {}
        query: dict[str, Any] = {"after": cursor} if how == "after" and events else {}
        room = random_.randrange(1, 4000) if cuts < 50 else 1 << 30
        reader = sse.Reader()
        stream = chunks(client, headers, **query)
        for data in stream:
            reader.feed(data[:room])  # the connection breaks here: at any byte
            room -= len(data)
            if room <= 0:
                break
        stream.close()  # type: ignore[attr-defined]
        events += reader.events
        cuts += 1
    printed = speaking.result()
    assert cuts >= 50
    one_go = sse.read(client.get(LOGS, query_string={"format": "sse"}).data)
    assert [(one.cursor, one.name, one.body) for one in events[:-1]] == [
        (one.cursor, one.name, one.body) for one in one_go[:-1]
    ]
    for stream_name, data in printed.items():
        joined = "".join(event.body["data"] for event in events if event.name == stream_name)
        assert joined == decoded(data)


def test_raw_bytes_cut_at_random_lines_and_resumed_are_the_stream(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    printed = speak(host, claim, 100)
    cursors = [json.loads(line)["seq"] for line in whole(client, format="ndjson").split(b"\n")[:-1]]
    for cursor in chance(3).sample(cursors, 30):
        rest = client.get(LOGS, query_string={"format": "raw", "stream": "stdout", "after": cursor}).data
        assert printed["stdout"].endswith(rest)
        before = client.get(LOGS, query_string={"format": "ndjson", "stream": "stdout"}).data.split(b"\n")[:-1]
        skipped = [json.loads(line)["data"] for line in before if json.loads(line)["seq"] <= cursor]
        assert "".join(skipped) + decoded(rest) == decoded(printed["stdout"])


def test_a_follower_far_behind_what_is_kept_in_memory_reads_the_store_and_catches_up(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    slow = chunks(client, stream="stdout")
    next(slow)
    rows = KEPT_ROWS + 500
    for start in range(0, rows, 100):
        host.say(claim, *(f"{n}\n" for n in range(start, min(rows, start + 100))))
    host.exit(claim)
    reader = sse.Reader()
    for data in slow:
        reader.feed(data)
    assert reader.data("stdout") == "".join(f"{n}\n" for n in range(rows))


@pytest.mark.parametrize(
    "query", [{}, {"stream": "stderr"}, {"after": 10**15}, {"since": "9999-01-01T00:00:00Z"}, {"tail": 1}]
)
def test_following_an_ended_task_ends_at_once(
    client: CheckedClient, host: BuildHost, claim: Claim, query: dict[str, object]
) -> None:
    host.say(claim, "x\n")
    host.exit(claim)
    reader = sse.Reader()
    reader.feed(whole(client, **query))
    assert reader.events[-1].name == "end"
    assert [event.name for event in reader.events].count("end") == 1


def test_a_pending_task_can_be_followed_to_its_cancellation(client: CheckedClient) -> None:
    client.task(id="speaker")
    follower = Background(whole, client)
    assert client.delete("/api/v1/tasks/speaker").status_code == 200
    reader = sse.Reader()
    reader.feed(follower.result())
    assert reader.events[-1].body["state"] == "cancelled"


def test_silence_is_broken_by_comments(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    stream = chunks(client, stream="stderr")
    reader = sse.Reader()
    while reader.comments < 3:
        reader.feed(next(stream))
    assert reader.events == []
    stream.close()  # type: ignore[attr-defined]


def test_a_follower_of_a_silent_stream_of_a_talking_task_hears_comments_too(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    reader = sse.Reader()

    def listen() -> None:
        stream = chunks(client, stream="stderr")
        while reader.comments < 3:
            reader.feed(next(stream))
        stream.close()  # type: ignore[attr-defined]

    listener = Background(listen)
    lines = 0
    while not listener.done and lines < 20_000:
        host.say(claim, "not for you\n")
        lines += 1
    listener.result()
    assert reader.events == []


@pytest.mark.parametrize("form", ["text", "ndjson"])
def test_the_other_forms_hold_no_comments(client: CheckedClient, host: BuildHost, claim: Claim, form: str) -> None:
    follower = Background(whole, client, format=form, stream="stderr")
    feeds = client.application.extensions["sandbox-parts"].hub._feeds
    eventually("it follows", lambda: "speaker" in feeds)
    other = chunks(client, stream="stderr")
    reader = sse.Reader()
    while reader.comments < 3:  # the same silence, heard by somebody who is told
        reader.feed(next(other))
    host.say(claim, "late\n", stream="stderr")
    host.exit(claim)
    body = follower.result()
    assert b"keep-alive" not in body
    assert body.count(b"\n") == 1
    assert b"late" in body


def test_resuming_at_the_end_of_a_live_log_answers_at_once(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    """The headers must not wait for the next record, which may be an hour away."""
    host.say(claim, "x\n")
    cursor = sse.read(client.get(LOGS, query_string={"format": "sse"}).data)[-1].cursor
    stream = chunks(client, {"Last-Event-ID": str(cursor)})
    assert next(stream) == b""
    host.say(claim, "y\n")
    reader = sse.Reader()
    while not reader.events:
        reader.feed(next(stream))
    assert reader.events[0].body["data"] == "y\n"
    stream.close()  # type: ignore[attr-defined]


def test_a_follower_goes_on_into_the_next_attempt(client: CheckedClient, host: BuildHost) -> None:
    client.submit(RETRIED.replace("id: again", "id: speaker"))
    claim = host.run("speaker")
    follower = Background(whole, client)
    host.say(claim, "first\n")
    host.end_command(claim)
    host.lose(claim)
    claim = start_again(host, "speaker")
    host.say(claim, "second\n")
    host.exit(claim)
    reader = sse.Reader()
    reader.feed(follower.result())
    assert reader.data("stdout") == "first\nsecond\n"
    assert [event.cursor for event in reader.events[:-1]] == list(range(1, len(reader.events)))
    assert reader.events[-1].body["state"] == "completed"


@pytest.mark.parametrize("how", ["Last-Event-ID", "after"])
def test_who_is_cut_before_a_retry_and_resumes_after_it_gets_the_rest_of_the_first_attempt(
    client: CheckedClient, host: BuildHost, how: str
) -> None:
    client.submit(RETRIED.replace("id: again", "id: speaker"))
    claim = host.run("speaker")
    host.say(claim, "first\n")
    cursor = sse.read(client.get(LOGS, query_string={"format": "sse"}).data)[-1].cursor
    host.say(claim, "last words\n")
    host.end_command(claim)
    host.lose(claim)
    claim = start_again(host, "speaker")
    host.say(claim, "second\n")
    host.exit(claim)
    reader = sse.Reader()
    if how == "after":
        reader.feed(whole(client, after=cursor))
    else:
        reader.feed(b"".join(chunks(client, {"Last-Event-ID": str(cursor)})))
    assert reader.data("stdout") == "last words\nsecond\n"
    assert [event.cursor for event in reader.events[:-1]] == list(range(cursor + 1, reader.cursor + 1))


def test_who_stops_reading_leaves_nothing_behind(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    hub = client.application.extensions["sandbox-parts"].hub
    streams = [chunks(client) for _ in range(5)]
    for stream in streams:
        while not next(stream):
            pass
    assert hub._feeds["speaker"].followers == 5
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    assert hub._feeds == {}


def test_a_reader_that_closed_its_end_is_noticed_without_writing_to_it() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not has_hung_up(ours)
        theirs.sendall(b"GET /next HTTP/1.1\r\n")
        assert not has_hung_up(ours)
        assert ours.recv(100)
        theirs.close()
        assert has_hung_up(ours)
    assert has_hung_up(ours)
    assert not has_hung_up(None)


@pytest.mark.parametrize("form", ["text", "ndjson", "sse"])
def test_a_follower_that_vanished_is_let_go_though_nothing_comes_for_it(
    client: CheckedClient, host: BuildHost, claim: Claim, form: str
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        response = client.get(
            LOGS,
            query_string={"follow": "true", "stream": "stderr", "format": form},
            environ_overrides={"gunicorn.socket": ours},
        )
        following = Background(lambda: b"".join(response.response))
        feeds = client.application.extensions["sandbox-parts"].hub._feeds
        eventually("it follows", lambda: "speaker" in feeds)
        theirs.close()
        assert b"end" not in following.result()
    response.close()
    assert feeds == {}


def test_a_wait_for_the_end_does_not_pass_over_an_end_that_comes_while_it_looks(
    client: CheckedClient, host: BuildHost, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end arrives in the feed just after the rows before it were handed over."""
    hub = client.application.extensions["sandbox-parts"].hub
    after, seen = Feed.after, []

    def slow(self: Feed, cursor: int, timeout_seconds: float) -> list[Any] | None:
        seen.append(cursor)
        rows = after(self, cursor, timeout_seconds)
        if rows and not any(row.ends for row in rows):
            host.exit(claim)
            eventually("the end is in the feed", lambda: any(row.ends for row in self._rows))
        return rows

    monkeypatch.setattr(Feed, "after", slow)
    waiting = Background(hub.wait_terminal, "speaker", 600)
    eventually("it waits", lambda: seen)
    host.say(claim, "one line\n")
    assert waiting.result().state == "completed"


def test_who_waits_or_follows_reads_a_definition_once_at_most(
    client: CheckedClient, host: BuildHost, claim: Claim, product: Product
) -> None:
    hub = client.application.extensions["sandbox-parts"].hub
    with heard(product.database) as waited:
        assert hub.wait_terminal("speaker", 0).state == "running"
    host.exit(claim)
    with heard(product.database) as followed:
        assert b"end" in client.get("/api/v1/tasks/speaker/logs?follow=true").data
    for statements in (waited, followed):
        assert len([text for text, _ in statements if "definition" in text]) == 1
