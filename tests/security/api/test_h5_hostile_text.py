"""H5: text that a stranger chose comes back as JSON, text or bytes that no browser renders, on every route."""

from __future__ import annotations

import io
import json
import tarfile
from urllib.parse import quote

import pytest

from orchestrator.models import Claim
from orchestrator.outcomes import Outcome, Reason
from orchestrator.services.conclude import conclude
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from workers.collect import name_fault

STRINGS = {
    "script": "<script>alert(1)</script>",
    "handler": "<img src=x onerror=alert(1)>",
    "attribute": "\"'><svg/onload=alert(1)>",
    "address": "javascript:alert(1)//",
    "template": "{{7*7}}${7*7}<%= 7*7 %>",
    "end of data": "]]></script><!--",
    "terminal": "\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil.example/\x07x\x1b[2J",
    "direction": "a\u202egpj.exe",
    "separators": "a\u2028b\u2029c",
}
SAFE_TYPES = {"application/json", "text/event-stream", "text/plain", "application/octet-stream", "application/gzip"}
ROUTES = [
    "/api/v1/tasks", "/api/v1/tasks?label.k={text}", "/api/v1/tasks/{id}", "/api/v1/tasks/{id}/logs",
    "/api/v1/tasks/{id}/logs?format=raw", "/api/v1/tasks/{id}/logs?follow=true", "/api/v1/tasks/{id}/artifacts",
    "/api/v1/tasks/{id}/artifacts/{text}", "/api/v1/tasks/{id}/artifacts.tar.gz", "/metrics", "/api/v1/workers",
    # What is refused quotes what was sent:
    "/api/v1/tasks/{text}", "/api/v1/tasks?state={text}", "/api/v1/tasks?{text}=1", "/api/v1/workers/{text}",
    "/{text}", "/api/v1/tasks/{id}/artifacts/{text}{text}",
]  # fmt: skip


def artifact_name(text: str) -> str:
    """`text`, where a worker would store an artifact of that name."""
    return "plain" if name_fault(text) else text


def left_behind(client: CheckedClient, host: BuildHost, text: str) -> Claim:
    """A task that has put `text` wherever a task or its user can."""
    manifest = json.loads(
        json.dumps(client.post("/api/v1/tasks?dry_run=true", data=MANIFEST, content_type="text/yaml").json)
    )
    manifest["metadata"] = {"name": text, "labels": {"k": text}, "id": "hostile"}
    answer = client.post("/api/v1/tasks", json=manifest)
    assert answer.status_code == 202, answer.text
    claim = host.run("hostile")
    host.say(claim, text)
    host.say(claim, text, stream="stderr")
    host.tell(claim, text)
    host.keep(claim, {artifact_name(text): text.encode()})
    host.end_command(claim)
    conclude(host.product, claim, Outcome(Reason.EXIT_NONZERO, text, exit_code=1, hint=text))
    return claim


@pytest.mark.parametrize("kind", STRINGS)
def test_h5_no_route_answers_hostile_text_in_a_form_that_a_browser_renders(
    client: CheckedClient, host: BuildHost, kind: str
) -> None:
    text = STRINGS[kind]
    left_behind(client, host, text)
    for route in ROUTES:
        for accept in ("*/*", "text/html"):
            asked = artifact_name(text) if "artifacts/{text}" in route else text
            answer = client.get(route.format(id="hostile", text=quote(asked, safe="")), headers={"Accept": accept})
            where = f"{route} for {accept}"
            assert answer.mimetype in SAFE_TYPES, f"{where}: {answer.headers['Content-Type']}"
            assert answer.headers["X-Content-Type-Options"] == "nosniff", where
            if answer.mimetype == "application/octet-stream":
                assert answer.headers["Content-Disposition"].startswith("attachment"), where
                assert answer.headers["Content-Security-Policy"] == "sandbox", where
            assert not any(ord(char) < 32 for value in answer.headers.values() for char in str(value)), where


@pytest.mark.parametrize("kind", STRINGS)
def test_h5_hostile_text_arrives_as_it_was_written(client: CheckedClient, host: BuildHost, kind: str) -> None:
    text = STRINGS[kind]
    left_behind(client, host, text)
    task = client.get("/api/v1/tasks/hostile").get_json()
    assert (task["name"], task["labels"], task["outcome"]["message"]) == (text, {"k": text}, text)
    assert task["state_message"] == text
    answer = client.get("/api/v1/tasks/hostile/logs?stream=stdout&format=ndjson").get_data(as_text=True)
    lines = answer.removesuffix("\n").split("\n")
    assert "".join(json.loads(line)["data"] for line in lines) == text
    [artifact] = client.get("/api/v1/tasks/hostile/artifacts").get_json()["artifacts"]
    assert artifact["path"] == artifact_name(text)
    assert client.get(artifact["download_url"]).data == text.encode()
    with tarfile.open(fileobj=io.BytesIO(client.get("/api/v1/tasks/hostile/artifacts.tar.gz").data)) as archive:
        assert archive.getnames() == ["metadata.json", artifact_name(text)]
