"""The operator's credentials for registries: what of a Docker `config.json` is read, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from workers.sandbox.docker.registry_config import UnusableRegistryConfig, credentials_for, read

SECRET = "pass:word-8122"
AUTH = base64.b64encode(f"robot:{SECRET}".encode()).decode()


def written(directory: Path, document: Any) -> Path:
    path = directory / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_an_image_is_pulled_with_the_credentials_of_its_own_registry_only(tmp_path: Path) -> None:
    auths = {"r.example:5000": {"auth": AUTH}, "https://index.docker.io/v1/": {"identitytoken": "t-8122"}}
    known = read(written(tmp_path, {"auths": auths}))
    assert credentials_for("r.example:5000/team/tool@sha256:" + "0" * 64, known) == {
        "username": "robot",
        "password": SECRET,
        "serveraddress": "r.example:5000",
    }
    assert credentials_for("python:3.11", known)["identitytoken"] == "t-8122"
    assert credentials_for("r.example/team/tool:1", known) == {}
    assert credentials_for("team/tool:1", read(written(tmp_path, {"auths": {}}))) == {}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{" + SECRET, "no JSON document"),
        ("[]", "no map `auths`"),
        ({"auths": [SECRET]}, "no map `auths`"),
        ({"auths": {}, "credsStore": "desktop"}, "helper programs (credsStore)"),
        ({"auths": {}, "credHelpers": {"r.example": "x"}}, "helper programs (credHelpers)"),
        ({"auths": {"r.example": SECRET}}, "the entry of r.example is no map"),
        ({"auths": {"r.example": {}}}, "`auth` of r.example holds no USER:PASSWORD"),
        ({"auths": {"r.example": {"auth": SECRET}}}, "`auth` of r.example is no base64 text"),
        ({"auths": {"r.example": {"auth": ["x"]}}}, "`auth` of r.example is no base64 text"),
        ({"auths": {"r.example": {"auth": base64.b64encode(b"robot").decode()}}}, "holds no USER:PASSWORD"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nothing_of_it_is_shown(
    tmp_path: Path, document: Any, words: str
) -> None:
    path = written(tmp_path, document)
    with pytest.raises(UnusableRegistryConfig) as refused:
        read(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnusableRegistryConfig, match="No such file"):
        read(tmp_path / "nowhere.json")
