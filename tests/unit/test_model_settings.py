"""Settings for the model API: judged at the start, without their files, which only workers read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.settings import InvalidSettings, Settings, load
from orchestrator.settings_report import report


def loaded(**environment: str) -> Settings:
    return load({"SANDBOX_DATA_DIR": "/srv/sandbox", **environment})


def error(**environment: str) -> str:
    with pytest.raises(InvalidSettings) as caught:
        loaded(**environment)
    [only] = caught.value.errors
    return only


def test_the_providers_address_is_the_default_and_no_key_is_needed_to_start() -> None:
    found = loaded()
    assert (found.model_api_url, found.model_api_auth) == ("https://api.anthropic.com", "x-api-key")
    assert found.model_api_key_file is None
    assert found.model_prices_file is None


def test_a_gateway_is_set_by_its_variables_and_its_files_need_not_be_there() -> None:
    found = loaded(
        SANDBOX_MODEL_API_URL="http://gateway.internal:8080/teams/anthropic/",
        SANDBOX_MODEL_API_KEY_FILE="/nowhere/key",
        SANDBOX_MODEL_API_AUTH="Bearer",
        SANDBOX_MODEL_API_HEADERS_FILE="/nowhere/headers",
        SANDBOX_MODEL_API_CA_FILE="/nowhere/ca.pem",
        SANDBOX_MODEL_PRICES_FILE="/nowhere/prices.yaml",
    )
    assert (found.model_api_url, found.model_api_auth) == ("http://gateway.internal:8080/teams/anthropic", "bearer")
    assert found.model_api_key_file == Path("/nowhere/key")
    assert found.model_api_headers_file == Path("/nowhere/headers")
    assert found.model_api_ca_file == Path("/nowhere/ca.pem")
    assert found.model_prices_file == Path("/nowhere/prices.yaml")
    assert report(found)["model_api_key_file"] == "/nowhere/key"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gateway.example", "is no http:// or https:// URL"),
        ("ftp://gateway.example", "is no http:// or https:// URL"),
        ("https://", "is no http:// or https:// URL"), ("https://[::1", "cannot be taken apart"),
        ("https://gateway.example:x", "cannot be taken apart"), ("https://u:hunter2@gateway.example", "holds a user"),
        ("https://gateway.example/?key=hunter2", "a query"), ("https://gateway.example/#x", "a fragment"),
        ("https://gateway.example/a b", "holds a space"), ("https://gateway.example/ä", "not ASCII"),
        ("https://gateway.example/v1", "ends with /v1"), ("https://gateway.example/v1/", "ends with /v1"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_stops_the_start_and_its_password_is_not_shown(url: str, words: str) -> None:
    told = error(SANDBOX_MODEL_API_URL=url)
    assert told.startswith("SANDBOX_MODEL_API_URL")
    assert words in told
    assert "hunter2" not in told


def test_a_way_to_send_the_key_that_nobody_knows_stops_the_start() -> None:
    assert error(SANDBOX_MODEL_API_AUTH="basic").startswith("SANDBOX_MODEL_API_AUTH='basic' is neither x-api-key")


@pytest.mark.parametrize("name", ["KEY_FILE", "HEADERS_FILE", "CA_FILE"])
def test_a_file_is_an_absolute_path(name: str) -> None:
    assert "is no absolute path" in error(**{f"SANDBOX_MODEL_API_{name}": "key"})


@pytest.mark.parametrize("name", ["SANDBOX_MODEL_API_KEY_FILE", "SANDBOX_MODEL_API_HEADERS_FILE"])
@pytest.mark.parametrize("path", ["/srv/secrets/key", "/srv/secrets/a/../key", "/srv/other/../secrets/a/key"])
def test_a_file_that_tasks_may_name_as_a_secret_stops_the_start(name: str, path: str) -> None:
    told = error(**{name: path, "SANDBOX_SECRETS_DIR": "/srv/secrets"})
    assert told.startswith(f"{name}={path} lies below SANDBOX_SECRETS_DIR, where every task may read it")
    assert loaded(**{name: "/srv/secrets-of-the-worker", "SANDBOX_SECRETS_DIR": "/srv/secrets"})
