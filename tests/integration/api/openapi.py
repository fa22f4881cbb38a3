"""Holds every answer of the API against the published OpenAPI document: neither may say what the other does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

import schemas

DOCUMENT = schemas.load(schemas.OPENAPI)
METHODS = ("get", "head", "post", "put", "patch", "delete")


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a `$ref` stands for; its siblings say more about it."""
    while "$ref" in node:
        target: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def closed(schema: Any, *, part: bool = False) -> Any:
    """Inline every reference and forbid members that are not documented. `part`: others of an `allOf` add members."""
    if not isinstance(schema, dict):
        return schema
    schema = resolved(schema)
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: closed(one) for name, one in value.items()}
        elif key == "allOf":
            result[key] = [closed(one, part=True) for one in value]
        elif key in ("oneOf", "anyOf"):
            result[key] = [closed(one) for one in value]
        elif key in ("items", "additionalProperties"):
            result[key] = closed(value)
        elif key not in ("examples", "example", "description"):
            result[key] = value
    if not part and ("properties" in schema or "allOf" in schema):
        result.setdefault("unevaluatedProperties", False)
    return result


_VALIDATORS: dict[int, Draft202012Validator] = {}
"""By the identity of the schema: the document lives as long as this module."""


def validate(schema: dict[str, Any], value: Any) -> None:
    validator = _VALIDATORS.get(id(schema))
    if validator is None:
        validator = _VALIDATORS[id(schema)] = Draft202012Validator(closed(schema))
    found = sorted(validator.iter_errors(value), key=lambda error: list(error.path))
    assert not found, [f"{list(error.path)}: {error.message}" for error in found]


def component(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return schema


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path template, method, operation) of each documented route; path parameters are added to the operation's."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                both = [*item.get("parameters", []), *item[method].get("parameters", [])]
                yield path, method, {**item[method], "parameters": [resolved(one) for one in both]}


def _pattern(template: str) -> re.Pattern[str]:
    """A template as a pattern; only the path of an artifact holds slashes."""
    parts = re.split(r"\{(\w+)\}", template)
    expression = "".join(
        (".+" if part == "path" else "[^/]+") if index % 2 else re.escape(part) for index, part in enumerate(parts)
    )
    return re.compile(expression, re.DOTALL)


_ROUTES = [(_pattern(path), method, operation) for path, method, operation in operations()]


def _operation(method: str, path: str) -> dict[str, Any] | None:
    """HEAD is GET without a body, wherever the document does not say more."""
    for wanted in (method.lower(), "get" if method == "HEAD" else ""):
        for pattern, known, operation in _ROUTES:
            if known == wanted and pattern.fullmatch(path):
                return operation
    return None


def check(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
    """Fail unless the document describes this answer. `body` None: a stream that was not read to its end."""
    where = f"{method} {path} -> {status}"
    assert headers.get("X-Request-Id"), f"{where}: no X-Request-Id"
    if method == "OPTIONS":
        return
    operation = _operation(method, path)
    if operation is None:
        assert status in (400, 403, 404, 405, 413), f"{where}: the document has no such route"
        validate(component("Error"), json.loads(body or b"{}")) if method != "HEAD" else None
        return
    documented = operation["responses"]
    assert str(status) in documented or (status in (403, 404, 405) and "default" in documented), where
    response = resolved(documented.get(str(status)) or documented["default"])
    for name, header in response.get("headers", {}).items():
        assert name in headers or resolved(header).get("required") is False, f"{where}: header {name} is missing"
    if method == "HEAD":
        return
    content = response.get("content", {})
    if not content:
        assert not body, f"{where}: a body that is not documented"
        return
    media_type = headers["Content-Type"].partition(";")[0]
    chosen = content.get(media_type) or content.get("*/*")
    assert chosen, f"{where}: {media_type} is not documented"
    if body is not None and media_type in ("application/json", "application/schema+json"):
        validate(chosen["schema"], json.loads(body))
