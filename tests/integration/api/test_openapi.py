"""The published documents: valid, complete, and about this application. What it answers is checked in `conftest`."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate as validate_document

import schemas
from orchestrator.outcomes import Reason
from orchestrator.states import State
from tests.integration.api import openapi
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.test_errors import UNKNOWN


def test_the_document_is_valid_openapi() -> None:
    validate_document(openapi.DOCUMENT)


def test_the_document_is_served_as_it_is(client: CheckedClient) -> None:
    assert json.loads(client.get("/api/v1/openapi.json").data) == json.loads(json.dumps(openapi.DOCUMENT))


def test_the_manifests_schema_is_served_as_it_is(client: CheckedClient) -> None:
    response = client.get("/api/v1/schemas/task")
    assert response.mimetype == "application/schema+json"
    schema = json.loads(response.data)
    assert schema == schemas.load(schemas.TASK)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(yaml.safe_load(MANIFEST))


def test_every_route_is_documented_and_every_documented_route_is_there(app: Flask) -> None:
    served = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("page."):  # for people, and no part of the API
            continue
        template = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        served |= {(template, method.lower()) for method in rule.methods or () if method not in ("OPTIONS", "HEAD")}
    documented = {(path, method) for path, method, _ in openapi.operations() if method != "head"}
    assert documented == served


def test_each_route_takes_exactly_the_parameters_that_are_documented(client: CheckedClient, host: BuildHost) -> None:
    client.task(id="some-task")
    seen = set()
    for path, method, operation in openapi.operations():
        if method == "head":
            continue
        url = path.format(task_id="some-task", path="report.md", name="host-1", webhook_id="wh-1", number="1")
        response = client.open(
            url, method=method.upper(), query_string={"nonsense": "1"}, data=MANIFEST, content_type="text/yaml"
        )
        assert response.json
        taken = response.json["message"].rpartition("this address takes: ")[2].split(", ")
        documented = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        assert {name for name in taken if name not in ("none", "label.")} == documented, (method, path)
        address = path.replace("{task_id}", "{id}").replace("{path}", "report.md").replace("{name}", "host-1")
        address = address.replace("{webhook_id}", "wh-1").replace("{number}", "1")
        seen.add((method.upper(), address))
    assert seen == set(UNKNOWN)


def test_states_and_reasons_are_those_of_the_product() -> None:
    assert openapi.component("TaskState")["enum"] == [state.value for state in State]
    assert openapi.component("Reason")["enum"] == [reason.value for reason in Reason]


def test_every_error_code_is_documented() -> None:
    from api import errors

    codes = {answer.error for answer in errors.TABLE.values()} | {code for code, _ in errors._HTTP.values()}
    codes |= {"internal_error", "forbidden", "artifact_not_found", "ambiguous_artifact_name", "unauthorized"}
    codes |= {"rate_limit_exceeded"}
    documented = set()
    for one in openapi.component("ErrorCode")["anyOf"]:
        documented |= set(one.get("enum", [])) | ({one["const"]} if "const" in one else set())
    assert codes == documented


def _examples() -> list[tuple[str, dict[str, object], object]]:
    found = []
    for name, schema in openapi.DOCUMENT["components"]["schemas"].items():
        found += [(name, schema, example) for example in schema.get("examples", [])]
    for name, response in openapi.DOCUMENT["components"]["responses"].items():
        for content in response.get("content", {}).values():
            if "example" in content:
                found.append((name, content["schema"], content["example"]))
    return found


@pytest.mark.parametrize(
    ("name", "schema", "example"), _examples(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_example_in_the_document_is_valid(name: str, schema: dict[str, object], example: object) -> None:
    openapi.validate(schema, example)


@pytest.mark.parametrize("name", ["CommandManifest", "AgentManifest"])
def test_every_example_manifest_is_accepted(client: CheckedClient, name: str) -> None:
    manifest = openapi.DOCUMENT["components"]["examples"][name]["value"]
    assert client.post("/api/v1/tasks?dry_run=true", json=manifest).status_code == 200


def test_an_answer_with_an_undocumented_member_fails_the_check() -> None:
    """The check itself: it must not let a member through that the document does not have."""
    body = {"status": "healthy", "parts": {"store": "ok", "broker": "ok", "artifacts": "ok", "engine": "ok"}}
    openapi.validate(openapi.component("Health"), body)
    with pytest.raises(AssertionError, match="more"):
        openapi.validate(openapi.component("Health"), {**body, "more": 1})
    with pytest.raises(AssertionError, match="status"):
        openapi.validate(openapi.component("Health"), {"parts": body["parts"]})
