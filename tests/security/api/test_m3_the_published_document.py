"""M3: requests that schemathesis makes of the published OpenAPI document, the good and the bad, find no server error.

Every answer is also held against the document twice: by schemathesis, and by the API's own `CheckedClient`, which
forbids members that are not documented.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import schemas
from api.stream.reading import Reader
from tests.integration.api.conftest import CheckedClient
from tests.security.api.seeds import ARTIFACT, ENDED, RUNNING, TASKS

SHORT, LONG = 10, 300
"""Requests for each operation and kind."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
"""For requests that are good by the document. Good data may still be refused: the rules say more than a schema."""
NOT_OF_STREAMS = [response_schema_conformance]
"""The document describes the text of a stream, as OpenAPI 3.1 can; schemathesis compares each event with that."""
KINDS = {
    "good": (GenerationMode.POSITIVE, CHECKS),
    "bad": (GenerationMode.NEGATIVE, [*CHECKS, negative_data_rejection]),
}
IDS = {"task_id": TASKS, "name": ("host-1",), "path": (ARTIFACT, "report.html")}
RESERVED = "stream"
"""No task's id: it leads to the event stream."""
FOLLOWED = "/api/v1/tasks/{task_id}/logs"


def _document() -> dict[str, Any]:
    """The document with the manifest's whole schema in place of the outline that refers to it."""
    document: dict[str, Any] = json.loads(json.dumps(schemas.load(schemas.OPENAPI)))
    manifest = json.loads(json.dumps(schemas.load(schemas.TASK)))
    document["components"]["schemas"]["TaskManifest"] = {
        key: value for key, value in manifest.items() if not key.startswith("$")
    }
    return document


# Who may ask what is not the question here: the API is open, as it is on loopback without tokens.
CONFIG = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})
OPERATIONS = [found.ok() for found in schemathesis.openapi.from_dict(_document(), config=CONFIG).get_all_operations()]


def _takes_bad_requests(operation: Any) -> bool:
    """Without a query, a body or a pattern for its path, an operation has none that the document calls bad."""
    return bool(operation.query or operation.body) or "task_id" in operation.path


PAIRS = [
    pytest.param(operation, kind, id=f"{operation.method.upper()} {operation.path} {kind}")
    for operation in OPERATIONS
    for kind in KINDS
    if kind == "good" or _takes_bad_requests(operation)
]


def _aim(case: Case, choose: Callable[[tuple[str, ...]], str]) -> None:
    """Let the request meet something that exists, and end: nothing here drives the running task on."""
    for name in set(case.path_parameters) & set(IDS):
        known = IDS[name]
        if name == "task_id" and case.operation.path == FOLLOWED:
            known = ENDED
        elif name == "task_id" and case.method == "DELETE":  # it would wait for the end
            known = tuple(one for one in TASKS if one != RUNNING)
        case.path_parameters[name] = choose(known)


@pytest.fixture(autouse=True)
def streams_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event stream goes on for ever; here it ends when all that was there is told."""
    endless = Reader.__iter__

    def told(reader: Reader) -> Iterator[bytes]:
        for part in endless(reader):
            yield part
            if b'"type": "heartbeat"' in part:
                return

    monkeypatch.setattr(Reader, "__iter__", told)


@pytest.mark.parametrize(
    "examples", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.security_long)]
)
@pytest.mark.parametrize(("operation", "kind"), PAIRS)
def test_m3_no_request_made_of_the_document_fails_the_server_or_gets_an_answer_that_is_not_in_it(
    planted: CheckedClient, operation: Any, kind: str, examples: int
) -> None:
    mode, checks = KINDS[kind]

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # the request is told as it was made; to shrink one takes minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def run(case: Case, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3)):
            _aim(case, lambda known: data.draw(st.sampled_from(known)))
        assume(case.path_parameters.get("task_id") != RESERVED)
        response = case.call(app=planted.application, session=planted)
        streamed = response.headers.get("content-type", [""])[0].startswith("text/event-stream")
        case.validate_response(response, checks=[one for one in checks if not (streamed and one in NOT_OF_STREAMS)])

    run()
