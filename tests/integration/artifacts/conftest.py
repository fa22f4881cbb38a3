"""An object storage for the session, a bucket for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from orchestrator.artifacts.location import S3Location
from tests.servers.s3 import S3Server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def s3_location(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Location:
    """A new bucket, with the environment by which boto3 finds it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    location = S3Location(f"test-{uuid.uuid4().hex}", "some/where")
    s3_server.client().create_bucket(Bucket=location.bucket)
    return location
