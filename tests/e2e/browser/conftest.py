"""A Chromium for all browser tests, and a tab of its own for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.e2e.browser.chromium import chromium
from tests.e2e.browser.page import Page, watched
from tests.e2e.stack import Product


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser stores what it downloads."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(chromium_programs: tuple[str, str], downloads: Path) -> Iterator[webdriver.Chrome]:
    with chromium(*chromium_programs, downloads) as started:
        yield started


@pytest.fixture
def page(browser: webdriver.Chrome, product: Product) -> Iterator[Page]:
    """A tab on the running product."""
    with watched(browser, product.url) as tab:
        yield tab
