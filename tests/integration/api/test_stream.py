"""The event stream by SSE: snapshot, filters, resuming, gaps, rates (contract §6)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator import clock
from orchestrator.models import Kind, NewRecord
from orchestrator.product import Product
from orchestrator.services.archive import archive_task
from orchestrator.services.expire import forget
from orchestrator.services.purge import purge
from orchestrator.services.submit import submit
from tests.integration.api.events import PATH, EventReader, output_of, states_of
from tests.integration.api.installation import BuildHost, open_product
from tests.integration.api.live import LiveServer
from tests.integration.api.waiting import eventually
from tests.integration.store.given import manifest_of

ALL_STATES = ["pending", "staging", "provisioning", "ready", "running", "completing", "completed"]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    opened = open_product(tmp_path_factory.mktemp("stream") / "data")
    yield opened
    opened.database.close()


@pytest.fixture(scope="module")
def server(product: Product) -> Iterator[LiveServer]:
    live = LiveServer(product.settings.data_dir)
    live.start()
    yield live
    live.stop()


@pytest.fixture(scope="module")
def host(product: Product) -> BuildHost:
    build_host = BuildHost(product)
    build_host.register(slots=1000, cpus=1000, memory=1 << 50, disk=1 << 50)
    return build_host


def given(product: Product, task_id: str, **sections: object) -> str:
    return submit(product, manifest_of(f"The task {task_id}", task_id=task_id, **sections)).id  # type: ignore[arg-type]


def metrics(percent: float) -> NewRecord:
    return NewRecord(Kind.METRICS, clock.now(), body={"cpu_percent": percent})


def progress(percent: float) -> NewRecord:
    return NewRecord(Kind.PROGRESS, clock.now(), body={"percent": percent, "text": None})


def test_what_is_there_comes_first_then_each_change_once_and_in_order(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    given(product, "was-there")
    host.exit(host.run(given(product, "had-ended")))
    reader = EventReader(server).ready()
    given(product, "is-new")
    host.exit(host.run("is-new"))
    host.exit(host.run("was-there"))
    frames = reader.until_state("was-there", "completed")
    reader.close()
    first = next(frame for frame in frames if frame["task_id"] == "was-there")
    assert (first["preexisting"], first["new_state"], first["id"]) == (True, "pending", None)
    assert first["name"] == "The task was-there"
    assert states_of(frames, "was-there") == ALL_STATES
    assert states_of(frames, "is-new") == ALL_STATES
    assert states_of(frames, "had-ended") == []
    ids = [frame["id"] for frame in frames if frame["id"]]
    assert len(set(ids)) == len(ids)


def test_without_the_snapshot_only_what_happens_is_told(server: LiveServer, product: Product, host: BuildHost) -> None:
    given(product, "unsaid")
    reader = EventReader(server, exclude_preexisting="true").ready()
    host.exit(host.run("unsaid"))
    frames = reader.until_state("unsaid", "completed")
    reader.close()
    assert states_of(frames, "unsaid") == ALL_STATES[1:]


def test_output_errors_artifacts_metrics_and_progress_are_frames(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    reader = EventReader(server, task_id=given(product, "talks")).ready()
    claim = host.run("talks")
    host.say(claim, "one\ntwo\n", "€\n")
    host.say(claim, b"\xff\n", stream="stderr")
    host.tell(claim, "said by the product")
    host.write(claim, metrics(12.5), progress(40))
    host.write(claim, NewRecord(Kind.EVENT, clock.now(), body={"type": "message", "text": "hello"}))
    stored = {"artifact": {"path": "a b/c.txt", "name": "c.txt", "size_bytes": 3, "checksum": "sha256:0"}}
    host.write(claim, NewRecord(Kind.ARTIFACT, clock.now(), body=stored))
    host.drop(claim, 99)
    host.exit(claim, 3)
    frames = reader.until_state("talks", "failed")
    reader.close()
    of = {type_: [one for one in frames if one["type"] == type_] for type_ in {one["type"] for one in frames}}
    assert output_of(frames, "talks") == "one\ntwo\n€\n"
    assert [(one["stream"], one["data"], one["bytes"]) for one in of["output"]][2:] == [
        ("stderr", "\N{REPLACEMENT CHARACTER}\n", 2),
        ("system", "said by the product\n", 20),
    ]
    assert of["metrics"][0]["metrics"] == {"cpu_percent": 12.5}
    assert of["progress"][0]["progress"]["percent"] == 40
    assert of["event"][0]["event"] == {"type": "message", "text": "hello"}
    assert of["artifact"][0]["artifact"]["download_url"].endswith("/talks/artifacts/a%20b/c.txt?attempt=1")
    assert of["gap"][0]["dropped_bytes"] == 99
    (error,) = of["error"]
    assert (error["error"], error["details"]["exit_code"], error["attempt"]) == ("exit_nonzero", 3, 1)
    assert frames.index(error) < frames.index(of["state_change"][-1])


def test_the_log_of_a_task_has_neither_metrics_nor_a_hole_where_they_are(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    claim = host.run(given(product, "plain-log"))
    for number in range(3):
        host.write(claim, metrics(number), progress(number))
        host.say(claim, f"line {number}\n")
    host.exit(claim, 1)
    records = httpx.get(f"{server.url}/api/v1/tasks/plain-log/logs?format=ndjson").text.splitlines()
    assert [f'"seq": {number},' in one for number, one in enumerate(records, 1)] == [True] * len(records)
    assert not [one for one in records if "cpu_percent" in one or '"percent"' in one]
    tail = httpx.get(f"{server.url}/api/v1/tasks/plain-log/logs?tail=1").text
    assert "failed" in tail


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"label_team": "red"}, {"f-red"}),
        ({"label_team": "red", "label_kind": "x"}, {"f-red"}),
        ({"parent_id": "f-red"}, {"f-child"}),
        ({"task_id": "f-blue"}, {"f-blue"}),
        ({"state": "failed,pending"}, {"f-red", "f-blue", "f-child"}),
    ],
)
def test_each_filter_lets_its_own_tasks_through(
    server: LiveServer, product: Product, host: BuildHost, query: dict[str, str], expected: set[str]
) -> None:
    if httpx.get(f"{server.url}/api/v1/tasks/f-red").status_code == 404:
        given(product, "f-red", labels={"team": "red", "kind": "x"})
        given(product, "f-blue", labels={"team": "blue", "kind": "x"})
        given(product, "f-child", labels={"team": "green"}, parent_id="f-red")
        for task_id in ("f-red", "f-blue", "f-child"):
            claim = host.run(task_id)
            host.say(claim, "text\n")
            host.exit(claim, 1)
    reader = EventReader(server, after="0", **query).ready()
    frames = [one for one in reader.told if str(one.get("task_id")).startswith("f-")]
    reader.close()
    assert {one["task_id"] for one in frames} == expected
    if "state" in query:
        assert set(states_of(frames, "f-red")) == {"pending", "failed"}
        assert not [one for one in frames if one["type"] == "output"]  # it came while the task was running


def test_of_each_type_only_what_is_asked_for_comes(server: LiveServer, product: Product, host: BuildHost) -> None:
    claim = host.run(given(product, "typed"))
    host.write(claim, metrics(1), progress(2))
    host.say(claim, "text\n")
    host.exit(claim)
    for asked, expected in {"metrics": {"metrics"}, "metrics,output": {"metrics", "output"}}.items():
        reader = EventReader(server, task_id="typed", after="0", filter=asked).ready()
        assert {one["type"] for one in reader.told} == expected
        reader.close()


def test_a_reader_that_is_cut_anywhere_goes_on_without_a_loss_or_a_repeat(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    start = EventReader(server, exclude_preexisting="true").ready()
    claim = host.run(given(product, "cut"))
    for number in range(40):
        host.say(claim, f"{number}\n")
    host.exit(claim)
    whole = start.until_state("cut", "completed")
    start.close()
    for place in range(0, len(whole), 7):
        for how in ("header", "query"):
            headers = {"Last-Event-ID": whole[place]["id"]} if how == "header" else {}
            query = {"after": whole[0]["id"] if how == "header" else whole[place]["id"]}
            rest = EventReader(server, headers, **query).ready()
            assert rest.until_state("cut", "completed")[: len(whole)] == whole[place + 1 :]
            rest.close()


def test_a_killed_server_costs_its_readers_nothing(tmp_path: Path) -> None:
    product = open_product(tmp_path / "data")
    host, server = BuildHost(product), LiveServer(product.settings.data_dir)
    host.register()
    server.start()
    claim = host.run(given(product, "t"))
    reader = EventReader(server, after="0").ready()
    told = []
    for number in range(60):
        host.say(claim, f"{number}\n")
        if number in (20, 40):
            server.stop(signal.SIGKILL)
            assert reader.cut.wait(30)
            told += reader.told
            cursor = reader.cursor
            reader.close()
            host.say(claim, f"while it was away {number}\n")
            server.start()
            reader = EventReader(server, {"Last-Event-ID": cursor}, after="0")
    host.exit(claim)
    told += reader.until_state("t", "completed")
    reader.close()
    server.stop()
    product.database.close()
    expected = [line for n in range(60) for line in ([f"{n}"] + ([f"while it was away {n}"] if n in (20, 40) else []))]
    assert output_of(told, "t").splitlines() == expected
    assert states_of(told, "t") == ALL_STATES


def test_who_comes_back_after_records_were_removed_is_told_so(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    claim = host.run(given(product, "purged"))
    host.say(claim, "gone\n")
    host.exit(claim)
    host.exit(host.run(given(product, "kept")))
    purge(product, "purged")
    reader = EventReader(server, after="0").ready()
    (gap,) = [one for one in reader.told if one["type"] == "gap" and "task_id" not in one]
    reader.close()
    assert gap["from"] == "0-0"
    assert gap["to"] != "0-0"
    assert "removed or archived" in gap["reason"]
    for task_id, count in {"purged": 1, "kept": 0}.items():
        one = EventReader(server, task_id=task_id, after="0").ready()
        assert len([frame for frame in one.told if frame["type"] == "gap"]) == count
        one.close()
    unaffected = EventReader(server, task_id="purged", after="0", filter="state_change").ready()
    assert states_of(unaffected.told, "purged") == ALL_STATES  # the state changes are all there
    assert not [frame for frame in unaffected.told if frame["type"] == "gap"]
    unaffected.close()
    fresh = EventReader(server, after=reader.cursor).ready()
    assert fresh.told == []
    fresh.close()


def test_who_asks_for_states_hears_of_other_things_in_these_states_alone(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    given(product, "stateful")
    live = EventReader(server, filter="output", state="running", task_id="stateful").ready()
    early = EventReader(server, filter="output", state="staging,provisioning", task_id="stateful").ready()
    claim = host.run("stateful")
    host.say(claim, "while it runs\n")
    host.end_command(claim)
    host.say(claim, "while it is completing\n")
    live.until("the output", lambda frames: output_of(frames, "stateful"))
    again = EventReader(server, filter="output", state="running", task_id="stateful", after="0").ready()
    for reader in (live, again):
        assert output_of(reader.told, "stateful") == "while it runs\n"
        assert {one["type"] for one in reader.told} == {"output"}
    assert early.told == []
    for reader in (live, again, early):
        reader.close()


def test_a_reader_goes_on_after_the_newest_records_were_removed(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    host.exit(host.run(given(product, "forgotten")))
    first = EventReader(server, label_only="this", exclude_preexisting="true").ready()
    forget(product, "forgotten")
    second = EventReader(server, label_only="this", exclude_preexisting="true").ready()
    given(product, "after-it", labels={"only": "this"})
    for reader in (first, second):
        reader.until_state("after-it", "pending")
        reader.close()


def test_an_archived_log_is_a_gap_in_the_stream(server: LiveServer, product: Product, host: BuildHost) -> None:
    claim = host.run(given(product, "archived"))
    host.say(claim, "x" * 40_000 + "\n")
    host.exit(claim)
    assert archive_task(product, "archived")
    reader = EventReader(server, task_id="archived", after="0").ready()
    assert [one["type"] for one in reader.told if one["type"] in ("gap", "output")] == ["gap"]
    reader.close()


def test_a_cursor_of_another_store_is_told_to_be_one(server: LiveServer) -> None:
    reader = EventReader(server, after="0-999999999999").ready()
    (gap,) = reader.told
    reader.close()
    assert "restored from a backup" in gap["reason"]
    assert reader.cursor != "0-999999999999"


def test_within_an_interval_only_the_newest_state_is_told_and_the_end_always(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    for number in range(3):
        given(product, f"fast-{number}")
    every = EventReader(server, exclude_preexisting="true", filter="state_change,output,metrics").ready()
    reader = EventReader(
        server, exclude_preexisting="true", filter="state_change,output,metrics", rate_limit_ms=60_000
    ).ready()
    burst = EventReader(server, exclude_preexisting="true", filter="state_change,output,metrics", rate_limit_ms=1000)
    burst.ready()
    for number in range(3):
        claim = host.run(f"fast-{number}")
        for value in range(5):
            host.write(claim, metrics(value))
            host.say(claim, f"{value}\n")
        host.exit(claim)
    whole = every.until_state("fast-2", "completed")
    limited = burst.until_state("fast-2", "completed")
    for one in (every, reader, burst):
        one.close()
    assert len(states_of(whole, "fast-1")) == 6
    assert output_of(limited, "fast-1") == output_of(whole, "fast-1") == "0\n1\n2\n3\n4\n"
    assert states_of(limited, "fast-1")[-1] == "completed"
    assert len([one for one in limited if one["type"] == "metrics"]) < 15
    assert len(reader.told) <= len(whole)
    ids = [one["id"] for one in limited]
    assert ids == [one["id"] for one in whole if one["id"] in set(ids)]  # in the same order


def test_a_heartbeat_comes_at_the_interval_asked_for_with_the_place_reached(
    server: LiveServer, product: Product, host: BuildHost
) -> None:
    reader = EventReader(server, heartbeat_interval_ms=1000, filter="error").ready()
    before = reader.cursor
    host.exit(host.run(given(product, "unheard")))
    reader.until("three heartbeats", lambda frames: len(frames) >= 4)
    reader.close()
    assert {one["type"] for one in reader.frames} == {"heartbeat"}
    assert reader.cursor != before  # over what was not asked for: coming back does not read it again


@pytest.mark.parametrize(
    "query",
    [
        "heartbeat_interval_ms=999", "heartbeat_interval_ms=300001", "rate_limit_ms=60001", "filter=nonsense",
        "filter=", "state=nowhere", "after=abc", "after=1", "label=x", "exclude_preexisting=maybe", "other=1",
    ],
)  # fmt: skip
def test_a_bad_parameter_is_refused(server: LiveServer, query: str) -> None:
    response = httpx.get(f"{server.url}{PATH}?{query}")
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_parameter"


def test_a_task_that_does_not_exist_is_not_streamed(server: LiveServer) -> None:
    response = httpx.get(f"{server.url}{PATH}?task_id=nobody")
    assert (response.status_code, response.json()["error"]) == (404, "task_not_found")


def test_a_reader_that_leaves_frees_its_thread_without_anything_happening(server: LiveServer) -> None:
    def waiting() -> int:
        (worker,) = server.workers()
        return len(list(Path(f"/proc/{worker}/task").iterdir()))

    eventually("nobody reads", lambda: "sandbox_api_long_answers 0.0" in httpx.get(f"{server.url}/metrics").text)
    readers = [EventReader(server, heartbeat_interval_ms=300_000).ready() for _ in range(10)]
    assert waiting() >= 10
    assert "sandbox_api_long_answers 10.0" in httpx.get(f"{server.url}/metrics").text
    for reader in readers:
        reader.close()
    eventually("nobody reads", lambda: "sandbox_api_long_answers 0.0" in httpx.get(f"{server.url}/metrics").text)
