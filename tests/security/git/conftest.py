"""A running product that clones from one directory of this host only, and a file that no repository may make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, running_product


@pytest.fixture(scope="session")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory below which `file://` is allowed."""
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What an attack that runs on the host would make."""
    return tmp_path / "pwned"


@pytest.fixture(scope="session")
def product(docker_engine: None, allowed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(
        tmp_path_factory.mktemp("product") / "data", SANDBOX_FILE_REPOSITORIES=str(allowed)
    ) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        yield client
