"""Somebody who looks at an agent's task in the page sees what it asks, answers, and tells it something."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver

from tests.e2e.agents.agent_tasks import agent_manifest
from tests.e2e.agents.model import ASKS, Model, bash, running_model, words
from tests.e2e.browser.page import Page, watched
from tests.e2e.stack import Product, running_product
from tests.e2e.submitting import ended, submit
from tests.integration.sandbox.repositories import make_repository
from tests.model_api.scenarios import answer

pytestmark = [pytest.mark.docker, pytest.mark.browser]

PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def model_key() -> str:
    return f"sk-test-{secrets.token_hex(16)}"


@pytest.fixture(scope="module")
def model(model_key: str) -> Iterator[Model]:
    with running_model(model_key) as running:
        yield running


@pytest.fixture(scope="module")
def agents(
    docker_engine: None, tmp_path_factory: pytest.TempPathFactory, model: Model, model_key: str
) -> Iterator[Product]:
    """A product whose agents talk to a scripted model."""
    directory = tmp_path_factory.mktemp("agents")
    key_file = directory / "model-key"
    key_file.touch(0o600)
    key_file.write_text(f"{model_key}\n")
    settings = {"SANDBOX_MODEL_API_URL": model.url, "SANDBOX_MODEL_API_KEY_FILE": str(key_file)}
    with running_product(directory / "data", **settings) as running:
        yield running


@pytest.fixture
def agent_page(browser: webdriver.Chrome, agents: Product) -> Iterator[Page]:
    with watched(browser, agents.url) as tab:
        yield tab


@pytest.fixture
def agent_api(agents: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{agents.url}/api/v1", timeout=60) as client:
        yield client


def test_what_an_agent_asks_is_shown_and_answered_by_a_click(
    agent_page: Page, agent_api: httpx.Client, model: Model, tmp_path: Path
) -> None:
    page, api = agent_page, agent_api
    mark = model.plays(ASKS, answer("<img src=x onerror=alert(1)> Thank you."))
    manifest = agent_manifest(make_repository(tmp_path / "repository"), mark, interactive=True)
    page.open("#/tasks")
    task = submit(api, manifest)
    page.see(f"tr[data-task='{task}'] [data-state=asks]", seconds=PATIENCE_SECONDS)
    page.click(f"tr[data-task='{task}'] .name")
    page.see("section[aria-label='The agent']", "Which database?")
    page.click("section[aria-label='The agent'] .options button", "PostgreSQL")
    assert ended(api, task)["state"] == "completed"
    page.wait("it has ended", lambda: page.state == "completed")
    page.see_none("section[aria-label='The agent']")
    page.see(".log", "Thank you.")
    assert '"Which database?"="PostgreSQL"' in words(model.asked(mark)[-1].messages[-1])
    page.click("[role=tab]", "Usage")
    page.see("dl.facts", "Output tokens")


def test_a_permission_is_refused_with_a_reason_and_a_message_is_heard(
    agent_page: Page, agent_api: httpx.Client, model: Model, tmp_path: Path
) -> None:
    page, api = agent_page, agent_api
    mark = model.plays(answer(bash("touch /workspace/unwanted")), answer("As you wish."), answer("Heard."))
    repository = make_repository(tmp_path / "repository")
    task = submit(api, agent_manifest(repository, mark, interactive=True, skip_permissions=False))
    page.open_task(task)
    page.see("section[aria-label='The agent']", "touch /workspace/unwanted", PATIENCE_SECONDS)
    page.click("section[aria-label='The agent'] textarea")
    page.press("perhaps")
    page.click("section[aria-label='The agent'] button", "Send")
    page.see("section[aria-label='The agent'] [role=alert]", "allow")
    page.run("document.querySelector(\"section[aria-label='The agent'] textarea\").value = '';")
    page.click("section[aria-label='The agent'] textarea")
    page.press("deny: not here")
    page.click("section[aria-label='The agent'] button", "Send")
    assert ended(api, task)["state"] == "completed"
    assert "not here" in words(model.asked(mark)[-1].messages[-1])
    page.wait("it has ended", lambda: page.state == "completed")
