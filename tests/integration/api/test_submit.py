from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import yaml
from jsonschema import Draft202012Validator

import schemas
from orchestrator.product import Product
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost, broker_of
from tests.integration.api.test_errors import assert_error

TYPES = ("application/yaml", "text/yaml", "application/x-yaml", "application/json", "Application/YAML; charset=UTF-8")
TASKS = "/api/v1/tasks"


def stored(client: CheckedClient) -> int:
    return int(client.get(TASKS).json["total_count"])  # type: ignore[index]


@pytest.mark.parametrize("content_type", TYPES)
def test_a_manifest_is_accepted_in_every_content_type(client: CheckedClient, content_type: str) -> None:
    manifest = json.dumps(yaml.safe_load(MANIFEST)) if "json" in content_type else MANIFEST
    response = client.post(TASKS, data=manifest, content_type=content_type)
    assert response.status_code == 202
    body = response.json
    assert body
    assert response.headers["Location"] == body["links"]["self"] == f"{TASKS}/{body['task_id']}"
    assert body["state"] == "pending"
    task = client.get(body["links"]["self"]).json
    assert task
    assert task["id"] == task["task_id"] == body["task_id"]
    assert task["created_at"] == body["created_at"]
    assert client.get(body["links"]["artifacts"]).status_code == 200
    assert client.get(body["links"]["logs"]).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/octet-stream", "multipart/form-data", "application/x-www-form-urlencoded",
     "application/yaml; charset=utf-16", "application/merge-patch+json", "yaml", "application/yamlx"],
)  # fmt: skip
def test_another_content_type_or_none_is_415_and_nothing_is_stored(
    client: CheckedClient, content_type: str | None
) -> None:
    response = client.post(TASKS, data=MANIFEST, content_type=content_type)
    body = assert_error(response, 415, "unsupported_content_type")
    assert "application/yaml" in str(body["message"])
    assert stored(client) == 0


def test_two_mebibytes_are_read_and_one_byte_more_is_413(client: CheckedClient) -> None:
    padding = "# " + "x" * 70 + "\n"
    room = (2 << 20) - len(MANIFEST)
    exact = MANIFEST + (padding * (room // len(padding) + 1))[:room]
    assert client.submit(exact).status_code == 202
    assert_error(client.submit(exact + "x"), 413, "manifest_too_large")
    assert stored(client) == 1


class _Endless:
    """A body without a length: the server must count."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += 1 << 16
        return b"#" * (1 << 16 if size < 0 else min(size, 1 << 16))


@pytest.mark.parametrize("path", ["/tasks", "/tasks/{id}/rerun"])
def test_a_body_without_a_length_is_counted_and_refused_at_two_mebibytes(client: CheckedClient, path: str) -> None:
    path = f"/api/v1{path}".format(id=client.task() if "{" in path else "")
    body = _Endless()
    terminated = {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    response = client.post(path, content_type="application/yaml", environ_overrides=terminated)
    assert_error(response, 413, "manifest_too_large")
    assert body.given < 4 << 20
    assert client.get(TASKS).status_code == 200


def test_a_task_keeps_its_own_id_name_labels_and_priority(client: CheckedClient) -> None:
    manifest = yaml.safe_load(MANIFEST)
    manifest["metadata"] = {"id": "build.1_x-2", "name": "Ünïcode – 名前", "labels": {"team": "platform", "a/b.c": ""}}
    manifest["priority"] = -100
    assert client.submit(yaml.safe_dump(manifest)).status_code == 202
    task = client.get(f"{TASKS}/build.1_x-2").json
    assert task
    assert (task["name"], task["labels"], task["priority"]) == (
        "Ünïcode – 名前",
        {"team": "platform", "a/b.c": ""},
        -100,
    )
    Draft202012Validator(schemas.load(schemas.TASK)).validate(task["definition"])
    assert task["definition"]["vm"]["memory"] == "256M"
    assert task["definition"]["lifecycle"]["timeout"] == "24h"


def test_a_password_in_the_repository_s_url_is_not_shown(client: CheckedClient) -> None:
    manifest = yaml.safe_load(MANIFEST)
    manifest["metadata"]["id"] = "cloned"
    manifest["repository"] = {"url": "https://me:hunter2@git.example:8443/a"}
    assert client.submit(yaml.safe_dump(manifest)).status_code == 202
    answer = client.get(f"{TASKS}/cloned")
    assert answer.json
    assert answer.json["definition"]["repository"]["url"] == "https://git.example:8443/a"
    assert "hunter2" not in answer.get_data(as_text=True)


def test_a_dry_run_answers_the_manifest_with_its_defaults_and_stores_nothing(client: CheckedClient) -> None:
    response = client.submit(query_string={"dry_run": "true"})
    assert response.status_code == 200
    definition = response.json
    Draft202012Validator(schemas.load(schemas.TASK)).validate(definition)
    assert definition
    assert definition["lifecycle"]["stop_grace"] == "10s"
    assert stored(client) == 0
    again = client.post(TASKS, json=definition, query_string={"dry_run": "1"})
    assert again.json == definition


@pytest.mark.parametrize("value", ["false", "0", "False"])
def test_a_dry_run_that_is_off_submits(client: CheckedClient, value: str) -> None:
    assert client.submit(query_string={"dry_run": value}).status_code == 202
    assert stored(client) == 1


def test_a_dry_run_of_a_bad_manifest_answers_every_error(client: CheckedClient) -> None:
    bad = 'version: "2"\nkind: Tusk\nmetadata: {}\nrun: {}\n'
    response = client.submit(bad, query_string={"dry_run": "true"})
    body = assert_error(response, 400, "invalid_manifest")
    errors = body["errors"]
    assert isinstance(errors, list)
    assert body["details"] == errors[0]
    assert {"version", "kind", "metadata.name"} <= {error["field"] for error in errors}
    lines = {error["field"]: error["line"] for error in errors}
    assert (lines["version"], lines["kind"]) == (1, 2)


def test_a_taken_id_is_409_and_says_which_task_has_it(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task(id="twice")
    host.run(task_id)
    body = assert_error(client.submit(MANIFEST.replace("name: A", "id: twice, name: A")), 409, "duplicate_task_id")
    task = client.get(f"{TASKS}/{task_id}").json
    assert task
    assert body["existing_task"] == {"id": "twice", "state": "running", "created_at": task["created_at"]}
    assert stored(client) == 1


def test_the_word_that_the_event_stream_has_is_no_id(client: CheckedClient) -> None:
    assert_error(client.submit(MANIFEST.replace("name: A", "id: stream, name: A")), 400, "invalid_manifest")


def test_an_unknown_parent_is_refused_and_a_known_one_kept(client: CheckedClient) -> None:
    assert_error(client.submit(MANIFEST + "parent_id: nobody\n"), 400, "invalid_manifest")
    parent = client.task()
    child = client.submit(MANIFEST + f"parent_id: {parent}\n").json
    assert child
    assert client.get(TASKS, query_string={"parent_id": parent}).json["tasks"][0]["id"] == child["task_id"]  # type: ignore[index]


def test_the_same_key_and_body_is_the_same_task(client: CheckedClient) -> None:
    first = client.submit(headers={"Idempotency-Key": "nightly-42"})
    second = client.submit(headers={"Idempotency-Key": "nightly-42"})
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json
    assert first.headers["Location"] == second.headers["Location"]
    assert stored(client) == 1
    assert client.submit(headers={"Idempotency-Key": "nightly-43"}).json != first.json
    assert client.submit().json != first.json
    assert stored(client) == 3


def test_a_rerun_with_the_same_key_is_the_same_new_task(client: CheckedClient) -> None:
    old, other = client.task(), client.task()
    key = {"Idempotency-Key": "again"}
    answers = [client.post(f"{TASKS}/{old}/rerun", headers=key) for _ in range(2)]
    assert [one.status_code for one in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    assert stored(client) == 3
    changed = client.post(f"{TASKS}/{old}/rerun", headers=key, json={"priority": 1})
    assert_error(changed, 422, "idempotency_key_reused")
    assert_error(client.post(f"{TASKS}/{other}/rerun", headers=key), 422, "idempotency_key_reused")
    assert stored(client) == 3


def test_the_same_key_with_another_body_is_422(client: CheckedClient) -> None:
    client.submit(headers={"Idempotency-Key": "k"})
    other = client.submit(MANIFEST.replace("cpus: 1", "cpus: 2"), headers={"Idempotency-Key": "k"})
    body = assert_error(other, 422, "idempotency_key_reused")
    assert "'k'" in str(body["message"])
    assert stored(client) == 1


def test_a_key_that_came_with_a_refused_manifest_is_still_free(client: CheckedClient) -> None:
    assert client.submit("version: 1", headers={"Idempotency-Key": "k"}).status_code == 400
    assert client.submit(headers={"Idempotency-Key": "k"}).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_empty_or_over_255_characters_is_refused(client: CheckedClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    for answer in (client.submit(headers=headers), client.submit(headers=headers, query_string={"dry_run": "true"})):
        assert assert_error(answer, 400, "invalid_parameter")["details"] == {"parameter": "Idempotency-Key"}
    assert stored(client) == 0


def test_a_key_of_255_characters_is_taken(client: CheckedClient) -> None:
    assert client.submit(headers={"Idempotency-Key": "é" * 255}).status_code == 202


def test_twenty_requests_with_one_key_at_the_same_time_store_one_task(client: CheckedClient) -> None:
    answers: list[object] = []

    def send() -> None:
        answers.append(client.application.test_client().post(
            TASKS, data=MANIFEST, content_type="text/yaml", headers={"Idempotency-Key": "one"}
        ).json["task_id"])  # fmt: skip  # type: ignore[index]

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert len(set(answers)) == 1
    assert stored(client) == 1


def test_a_broker_that_is_away_keeps_no_task_from_being_accepted(
    client: CheckedClient, product: Product, host: BuildHost
) -> None:
    broker_of(product).down = True
    task_id = client.task()
    assert client.get(f"{TASKS}/{task_id}").json["worker"] == host.name  # type: ignore[index]
    assert broker_of(product).attempts == []


def test_an_accepted_task_is_announced_to_its_worker(client: CheckedClient, product: Product, host: BuildHost) -> None:
    task_id = client.task()
    assert broker_of(product).attempts == [(host.name, task_id, 1)]


def many(client: CheckedClient) -> Iterator[str]:
    for number in range(7):
        labels = f"{{team: {'a' if number % 2 else 'b'}, number: '{number}'}}"
        yield client.task(id=f"t{number}", name=f"n{6 - number}", labels=labels)


def test_the_list_pages_sorts_and_filters(client: CheckedClient, host: BuildHost) -> None:
    ids = list(many(client))
    host.run("t3")

    def page(**query: object) -> tuple[list[str], dict[str, object]]:
        body = client.get(TASKS, query_string=query).json
        assert body
        return [task["id"] for task in body["tasks"]], body

    assert page()[0] == ids[::-1]
    assert page(order="asc")[0] == ids
    assert page(sort="name", order="asc")[0] == ids[::-1]
    assert page(state="running,staging")[0] == ["t3"]
    assert page(state="pending, running")[1]["total_count"] == 7
    assert page(sort="started_at", order="desc", limit=1)[0] == ["t3"]
    assert page(sort="started_at", order="asc", limit=1)[0] == ["t3"]
    assert page(sort="state_changed_at", limit=1)[0] == ["t3"]
    assert page(label="team=a", order="asc")[0] == ["t1", "t3", "t5"]
    assert page(**{"label.team": "a", "label.number": "3"})[0] == ["t3"]
    assert page(**{"label.team": "a", "label": "number=3"})[0] == ["t3"]
    assert page(label=["team=a", "number=4"])[0] == []
    assert page(label="team=")[0] == []
    ids, body = page(limit=3, offset=2, order="asc")
    assert ids == ["t2", "t3", "t4"]
    assert (body["total_count"], body["limit"], body["offset"], body["has_more"]) == (7, 3, 2, True)
    assert page(limit=3, offset=4)[1]["has_more"] is False
    assert page(offset=2**63 - 1)[0] == []


def test_more_labels_than_a_task_can_have_are_refused(client: CheckedClient) -> None:
    query = [("label", f"k{number}=v") for number in range(1200)]
    assert client.get(TASKS, query_string=query[:64]).json["total_count"] == 0  # type: ignore[index]
    assert_error(client.get(TASKS, query_string=query), 400, "invalid_parameter")


def test_what_a_task_shows_grows_with_its_life(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    path = f"{TASKS}/{task_id}"
    before = client.get(path).json
    assert before
    assert (before["attempt"], before["attempts"], before["vm_name"], before["started_at"]) == (0, [], None, None)
    claim = host.run(task_id)
    host.say(claim, "hello\n")
    running = client.get(path).json
    assert running
    assert running["state"] == "running"
    assert running["progress"]["output_bytes"] == 6
    assert running["progress"]["last_activity_at"]
    assert running["worker"] == host.name
    assert [one["attempt"] for one in running["attempts"]] == [1]
    host.exit(claim, 3)
    ended = client.get(path).json
    assert ended
    assert (ended["state"], ended["exit_code"], ended["outcome"]["reason"]) == ("failed", 3, "exit_nonzero")
    assert ended["outcome"]["fault"] == "user"
    assert ended["started_at"] == running["started_at"]
    assert ended["finished_at"]
    listed = client.get(TASKS).json
    assert listed
    assert {key: ended[key] for key in listed["tasks"][0]} == listed["tasks"][0]
