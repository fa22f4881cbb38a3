"""Every example is submitted to a running product as a user would, and must end as `scenarios.yaml` says.

Plain HTTP on purpose: this is the contract as any client sees it, not as our own client reads it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import pytest
import yaml

from tests.e2e.repositories import Repository, apply_patch, make_repository

EXAMPLES = Path(__file__).parents[2] / "examples"
_DATA = Path(__file__).with_name("scenarios.yaml")
SCENARIOS: list[dict[str, Any]] = yaml.safe_load(_DATA.read_text())["scenarios"]
PATIENCE_SECONDS = 180.0

Json = dict[str, Any]
T = TypeVar("T")


class Product(Protocol):
    """What the `product` fixture gives: a running product on loopback."""

    @property
    def url(self) -> str: ...


@pytest.fixture
def http(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=product.url, timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def small_repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_repository(tmp_path_factory.mktemp("repositories") / "greeter")


@pytest.fixture
def submit(http: httpx.Client) -> Iterator[Callable[[bytes], str]]:
    """Submit manifests; afterwards, whatever the test found, end the tasks and remove what they left."""
    submitted: list[str] = []

    def post(manifest: bytes) -> str:
        answer = http.post("/api/v1/tasks", content=manifest, headers={"Content-Type": "application/yaml"})
        assert answer.status_code == 202, answer.text
        submitted.append(answer.json()["task_id"])
        assert answer.headers["Location"] == answer.json()["links"]["self"]
        return submitted[-1]

    yield post
    for task_id in submitted:
        http.delete(f"/api/v1/tasks/{task_id}", params={"force": "true", "wait": "60"})
        removed = http.delete(f"/api/v1/tasks/{task_id}/data")
        assert removed.status_code == 204, removed.text
        assert _json(http, f"/api/v1/tasks/{task_id}")["purged_at"] is not None


@pytest.mark.docker
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario["name"]))
def test_the_example_ends_as_its_scenario_says(
    scenario: Json,
    http: httpx.Client,
    submit: Callable[[bytes], str],
    small_repository: Repository,
    tmp_path: Path,
) -> None:
    words = {"{repository_url}": small_repository.url, "{commit}": small_repository.head}
    task_id = submit(_manifest(scenario, words))
    expect = _filled(scenario["expect"], {**words, "{task_id}": task_id})
    if "cancel_when_logged" in scenario:
        _cancel_when_logged(http, task_id, scenario["cancel_when_logged"])

    task = _until(lambda: _ended(http, task_id), f"task {task_id} ({scenario['name']}) has not ended")
    records = _records(http, task_id)

    assert _facts(task, expect) == _facts_expected(expect), json.dumps([task, records], indent=1)
    assert _states(records) == expect["states"]
    for stream in ("stdout", "stderr"):
        printed = _joined(records, stream).splitlines()
        assert [line for line in expect.get(stream, []) if line not in printed] == [], printed
    said = _joined(records, "system")
    assert [text for text in expect.get("system", []) if text not in said] == [], said
    _check_artifacts(http, task_id, expect["artifacts"])
    for artifact in expect["artifacts"]:
        if "applies" in artifact:
            patch = _download(http, task_id, artifact["path"]).content
            clone = apply_patch(small_repository, patch, tmp_path / "clone")
            assert {name: (clone / name).read_text() for name in artifact["applies"]} == artifact["applies"]


def test_every_example_has_a_scenario() -> None:
    examples = {path.name for path in EXAMPLES.glob("*.yaml")}
    assert {scenario["manifest"] for scenario in SCENARIOS} == examples


def _manifest(scenario: Json, words: dict[str, str]) -> bytes:
    """The example as it lies there; read and written anew only where the scenario changes a field."""
    text = EXAMPLES.joinpath(scenario["manifest"]).read_bytes()
    if "set" not in scenario:
        return text
    manifest = yaml.safe_load(text)
    for path, value in _filled(scenario["set"], words).items():
        *parents, last = path.split(".")
        place = manifest
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    changed: str = yaml.safe_dump(manifest, sort_keys=False)
    return changed.encode()


def _filled(value: Any, words: dict[str, str]) -> Any:
    """Replace the placeholders in every text, names included."""
    if isinstance(value, dict):
        return {_filled(key, words): _filled(one, words) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, words) for one in value]
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(word, meaning)
    return value


def _until(look: Callable[[], T | None], failure: str) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{failure} within {PATIENCE_SECONDS:g} s")


def _json(http: httpx.Client, path: str) -> Json:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def _ended(http: httpx.Client, task_id: str) -> Json | None:
    task = _json(http, f"/api/v1/tasks/{task_id}")
    return task if task["finished_at"] is not None else None


def _records(http: httpx.Client, task_id: str) -> list[Json]:
    answer = http.get(f"/api/v1/tasks/{task_id}/logs", params={"format": "ndjson", "attempt": "all"})
    assert answer.status_code == 200, answer.text
    # Not splitlines(): it also splits at characters that may stand unescaped inside a JSON text.
    return [json.loads(line) for line in answer.text.split("\n") if line]


def _joined(records: list[Json], stream: str) -> str:
    return "".join(record["data"] for record in records if record["stream"] == stream)


def _states(records: list[Json]) -> list[str]:
    """The states after the first `pending`, which a submission may or may not record as a change."""
    changes = [record["new_state"] for record in records if record.get("type") == "state_change"]
    return changes[1:] if changes[:1] == ["pending"] else changes


def _facts(task: Json, expect: Json) -> Json:
    """What the scenario compares of a task."""
    facts = {
        "state": task["state"],
        "reason": task["outcome"]["reason"],
        "fault": task["outcome"]["fault"],
        "exit_code": task["exit_code"],
        "attempts": len(task["attempts"]),
        "commit": task["attempts"][-1]["commit"],
        "percent": task["progress"]["percent"],
        "text": task["progress"]["text"],
        "outputs": task["outputs"],
        "used": [name for name in expect.get("used", ()) if task["usage"][name]],
    }
    return {name: value for name, value in facts.items() if name in expect}


def _facts_expected(expect: Json) -> Json:
    names = ("state", "reason", "fault", "exit_code", "attempts", "commit", "percent", "text", "outputs", "used")
    return {name: expect[name] for name in names if name in expect}


def _cancel_when_logged(http: httpx.Client, task_id: str, text: str) -> None:
    def seen() -> bool | None:
        log = http.get(f"/api/v1/tasks/{task_id}/logs", params={"format": "raw", "stream": "stdout"})
        assert log.status_code == 200, log.text
        assert _ended(http, task_id) is None, f"task {task_id} ended before it printed {text!r}"
        return True if text.encode() in log.content else None

    _until(seen, f"task {task_id} has not printed {text!r}")
    answer = http.delete(f"/api/v1/tasks/{task_id}", params={"reason": "the scenario says so", "wait": "100"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["previous_state"], answer.json()["new_state"]) == ("running", "cancelled")


def _download(http: httpx.Client, task_id: str, path: str) -> httpx.Response:
    listed = _json(http, f"/api/v1/tasks/{task_id}/artifacts")["artifacts"]
    answer = http.get(next(one["download_url"] for one in listed if one["path"] == path))
    assert answer.status_code == 200, answer.text
    return answer


def _check_artifacts(http: httpx.Client, task_id: str, expected: list[Json]) -> None:
    listing = _json(http, f"/api/v1/tasks/{task_id}/artifacts")
    listed = {one["path"]: one for one in listing["artifacts"]}
    assert set(listed) == {one["path"] for one in expected}
    assert listing["total_count"] == len(expected)
    assert listing["total_size_bytes"] == sum(one["size_bytes"] for one in listed.values())
    for one in expected:
        stored, answer = listed[one["path"]], _download(http, task_id, one["path"])
        sha256 = hashlib.sha256(answer.content).hexdigest()
        assert (stored["checksum"], stored["size_bytes"]) == (f"sha256:{sha256}", len(answer.content))
        assert answer.headers["X-Checksum-SHA256"] == sha256
        assert one.get("sha256", sha256) == sha256
        assert one.get("size_bytes", stored["size_bytes"]) == stored["size_bytes"]
        assert one.get("content", answer.text) == answer.text
        assert [text for text in one.get("contains", []) if text not in answer.text] == []
