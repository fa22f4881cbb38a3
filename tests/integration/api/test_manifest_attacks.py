"""The table of hostile manifests (isolation-and-faults.md §5.1), and whatever else comes as bytes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST

YAML, JSON = "application/yaml", "application/json"
SECONDS = 10
"""An alarm, not a measure: what hangs never ends."""


@contextmanager
def alarm() -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the request took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def with_(**sections: Any) -> str:
    return json.dumps({**yaml.safe_load(MANIFEST), **sections})


def script(text: str) -> str:
    return MANIFEST.replace('script: "true"', f"script: {text}")


BILLION_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)
)

ATTACKS = {
    "deep YAML": (YAML, "[" * 100_000),
    "deep YAML block": (YAML, "\n".join(" " * n + "- a:" for n in range(500))),
    "deep JSON": (JSON, "[" * 100_000),
    "deep closed JSON": (JSON, "[" * 100_000 + "]" * 100_000),
    "deep JSON objects": (JSON, '{"a":' * 100_000),
    "billion laughs": (YAML, BILLION_LAUGHS),
    "merge bomb": (YAML, MERGE_BOMB),
    "cyclic alias": (YAML, "a: &a [*a]\n"),
    "python object": (YAML, "!!python/object/apply:os.system ['touch /tmp/pwn']"),
    "a tag in a value": (YAML, script("!!binary aGVsbG8=")),
    "a local tag": (YAML, script("!secret x")),
    "duplicate keys in YAML": (YAML, MANIFEST + "priority: 1\npriority: 2\n"),
    "duplicate keys in JSON": (JSON, '{"version": "1", "version": "1"}'),
    "several documents": (YAML, MANIFEST + "---\n" + MANIFEST),
    "a huge integer in YAML": (YAML, MANIFEST + f"priority: {'9' * 5000}\n"),
    "a huge integer in JSON": (JSON, '{"priority": ' + "9" * 5000 + "}"),
    "a huge exponent": (JSON, '{"priority": 1e999999}'),
    "NaN in JSON": (JSON, with_().replace('"cpus": 1', '"cpus": NaN')),
    "Infinity in JSON": (JSON, with_().replace('"cpus": 1', '"cpus": Infinity')),
    "minus Infinity in JSON": (JSON, with_().replace('"cpus": 1', '"cpus": -Infinity')),
    ".nan in YAML": (YAML, MANIFEST.replace("cpus: 1", "cpus: .nan")),
    ".inf in YAML": (YAML, MANIFEST.replace("cpus: 1", "cpus: .inf")),
    "a lone surrogate in JSON": (JSON, with_(run={"script": "\ud800"})),
    "a lone surrogate as a key": (JSON, with_(run={"script": "true", "env": {"\udfff": "x"}})),
    "a lone surrogate in YAML": (YAML, script(r'"\ud800"')),
    "NUL in JSON": (JSON, with_(run={"script": "a\x00b"})),
    "NUL in YAML": (YAML, script(r'"a\0b"')),
    "a raw NUL": (YAML, script("'a\x00b'")),
    "NUL in the name": (JSON, with_(metadata={"name": "a\x00b"})),
    "a million small maps": (YAML, "a:\n" + "- {b: c}\n" * 60_000),
    "many nodes in JSON": (JSON, '{"a": [' + "0," * 60_000 + "0]}"),
    "an environment name with =": (JSON, with_(run={"script": "true", "env": {"A=B": "x"}})),
    "LD_PRELOAD": (JSON, with_(run={"script": "true", "env": {"LD_PRELOAD": "/tmp/x.so"}})),
    "HTTP_PROXY": (JSON, with_(run={"script": "true", "env": {"http_proxy": "http://x"}})),
    "PATH": (JSON, with_(run={"script": "true", "env": {"PATH": "/x"}})),
    "a NUL in the environment": (JSON, with_(run={"script": "true", "env": {"A": "\x00"}})),
    "an artifact pattern above the workspace": (JSON, with_(lifecycle={"artifact_patterns": ["../x"]})),
    "an absolute artifact pattern": (JSON, with_(lifecycle={"artifact_patterns": ["/etc/*"]})),
    "65 artifact patterns": (JSON, with_(lifecycle={"artifact_patterns": [f"{n}" for n in range(65)]})),
    "a long artifact pattern": (JSON, with_(lifecycle={"artifact_patterns": ["x" * 257]})),
    "a NUL in an artifact pattern": (JSON, with_(lifecycle={"artifact_patterns": ["\x00"]})),
    "a local repository": (JSON, with_(repository={"url": "file:///etc"})),
    "an ext repository": (JSON, with_(repository={"url": "ext::sh -c touch% /tmp/pwn"})),
    "a repository that is an option": (JSON, with_(repository={"url": "--upload-pack=touch /tmp/pwn"})),
    "a branch that is an option": (JSON, with_(repository={"url": "https://host/x", "branch": "--orphan=zz"})),
    "a subpath above": (JSON, with_(repository={"url": "https://host/x", "subpath": "../.."})),
    "an image of nobody": (JSON, with_(run={"script": "true", "image": "evil/image"})),
    "a YAML list": (YAML, "- a\n- b\n"),
    "a scalar": (YAML, "just text"),
    "null": (JSON, "null"),
    "nothing": (YAML, ""),
    "blanks": (YAML, " \n\t\n"),
    "a lone byte order mark": (YAML, "\ufeff"),
    "JSON with trailing text": (JSON, with_() + "x"),
    "YAML as JSON": (JSON, MANIFEST),
    "an id as long as a novel": (JSON, with_(metadata={"name": "x", "id": "x" * 129})),
    "an id with a slash": (JSON, with_(metadata={"name": "x", "id": "../x"})),
    "an id with a line end": (JSON, with_(metadata={"name": "x", "id": "x\n"})),
    "65 labels": (JSON, with_(metadata={"name": "x", "labels": {f"k{n}": "" for n in range(65)}})),
    "memory beyond every number": (JSON, with_(vm={"memory": "9" * 400 + "G"})),
    "a timeout beyond every number": (JSON, with_(lifecycle={"timeout": "9" * 400 + "s"})),
}
BYTES = {
    "not UTF-8": b"\xff\xfe\xfd",
    "UTF-16": MANIFEST.encode("utf-16"),
    "UTF-32": MANIFEST.encode("utf-32"),
    "half a character": MANIFEST.encode() + b"\xe2\x82",
    "an encoded surrogate": MANIFEST.encode() + b"# \xed\xa0\x80\n",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_manifest_is_400_stores_nothing_and_the_next_request_is_answered(
    client: CheckedClient, name: str
) -> None:
    content_type, body = ATTACKS[name]
    _refused(client, content_type, body.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("content_type", [YAML, JSON])
@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_text_are_400(client: CheckedClient, name: str, content_type: str) -> None:
    _refused(client, content_type, BYTES[name])


def _refused(client: CheckedClient, content_type: str, body: bytes) -> None:
    with alarm():
        response = client.post("/api/v1/tasks", data=body, content_type=content_type)
    assert response.status_code == 400, response.text
    assert response.json
    assert response.json["error"] == "invalid_manifest"
    assert response.json["errors"]
    assert len(response.text) < 1 << 20
    with alarm():
        assert client.get("/api/v1/tasks").json["total_count"] == 0  # type: ignore[index]
        assert client.submit().status_code == 202


def test_both_lines_of_a_duplicate_key_are_told(client: CheckedClient) -> None:
    body = client.submit(MANIFEST + "priority: 1\npriority: 2\n").json
    assert body
    assert body["details"]["line"] == 7
    assert "6" in body["details"]["message"]


def test_the_tag_that_is_refused_is_named(client: CheckedClient) -> None:
    assert "python/object" in client.submit("!!python/object/apply:os.system ['x']").text


def test_words_that_yaml_1_1_turns_into_something_else_arrive_as_written(client: CheckedClient) -> None:
    manifest = MANIFEST.replace(
        "{name: A task}",
        "{name: 2026-01-29, labels: {a: no, b: 22:22, c: 010, d: 1_000, e: 12:30:45, f: 1.10, g: off, h: ~x}}",
    )
    task_id = client.submit(manifest).json["task_id"]  # type: ignore[index]
    task = client.get(f"/api/v1/tasks/{task_id}").json
    assert task
    assert task["name"] == "2026-01-29"
    assert task["labels"] == {
        "a": "no", "b": "22:22", "c": "010", "d": "1_000", "e": "12:30:45", "f": "1.10", "g": "off", "h": "~x",
    }  # fmt: skip


def test_a_whole_number_written_with_a_point_is_an_integer(client: CheckedClient) -> None:
    task_id = client.submit(MANIFEST + "priority: 4.0\n").json["task_id"]  # type: ignore[index]
    assert '"priority":4,' in client.get(f"/api/v1/tasks/{task_id}").text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
SECTIONS = (
    "version", "kind", "metadata", "repository", "claude", "run", "vm", "secrets", "lifecycle", "priority", "parent_id",
)  # fmt: skip
PROPERTY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@PROPERTY
@given(body=st.binary(max_size=300), content_type=st.sampled_from([YAML, JSON, "text/plain", "", "text/yaml"]))
@example(body=b"", content_type="")
@example(body=b"%YAML 9.9\n---\n", content_type=YAML)
@example(body=b"? ? ?", content_type=YAML)
@example(body=b"\x85\xe2\x80\xa8", content_type=YAML)
def test_arbitrary_bytes_never_fail_the_server(client: CheckedClient, body: bytes, content_type: str) -> None:
    with alarm():
        response = client.post("/api/v1/tasks", data=body, content_type=content_type or None)
    assert response.status_code in {202, 400, 413, 415, 507}, (body, response.text)


@PROPERTY
@given(document=st.dictionaries(st.sampled_from(SECTIONS), JSON_VALUES, max_size=6))
def test_arbitrary_json_in_known_places_never_fails_the_server(client: CheckedClient, document: dict[str, Any]) -> None:
    body = json.dumps({**yaml.safe_load(MANIFEST), **document}).encode("utf-8", "surrogatepass")
    with alarm():
        response = client.post("/api/v1/tasks", data=body, content_type=JSON)
    assert response.status_code in {202, 400, 507}, (body, response.text)


@PROPERTY
@given(text=st.text(alphabet=st.sampled_from("[]{}:,-?&*!|>'\"%@`# \n\ttrue~0x\\e\u2028\ufeff"), max_size=60))
def test_arbitrary_yaml_punctuation_never_fails_the_server(client: CheckedClient, text: str) -> None:
    with alarm():
        response = client.submit(text)
    assert response.status_code in {202, 400}, (text, response.text)


@PROPERTY
@given(patch=JSON_VALUES)
@example(patch={"metadata": None})
@example(patch={"metadata": {"labels": None, "id": "../x"}})
@example(patch={"run": None})
@example(patch={"vm": {"cpus": 1e308}})
def test_an_arbitrary_merge_patch_never_fails_the_server(client: CheckedClient, patch: Any) -> None:
    listed = client.get("/api/v1/tasks", query_string={"order": "asc", "limit": 1}).json["tasks"]  # type: ignore[index]
    task_id = listed[0]["id"] if listed else client.task()
    body = json.dumps(patch).encode("utf-8", "surrogatepass")
    with alarm():
        response = client.post(f"/api/v1/tasks/{task_id}/rerun", data=body, content_type="application/merge-patch+json")
    assert response.status_code in {202, 400, 507}, (body, response.text)
