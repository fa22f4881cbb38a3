"""The application of the API's own tests: a real store, asked in process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from orchestrator.product import Product
from tests.integration.api.conftest import KEEP_ALIVE_SECONDS, CheckedClient, app, client, empty_data_dir, host, product
from tests.integration.api.installation import BuildHost, open_product
from tests.security.api.seeds import plant

__all__ = ["app", "client", "empty_data_dir", "host", "product"]


def asked_in_process(product: Product) -> CheckedClient:
    """A client of the application on `product`."""
    app = create_app(product, keep_alive_seconds=KEEP_ALIVE_SECONDS)
    app.test_client_class = CheckedClient
    client = app.test_client()
    assert isinstance(client, CheckedClient)
    return client


@pytest.fixture(scope="session")
def planted_data_dir(empty_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the tasks of `seeds`, to be copied."""
    directory = tmp_path_factory.mktemp("planted") / "data"
    shutil.copytree(empty_data_dir, directory)
    opened = open_product(directory, migrated=True)
    host = BuildHost(opened)
    host.register()
    plant(asked_in_process(opened), host)
    opened.database.close()
    return directory


@pytest.fixture
def planted(planted_data_dir: Path, tmp_path: Path) -> Iterator[CheckedClient]:
    """A client of an installation in which the tasks of `seeds` exist."""
    shutil.copytree(planted_data_dir, tmp_path / "planted")
    opened = open_product(tmp_path / "planted", migrated=True)
    yield asked_in_process(opened)
    opened.database.close()
