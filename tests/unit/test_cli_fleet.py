"""`sandbox workers`: what it sends, what it says, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from api.client import Client, NotFound
from tests.unit.fake_api import FakeApi, worker
from tests.unit.test_cli import Ran, sandbox


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.commands.watching.POLL_SECONDS", 0.01)


def workers(api: FakeApi, *args: str) -> Ran:
    return sandbox("workers", *args, server=api.url)


def test_workers_are_listed_with_what_they_hold(api: FakeApi) -> None:
    api.workers = [worker(), worker("h2", "stopped", draining=True)]
    ran = workers(api, "list")
    assert "1 of 4  2.5 of 8  1.0 GiB of 8.0 GiB  0 B of 100.0 GiB  2026-01-29 10:15:02" in ran.out
    assert "h2    stopped, draining" in ran.out
    assert json.loads(workers(api, "list", "--format", "json").out)["workers"][0]["name"] == "h1"


def test_one_worker_is_shown_with_its_tasks(api: FakeApi) -> None:
    api.workers = [worker(task_ids=["a", "b"], trouble="the engine is silent")]
    ran = workers(api, "show", "h1")
    assert ran.code == 0
    assert "tasks:       a, b" in ran.out
    assert "trouble:     the engine is silent" in ran.out
    assert "version:     0.1.0" in ran.out
    assert "drain until" not in ran.out
    assert json.loads(workers(api, "show", "h1", "--format", "json").out)["task_ids"] == ["a", "b"]


@pytest.mark.parametrize("verb", ["show", "drain", "resume", "remove"])
@pytest.mark.parametrize("name", ["h9", "", "..", "a/b"])
def test_a_worker_that_is_not_there_is_3(api: FakeApi, verb: str, name: str) -> None:
    ran = workers(api, verb, name)
    assert (ran.code, ran.out) == (3, "")
    assert "worker_not_found" in ran.err


def test_a_drain_says_what_still_runs_and_when_it_is_ended(api: FakeApi) -> None:
    api.workers = [worker(task_ids=[f"t{number}" for number in range(7)])]
    ran = workers(api, "drain", "h1", "--deadline", "30m")
    assert ran.code == 0
    assert ran.out.startswith("h1 is draining and still owns 7: t0, t1, t2, t3, t4 and 2 more.")
    assert "What still runs at 2026-01-29 10:15:02 UTC is ended." in ran.out
    [sent] = api.requests("POST", "/drain")
    assert sent.query == [("deadline", "30m")]


def test_a_drain_without_a_deadline_ends_nothing(api: FakeApi) -> None:
    api.workers = [worker(task_ids=["a"])]
    ran = workers(api, "drain", "h1")
    assert "is ended" not in ran.out
    assert api.requests("POST", "/drain")[0].query == []


def test_a_worker_that_owns_nothing_is_drained_at_once(api: FakeApi) -> None:
    api.workers = [worker()]
    ran = workers(api, "drain", "h1", "--wait")
    assert ran.code == 0
    assert "h1 is drained: it owns nothing. Stop it, or `sandbox workers resume h1`" in ran.out


def test_a_drain_waits_until_the_last_task_has_ended(api: FakeApi) -> None:
    api.workers = [worker(task_ids=["a", "b"])]
    api.worker_changes = [{"task_ids": ["b"]}, {"task_ids": [], "state": "drained"}]
    ran = workers(api, "drain", "h1", "--wait", "--format", "json")
    assert ran.code == 0
    assert json.loads(ran.out)["state"] == "drained"
    assert len(api.requests("GET", "/workers/h1")) == 3


def test_waiting_for_a_drain_ends_with_124_when_the_time_is_over(api: FakeApi) -> None:
    api.workers = [worker(task_ids=["a"])]
    ran = workers(api, "drain", "h1", "--wait", "--timeout", "0s")
    assert (ran.code, ran.out) == (124, "")
    assert "still owns 1: a. Give a --deadline" in ran.err


def test_waiting_for_a_drain_that_somebody_ended_is_4(api: FakeApi) -> None:
    api.workers = [worker(task_ids=["a"])]
    api.worker_changes = [{"draining": False, "state": "active"}]
    ran = workers(api, "drain", "h1", "--wait")
    assert ran.code == 4
    assert "somebody resumed it" in ran.err


def test_an_interrupted_wait_says_that_the_drain_goes_on(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    api.workers = [worker(task_ids=["a"])]
    monkeypatch.setattr(Client, "worker", interrupted)
    ran = workers(api, "drain", "h1", "--wait")
    assert ran.code == 130
    assert "sandbox workers resume h1" in ran.err


@pytest.mark.parametrize("args", [["--deadline", "soon"], ["--timeout", "1m"], ["--wait", "--timeout", "x"]])
def test_a_bad_option_of_drain_is_a_usage_error_and_nothing_is_sent(api: FakeApi, args: list[str]) -> None:
    assert workers(api, "drain", "h1", *args).code == 2
    assert api.seen == []


def test_a_drain_of_a_worker_that_does_not_run_says_what_it_means(api: FakeApi) -> None:
    api.workers = [worker(state="stopped")]
    ran = workers(api, "drain", "h1")
    assert "h1 is stopped and owns nothing: started again, it takes nothing until it is resumed" in ran.out


def test_resume_says_whether_the_worker_takes_tasks(api: FakeApi) -> None:
    api.workers = [worker(draining=True, state="drained"), worker("h2", "stopped", draining=True)]
    assert workers(api, "resume", "h1").out == "h1 takes tasks again\n"
    assert "start it with `sandbox worker --name h2`" in workers(api, "resume", "h2").out
    assert json.loads(workers(api, "resume", "h1", "--format", "json").out)["draining"] is False


def test_remove_forgets_a_stopped_worker(api: FakeApi) -> None:
    api.workers = [worker(state="stopped"), worker("h2", "lost")]
    assert workers(api, "remove", "h1").out == "h1 removed; started again, it registers anew\n"
    assert json.loads(workers(api, "remove", "h2", "--format", "json").out) == {"name": "h2", "removed": True}
    assert api.workers == []


def test_a_worker_in_use_is_4_and_force_is_sent_only_when_it_is_given(api: FakeApi) -> None:
    api.workers = [worker(state="lost", task_ids=["a"])]
    ran = workers(api, "remove", "h1", "--yes")
    assert ran.code == 4
    assert "worker_in_use" in ran.err
    assert workers(api, "remove", "h1", "--force", "--yes").code == 0
    assert [sent.query for sent in api.requests("DELETE", "/h1")] == [[], [("force", "true")]]


def test_a_name_is_one_segment_of_the_address(api: FakeApi) -> None:
    api.workers = [worker("a b?c#d")]
    with Client(api.url) as client:
        assert client.worker("a b?c#d")["name"] == "a b?c#d"
        with pytest.raises(NotFound):
            client.remove_worker("../tasks/t")
    assert len(api.seen) == 1
