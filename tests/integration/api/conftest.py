"""The application on a real store, asked in process; every answer is held against the OpenAPI document."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from orchestrator.product import Product
from tests.integration.api import openapi
from tests.integration.api.installation import MANIFEST, BuildHost, open_product

KEEP_ALIVE_SECONDS = 0.1


class CheckedClient(FlaskClient):
    """Refuses every answer that the OpenAPI document does not describe."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        streamed = response.is_streamed and response.mimetype != "application/json"
        body = None if streamed else response.get_data()
        request = response.request
        if request.path == "/" or request.path.startswith("/assets/"):  # the page is no part of the API
            return response
        openapi.check(request.method, request.path, response.status_code, response.headers, body)
        return response

    def submit(self, manifest: str = MANIFEST, **kwargs: Any) -> TestResponse:
        return self.post("/api/v1/tasks", data=manifest, content_type="application/yaml", **kwargs)

    def task(self, **metadata: str) -> str:
        """Submit a task and return its id."""
        lines = [f"{key}: {value}" for key, value in {"name": "A task", **metadata}.items()]
        response = self.submit(MANIFEST.replace("metadata: {name: A task}", f"metadata: {{{', '.join(lines)}}}"))
        assert response.status_code == 202, response.text
        return str(response.json["task_id"])  # type: ignore[index]


@pytest.fixture(scope="session")
def empty_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables, to be copied: making them takes longer than most tests."""
    directory = tmp_path_factory.mktemp("empty") / "data"
    open_product(directory).database.close()
    return directory


@pytest.fixture
def product(empty_data_dir: Path, tmp_path: Path) -> Iterator[Product]:
    shutil.copytree(empty_data_dir, tmp_path / "data")
    opened = open_product(tmp_path / "data", migrated=True)
    yield opened
    opened.database.close()


@pytest.fixture
def app(product: Product) -> Flask:
    return create_app(product, keep_alive_seconds=KEEP_ALIVE_SECONDS)


@pytest.fixture
def client(app: Flask) -> CheckedClient:
    app.test_client_class = CheckedClient
    client = app.test_client()
    assert isinstance(client, CheckedClient)
    return client


@pytest.fixture
def make_client() -> Iterator[Callable[[Product], CheckedClient]]:
    def make(product: Product) -> CheckedClient:
        app = create_app(product, keep_alive_seconds=KEEP_ALIVE_SECONDS)
        app.test_client_class = CheckedClient
        client = app.test_client()
        assert isinstance(client, CheckedClient)
        return client

    return make


@pytest.fixture
def host(product: Product) -> BuildHost:
    """A registered build host with room for everything."""
    host = BuildHost(product)
    host.register()
    return host
