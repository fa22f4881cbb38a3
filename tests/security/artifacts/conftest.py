"""A running product with small limits for artifacts, and a file of its host that no task may ever get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, running_product

MAX_COUNT = 1000
MAX_BYTES = 4 << 20
FOREIGN = b"the host's secret"


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file outside of every workspace, readable for everybody."""
    file = tmp_path_factory.mktemp("foreign") / "secret"
    file.write_bytes(FOREIGN)
    return file


@pytest.fixture(scope="session")
def product(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    limits = {"SANDBOX_ARTIFACT_MAX_COUNT": str(MAX_COUNT), "SANDBOX_ARTIFACT_MAX_BYTES": str(MAX_BYTES)}
    with running_product(tmp_path_factory.mktemp("product") / "data", **limits) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        yield client
