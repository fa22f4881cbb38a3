"""Archived logs over HTTP: byte for byte what they were before, or a refusal; never a short answer that looks whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import clock
from orchestrator.archive import SegmentName
from orchestrator.product import Product
from orchestrator.services import archive
from orchestrator.services.archive import archive_task
from orchestrator.services.purge import log_prefix
from orchestrator.services.retention import retain
from tests.integration.api import sse
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost, open_product
from tests.integration.api.live import LiveServer
from tests.integration.api.test_following import LOGS, speak
from tests.integration.api.test_logs import RETRIED, start_again
from tests.integration.api.waiting import chance

FORMS: tuple[dict[str, str], ...] = (
    {"format": "text"},
    {"format": "text", "stream": "stderr"},
    {"format": "ndjson", "attempt": "all"},
    {"format": "ndjson", "attempt": "1"},
    {"format": "ndjson", "stream": "events"},
    {"format": "sse"},
    {"format": "sse", "follow": "true"},
    {"format": "sse", "follow": "true", "attempt": "all"},
    {"format": "raw", "stream": "stdout"},
    {"format": "raw", "stream": "stderr", "attempt": "1"},
    {"format": "raw", "stream": "stdout", "follow": "true", "attempt": "2"},
)
CUTS: tuple[dict[str, str], ...] = (
    {},
    {"tail": "1"},
    {"tail": "17"},
    {"tail": "100000"},
    {"after": "1"},
    {"after": "150"},
    {"after": "333"},
    {"after": "1000000"},
)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ROWS", 7)
    monkeypatch.setattr(archive, "SMALL_BYTES", 1)


@pytest.fixture
def spoken(client: CheckedClient, host: BuildHost) -> str:
    """A task of two attempts that has said a lot, and ended."""
    client.submit(RETRIED.replace("id: again", "id: speaker"))
    first = host.run("speaker")
    host.say(first, *(f"one {number}\n" for number in range(40)))
    host.say(first, b"\xff\nhalf a line", stream="stderr")
    host.end_command(first)
    host.lose(first)
    second = start_again(host, "speaker")
    host.tell(second, "again")
    speak(host, second, 90)
    return "speaker"


def answers(client: CheckedClient, **more: str) -> dict[str, bytes]:
    asked = [form | cut | more for form in FORMS for cut in CUTS]
    return {str(query): client.get(LOGS, query_string=query).data for query in asked}


def without_time(answer: bytes) -> bytes:
    """The `end` event tells when it was sent."""
    head, found, _ = answer.rpartition(b'"timestamp"')
    return head if found and b"event: end" in head else answer


def test_every_form_and_every_cut_of_an_archived_log_is_what_it_was(
    client: CheckedClient, product: Product, spoken: str
) -> None:
    before = answers(client)
    assert archive_task(product, spoken)
    after = answers(client)
    assert {key: without_time(value) for key, value in before.items()} == {
        key: without_time(value) for key, value in after.items()
    }


def test_since_is_the_same_before_and_after(client: CheckedClient, product: Product, spoken: str) -> None:
    told = client.get(LOGS, query_string={"format": "ndjson", "attempt": "all"}).data.split(b"\n")[:-1]
    instants = sorted({line.split(b'"timestamp": "')[1].split(b'"')[0].decode() for line in told})[::5]

    def since() -> list[bytes]:
        query = {"format": "ndjson", "attempt": "all"}
        return [client.get(LOGS, query_string=query | {"since": at}).data for at in instants]

    before = since()
    archive_task(product, spoken)
    assert since() == before
    assert len(set(before)) > 5


@pytest.mark.parametrize("seed", range(3))
def test_who_reads_while_it_moves_gets_every_byte_once(
    client: CheckedClient, product: Product, spoken: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Readers that are cut at any place and resume, segment after segment moving in between."""
    random_ = chance(seed)
    whole = client.get(LOGS, query_string={"format": "ndjson", "attempt": "all"}).data.split(b"\n")[:-1]
    steps = moving(product, spoken, monkeypatch)
    got: list[bytes] = []
    while len(got) < len(whole):
        next(steps, None)
        form = {"format": "ndjson", "attempt": "all", "after": len(got)}
        with closing(client.get(LOGS, query_string=form)) as response:
            data = b"".join(islice(response.response, random_.randrange(1, 4)))  # type: ignore[call-overload]
        lines = data.split(b"\n")[:-1]
        got += lines[: random_.randrange(1, 40)]
    assert got == whole
    assert not list(steps)
    assert client.get(LOGS, query_string={"format": "ndjson", "attempt": "all"}).data.split(b"\n")[:-1] == whole


class Broken(BaseException):
    """The archiver died here."""


def moving(product: Product, task_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Each step moves one segment and breaks off."""
    move, done = archive._move, False

    def move_one(*args: Any) -> bool:
        move(*args)
        raise Broken

    while not done:
        with monkeypatch.context() as once:
            once.setattr(archive, "_move", move_one)
            try:
                done = archive_task(product, task_id)
            except Broken:
                yield False


def test_a_cursor_from_before_resumes_after(client: CheckedClient, product: Product, spoken: str) -> None:
    reader = sse.Reader()
    reader.feed(client.get(LOGS, query_string={"format": "sse", "attempt": "all"}).data)
    archive_task(product, spoken)
    for event in reader.events[:-1:25]:
        rest = sse.Reader()
        headers = {"Last-Event-ID": str(event.cursor)}
        rest.feed(client.get(LOGS, query_string={"follow": "true", "attempt": "all"}, headers=headers).data)
        assert rest.events[:-1] == [one for one in reader.events[:-1] if one.cursor > event.cursor]


def test_a_follower_that_fell_behind_gets_what_was_archived_meanwhile(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    claim = host.run(client.task(id="speaker"))
    response = client.get(LOGS, query_string={"follow": "true", "format": "raw", "stream": "stdout"})
    with closing(response):
        body = iter(response.response)
        next(body)
        host.say(claim, *(f"{number}\n" for number in range(50)))
        host.exit(claim)
        archive_task(product, "speaker")
        assert b"".join(body) == b"".join(b"%d\n" % number for number in range(50))


def test_the_watcher_passes_over_what_was_archived_before_it_looked(
    client: CheckedClient, host: BuildHost, product: Product
) -> None:
    claim = host.run(client.task(id="speaker"))
    hub = client.application.extensions["sandbox-parts"].hub
    with hub.feed("speaker") as feed:
        cursor = feed.last_seq
        hub._feeds.pop("speaker")  # the watcher does not see it: it is slow
        host.say(claim, *(f"{number}\n" for number in range(50)))
        host.exit(claim)
        archive_task(product, "speaker")
        hub._feeds["speaker"] = feed
        hub._fill()
        assert feed.after(cursor, 0) is None, "the store is asked"
        assert feed.after(feed.last_seq, 0) == []


def test_with_the_storage_away_the_answer_is_a_refusal(
    client: CheckedClient, product: Product, spoken: str, tmp_path: Path
) -> None:
    archive_task(product, spoken)
    shutil.move(tmp_path / "data" / "artifacts", tmp_path / "elsewhere")
    for query in ({}, {"follow": "true"}, {"tail": "100"}, {"since": "2020-01-01T00:00:00Z"}):
        response = client.get(LOGS, query_string=query)
        assert response.status_code == 503, query
        assert response.json is not None
        assert response.json["error"] == "service_unavailable"
        assert response.headers["Retry-After"]
    shutil.move(tmp_path / "elsewhere", tmp_path / "data" / "artifacts")
    assert client.get(LOGS).status_code == 200


def test_a_purged_archive_reads_as_an_empty_log(client: CheckedClient, product: Product, spoken: str) -> None:
    archive_task(product, spoken)
    assert client.delete(f"/api/v1/tasks/{spoken}/data").status_code == 204
    answer = client.get(LOGS, query_string={"format": "text", "attempt": "all"}).text
    assert answer
    assert {line.split("] ")[1] for line in answer.splitlines()} == {"[EVENT"}


def test_a_log_whose_retention_is_over_says_so(client: CheckedClient, product: Product, spoken: str) -> None:
    archive_task(product, spoken)
    settings = replace(product.settings, retention_days=0, log_retention_days=1)
    retain(replace(product, settings=settings), clock.now().replace(year=clock.now().year + 1))
    assert "was removed: it ended more than SANDBOX_LOG_RETENTION_DAYS=1 days ago" in client.get(LOGS).text
    assert client.get(LOGS, query_string={"format": "raw", "stream": "stdout"}).data == b""
    reader = sse.Reader()
    reader.feed(client.get(LOGS, query_string={"follow": "true"}).data)
    assert [event.name for event in reader.events][-2:] == ["gap", "end"]


def first_seq(segment: Path) -> int:
    return SegmentName.of_key(segment.name).first_seq


def test_a_segment_that_is_missing_in_the_middle_cuts_the_stream(tmp_path: Path) -> None:
    """The real server: the reader sees a broken answer, not one that ends."""
    product = open_product(tmp_path / "data")
    host = BuildHost(product)
    server = LiveServer(tmp_path / "data")
    server.start()
    try:
        host.register()
        manifest = MANIFEST.replace("{name", "{id: speaker, name")
        submitted = httpx.post(
            f"{server.url}/api/v1/tasks", content=manifest, headers={"Content-Type": "application/yaml"}
        )
        assert submitted.status_code == 202, submitted.text
        claim = host.run("speaker")
        host.say(claim, *(f"{number}\n" for number in range(50)))
        host.exit(claim)
        archive_task(product, "speaker")
        lost = sorted((tmp_path / "data" / "artifacts" / log_prefix("speaker")).iterdir(), key=first_seq)[3]
        lost.unlink()
        with httpx.stream("GET", f"{server.url}{LOGS}", timeout=30) as response:
            assert response.status_code == 200
            got: list[bytes] = []
            with pytest.raises(httpx.RemoteProtocolError):
                got.extend(response.iter_raw())
        assert b"20\n" in b"".join(got)
        assert b"21\n" not in b"".join(got)
        assert "restore it from a backup of the storage" in server.log
        answer = httpx.get(f"{server.url}{LOGS}", params={"after": str(first_seq(lost) - 1)})
        assert (answer.status_code, "restore it" in answer.text) == (503, True)
    finally:
        server.stop()
        product.database.close()
