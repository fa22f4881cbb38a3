"""The published schemas, as data files beside this one."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import yaml

TASK = "task.schema.json"
OPENAPI = "openapi.yaml"


@cache
def load(name: str) -> dict[str, Any]:
    """Return the schema file `name`, JSON or YAML; every caller shares the result, so nobody changes it.

    Raises `FileNotFoundError` when there is no such file in this package.
    """
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    schema: dict[str, Any] = yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)
    return schema
