from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import clock, journal
from orchestrator.models import Claim, Kind, NewRecord
from tests.integration.api import openapi, sse
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.test_errors import assert_error

TASKS = "/api/v1/tasks"
LINE = re.compile(r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\] \[(STDOUT|STDERR|EVENT|SYSTEM)\] (.*)")
ODD = (
    b"caf\xc3\xa9 \xe5\x90\x8d\n\xff\xfe broken\n\x00\x1b[31mred\x1b[0m\r\n"
    b"U+2028:\xe2\x80\xa8 U+0085:\xc2\x85 end\n\n  blanks  \n"
)


@pytest.fixture
def task_id(client: CheckedClient, host: BuildHost) -> str:
    return client.task(id="speaker")


@pytest.fixture
def claim(host: BuildHost, task_id: str) -> Claim:
    return host.run(task_id)


@pytest.fixture
def printed(host: BuildHost, claim: Claim) -> None:
    """The task has printed x and ended."""
    host.say(claim, "x\n")
    host.exit(claim)


def logs(client: CheckedClient, task_id: str = "speaker", **query: object) -> bytes:
    response = client.get(f"{TASKS}/{task_id}/logs", query_string=query)
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return response.data


def text(client: CheckedClient, **query: object) -> list[tuple[str, str]]:
    """(label, line) of the text form."""
    # Only \n ends a line: output may hold other characters that Python takes for one.
    lines = logs(client, format="text", **query).decode().split("\n")
    assert lines.pop() == ""
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return [(match.group(1), match.group(2)) for match in found if match]


def said(client: CheckedClient, **query: object) -> list[str]:
    return [line for label, line in text(client, **query) if label in ("STDOUT", "STDERR")]


def ndjson(client: CheckedClient, **query: object) -> list[dict[str, Any]]:
    raw = logs(client, format="ndjson", **query)
    assert raw == b"" or raw.endswith(b"\n")
    records = [json.loads(line) for line in raw.split(b"\n")[:-1]]
    for record in records:
        openapi.validate(openapi.component("LogRecord"), record)
    return records


def test_the_text_form_has_a_time_a_label_and_the_line(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.tell(claim, "cloned")
    host.say(claim, "one\ntwo\n")
    host.say(claim, "oops\n", stream="stderr")
    host.drop(claim, 42)
    host.exit(claim)
    lines = text(client)
    assert ("SYSTEM", "cloned") in lines
    assert [line for line in lines if line[0] in ("STDOUT", "STDERR")] == [
        ("STDOUT", "one"), ("STDOUT", "two"), ("STDERR", "oops"),
    ]  # fmt: skip
    assert any(label == "SYSTEM" and "42 bytes" in line for label, line in lines)
    states = [line.partition(":")[0] for label, line in lines if label == "EVENT"]
    assert states == ["pending", "staging", "provisioning", "ready", "running", "completing", "completed"]


def test_a_line_that_came_in_pieces_is_one_line_of_text(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, "Down")
    host.say(claim, "other\n", stream="stderr")
    host.say(claim, "loading… ", "done\nlast, without its end")
    assert text(client, stream="stdout") == [("STDOUT", "Downloading… done"), ("STDOUT", "last, without its end")]


def test_ndjson_holds_the_output_as_printed(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, ODD, "no end")
    host.say(claim, "e\n", stream="stderr")
    host.exit(claim, 7)
    records = ndjson(client)
    joined = "".join(record["data"] for record in records if record["stream"] == "stdout")
    assert joined == (ODD + b"no end").decode("utf-8", "replace")
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    last = records[-1]
    assert (last["type"], last["previous_state"], last["new_state"]) == ("state_change", "completing", "failed")
    assert last["outcome"]["exit_code"] == 7


def test_raw_holds_the_exact_bytes_of_one_stream(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    everything = bytes(range(256)) * 3
    host.say(claim, ODD, everything)
    host.say(claim, b"\xff\n", stream="stderr")
    host.tell(claim, "not output")
    host.drop(claim, 1)
    host.exit(claim)
    assert logs(client, format="raw", stream="stdout") == ODD + everything
    assert logs(client, format="raw", stream="stderr") == b"\xff\n"


def test_sse_ends_with_the_state_and_the_exit_code(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, ODD)
    running = sse.read(logs(client, format="sse"))
    assert (running[-1].name, running[-1].body["state"], running[-1].body["exit_code"]) == ("end", "running", None)
    host.tell(claim, "a word")
    host.drop(claim, 5)
    host.exit(claim, 3)
    events = sse.read(logs(client, format="sse"))
    assert [event.name for event in events].count("end") == 1
    end = events[-1]
    assert (end.name, end.body["state"], end.body["exit_code"], end.body["reason"]) == (
        "end", "failed", 3, "exit_nonzero",
    )  # fmt: skip
    assert end.cursor == events[-2].cursor
    assert {event.name for event in events} == {"stdout", "event", "system", "gap", "end"}
    joined = "".join(event.body["data"] for event in events if event.name == "stdout")
    assert joined == ODD.decode("utf-8", "replace")
    gap = next(event.body for event in events if event.name == "gap")
    assert gap["dropped_bytes"] == 5


@pytest.mark.parametrize(
    ("accept", "query", "expected"),
    [
        (None, {}, "text/plain"),
        ("*/*", {}, "text/plain"),
        ("application/json", {}, "text/plain"),
        ("application/x-ndjson", {}, "application/x-ndjson"),
        ("text/event-stream", {}, "text/event-stream"),
        ("text/event-stream;q=0.5, application/x-ndjson", {}, "application/x-ndjson"),
        ("text/event-stream;q=0, */*", {}, "text/plain"),
        ("application/x-ndjson;q=0", {"follow": "true"}, "text/event-stream"),
        ("text/plain", {"format": "ndjson"}, "application/x-ndjson"),
        (None, {"follow": "true"}, "text/event-stream"),
        ("*/*", {"follow": "true"}, "text/event-stream"),
        ("text/plain", {"follow": "true"}, "text/plain"),
        ("text/event-stream", {"format": "raw", "stream": "stdout"}, "application/octet-stream"),
        ("nonsense;;q=x,,", {}, "text/plain"),
    ],
)
@pytest.mark.usefixtures("printed")
def test_without_a_format_accept_decides(
    client: CheckedClient, accept: str | None, query: dict[str, str], expected: str
) -> None:
    headers = {"Accept": accept} if accept else {}
    response = client.get(f"{TASKS}/speaker/logs", query_string=query, headers=headers)
    assert response.mimetype == expected
    assert b"x" in response.data


def test_stream_filters(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, "out\n")
    host.say(claim, "err\n", stream="stderr")
    host.tell(claim, "system")
    host.write(claim, NewRecord(Kind.EVENT, clock.now(), body={"message": "an agent's word"}))
    host.drop(claim, 1)
    host.exit(claim)

    def kinds(stream: str) -> set[str]:
        return {record["stream"] for record in ndjson(client, stream=stream)}

    assert kinds("all") == {"stdout", "stderr", "system", "event", "gap"}
    assert kinds("stdout") == {"stdout", "gap"}
    assert kinds("stderr") == {"stderr", "gap"}
    assert kinds("events") == {"event", "gap"}
    assert {record["type"] for record in ndjson(client, stream="events") if "type" in record} == {
        "state_change", "event",
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 11, 12, 13, 100, 2**63 - 1])
def test_tail_gives_the_last_lines(client: CheckedClient, host: BuildHost, claim: Claim, count: int) -> None:
    for start in range(0, 12, 3):
        host.say(claim, "".join(f"{n}\n" for n in range(start, start + 3)))
        host.say(claim, f"e{start}\n", stream="stderr")
    expected = [str(n) for n in range(12)][-count:]
    assert said(client, stream="stdout", tail=count) == expected
    assert logs(client, format="raw", stream="stdout", tail=count) == "".join(f"{n}\n" for n in expected).encode()
    assert [record["data"] for record in ndjson(client, stream="stdout", tail=count)] == [f"{n}\n" for n in expected]


def test_tail_zero_is_everything(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, "a\nb\n")
    assert said(client, tail=0) == ["a", "b"]


def test_tail_counts_every_record_of_all_streams(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, "a\nb\n")
    host.tell(claim, "word")
    host.exit(claim)
    assert [label for label, _ in text(client, tail=4)] == ["STDOUT", "SYSTEM", "EVENT", "EVENT"]


def test_since_gives_what_came_from_then_on(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    begin = clock.now() + timedelta(hours=1)
    for minute in range(5):
        host.write(claim, journal.output("stdout", f"{minute}\n".encode(), begin + timedelta(minutes=minute)))
    instant = clock.text(begin + timedelta(minutes=3))
    assert said(client, since=instant) == ["3", "4"]
    assert said(client, since=clock.text(begin + timedelta(minutes=3, microseconds=1))) == ["4"]
    assert said(client, since=clock.text(begin + timedelta(days=1))) == []
    assert said(client, since="1970-01-01T00:00:00Z") == ["0", "1", "2", "3", "4"]
    assert said(client, since="0001-01-01T00:00:00Z", tail=1) == ["4"]
    assert said(client, since=instant, tail=1) == ["4"]
    assert said(client, since=instant, tail=5) == ["3", "4"]


@pytest.mark.parametrize("zone", ["+02:00", " 02:00", "%2B02:00"])
def test_since_takes_an_offset_also_when_its_plus_was_not_encoded(
    client: CheckedClient, claim: Claim, zone: str
) -> None:
    assert client.get(f"{TASKS}/speaker/logs?since=2026-01-29T12:00:00{zone}").status_code == 200


def test_a_record_older_than_since_is_left_out_though_it_was_written_later(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    now = clock.now() + timedelta(hours=1)
    host.write(claim, journal.output("stdout", b"new\n", now))
    host.write(claim, journal.output("stdout", b"old, from a slow clock\n", now - timedelta(minutes=5)))
    host.write(claim, journal.output("stdout", b"newer\n", now + timedelta(minutes=5)))
    assert said(client, since=clock.text(now)) == ["new", "newer"]


def test_every_cursor_splits_the_log_without_loss_or_repetition(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    host.say(claim, "a\nb\nc\n", ODD, "x")
    host.say(claim, "d\ne\n", stream="stderr")
    host.exit(claim)
    whole = ndjson(client)
    for at, record in enumerate(whole):
        assert ndjson(client, after=record["seq"]) == whole[at + 1 :]
        resumed = client.get(
            f"{TASKS}/speaker/logs", query_string={"format": "ndjson"}, headers={"Last-Event-ID": str(record["seq"])}
        )
        assert [json.loads(line) for line in resumed.data.split(b"\n")[:-1]] == whole[at + 1 :]
    assert ndjson(client, after=10**18) == []
    assert ndjson(client, after=0) == whole


def test_the_later_one_of_after_and_last_event_id_counts(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    """A browser that resumes sends the address it began with and its cursor."""
    host.say(claim, *(f"{n}\n" for n in range(10)))
    whole = ndjson(client)
    cursor = whole[-3]["seq"]
    for after in (0, whole[5]["seq"]):
        response = client.get(
            f"{TASKS}/speaker/logs?format=ndjson&tail=1&after={after}", headers={"Last-Event-ID": str(cursor)}
        )
        assert [json.loads(line) for line in response.data.split(b"\n")[:-1]] == whole[-2:]


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "9" * 30, "é", " "])
def test_a_last_event_id_that_is_no_cursor_is_refused(client: CheckedClient, claim: Claim, bad: str) -> None:
    response = client.get(f"{TASKS}/speaker/logs", headers={"Last-Event-ID": bad})
    body = assert_error(response, 400, "invalid_parameter")
    assert body["details"] == {"parameter": "Last-Event-ID"}


def test_a_long_line_comes_in_pieces_that_make_the_line(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    line = ("0123456789abcde\t" * 12_500).encode() + b"\n"
    assert len(line) > 3 * journal.PIECE_BYTES
    host.say(claim, b"before\n", line, b"after\n")
    assert logs(client, format="raw", stream="stdout") == b"before\n" + line + b"after\n"
    pieces = [record["data"] for record in ndjson(client, stream="stdout")]
    assert "".join(pieces) == "before\n" + line.decode() + "after\n"
    assert max(map(len, pieces)) <= journal.PIECE_BYTES
    assert [record["seq"] for record in ndjson(client)] == list(range(1, len(ndjson(client)) + 1))
    assert said(client)[0] == "before"
    assert "".join(said(client)[1:-1]) == line.decode().rstrip("\n")
    for record in ndjson(client, stream="stdout"):
        rest = "".join(one["data"] for one in ndjson(client, stream="stdout", after=record["seq"]))
        assert (line.decode() + "after\n").endswith(rest)


RETRIED = MANIFEST.replace("{name: A task}", "{id: again, name: A task}") + (
    "lifecycle: {retry: {max_attempts: 3, backoff: 1s, on: [worker_lost]}}\n"
)


def start_again(host: BuildHost, task_id: str) -> Claim:
    """Place the retry without waiting for its backoff, and run it."""
    from orchestrator.services.place import place
    from orchestrator.store.tables import tasks

    with host.product.database.write() as tx:
        tx.execute(tasks.update().where(tasks.c.id == task_id).values(not_before=None))
        place(tx, clock.now())
    return host.run(task_id)


def test_attempts_are_told_apart_and_all_of_them_are_in_order(client: CheckedClient, host: BuildHost) -> None:
    client.submit(RETRIED)
    for number in (1, 2, 3):
        claim = start_again(host, "again") if number > 1 else host.run("again")
        host.say(claim, f"attempt {number}\n")
        if number < 3:
            host.end_command(claim)
            assert host.lose(claim) == "pending"
    host.exit(claim)

    def of(**query: object) -> list[str]:
        records = json.loads(
            "[" + ",".join(logs(client, "again", format="ndjson", **query).decode().split("\n")[:-1]) + "]"
        )
        seqs = [record["seq"] for record in records]
        assert seqs == sorted(set(seqs))
        return [record["data"].strip() for record in records if record["stream"] == "stdout"]

    assert of() == ["attempt 3"]
    assert of(attempt="all") == ["attempt 1", "attempt 2", "attempt 3"]
    for number in (1, 2, 3):
        assert of(attempt=number) == [f"attempt {number}"]
        assert of(attempt=number, tail=1, stream="stdout") == [f"attempt {number}"]
    assert of(attempt="all", tail=2, stream="stdout") == ["attempt 2", "attempt 3"]
    assert of(tail=5, stream="stdout") == ["attempt 3"]
    assert_error(client.get(f"{TASKS}/again/logs?attempt=4"), 400, "invalid_parameter")
    task = client.get(f"{TASKS}/again").json
    assert task
    assert [one["attempt"] for one in task["attempts"]] == [1, 2, 3]
    assert [one["outcome"]["reason"] for one in task["attempts"]] == ["worker_lost", "worker_lost", "exit_zero"]


def test_a_task_that_nobody_took_yet_has_a_log(client: CheckedClient, task_id: str) -> None:
    assert [label for label, _ in text(client)] == ["EVENT"]
    assert logs(client, format="raw", stream="stdout") == b""
    assert [record["new_state"] for record in ndjson(client)] == ["pending"]
    assert client.head(f"{TASKS}/{task_id}/logs").status_code == 200


def test_a_thousand_rows_are_read_in_order(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.say(claim, *(f"{n}\n" for n in range(1000)))
    assert said(client) == [str(n) for n in range(1000)]
    assert said(client, tail=700) == [str(n) for n in range(300, 1000)]
