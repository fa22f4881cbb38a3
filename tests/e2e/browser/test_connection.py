"""The API goes away while the page is looked at; and an API that wants a token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver

from tests.e2e.browser.page import Page, watched
from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import ended, run_manifest, submit

pytestmark = [pytest.mark.docker, pytest.mark.browser]

LINES = 120
NOTE_BANNERS = """
window.banners = [];
const banner = document.querySelector(".banner");
new MutationObserver(() => {
  if (!banner.hidden) window.banners.push(banner.textContent);
}).observe(banner, { childList: true, attributes: true, subtree: true });
"""


READ_LOG = """
const port = document.querySelector(".log-viewport");
const read = [];
for (port.scrollTop = 0; ; ) {
  await new Promise((done) => setTimeout(done, 150));
  const shown = [...port.querySelectorAll(".log-row")].map((row) => row.textContent);
  const rows = shown.filter((text) => text.startsWith("tick"));
  const known = rows.findIndex((text) => !read.includes(text));
  if (known >= 0) read.push(...rows.slice(known));
  const before = port.scrollTop;
  port.scrollTop += port.clientHeight / 2;
  if (port.scrollTop === before) return read;
}
"""
"""Goes through the window over the log, half a screen at a time, and returns the lines of the command."""


def kill_api(product: Product) -> None:
    """Kill the API with all its processes; `up` starts it again."""
    os.killpg(product.child("api"), signal.SIGKILL)


def test_after_a_restart_of_the_api_the_page_goes_on_where_it_was_and_nothing_is_missing(
    page: Page, product: Product, api: httpx.Client
) -> None:
    script = f"for n in $(seq {LINES}); do echo tick $n; sleep 0.2; done"
    task = submit(api, run_manifest(script=script))
    page.open_task(task)
    page.see(".log", "tick 5")
    page.run(NOTE_BANNERS)
    kill_api(product)
    page.wait("the page says that it is cut off", lambda: any("lost" in one for one in page.run("return banners;")))
    page.wait("and that it is live again", lambda: any("Live again" in one for one in page.run("return banners;")))
    assert page.state == "running"
    page.see(".log", f"tick {LINES}", 120)
    page.wait("it ended", lambda: page.state == "completed")
    assert page.run(READ_LOG) == [f"tick {number}" for number in range(1, LINES + 1)]


def test_the_list_catches_up_with_what_happened_while_the_api_was_away(
    page: Page, product: Product, api: httpx.Client
) -> None:
    task = submit(api, run_manifest(script="sleep 4", metadata={"name": "Ends meanwhile"}))
    page.open("#/tasks")
    page.see(f"tr[data-task='{task}']", "running")
    kill_api(product)
    page.see(f"tr[data-task='{task}']", "completed", 60)
    page.see(".connection", "Live")


@pytest.fixture(scope="module")
def closed(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, str]]:
    """A product that takes requests with a token only, and a token."""
    with running_product(tmp_path_factory.mktemp("closed") / "data") as running:
        argv = [sys.executable, "-m", "orchestrator.cli", "token", "create", "page", "--owner", "alice"]
        environment = {**os.environ, "SANDBOX_DATA_DIR": str(running.directory)}
        made = subprocess.run(argv, env=environment, capture_output=True, check=True, text=True)
        yield running, made.stdout.strip()


@pytest.fixture
def closed_page(browser: webdriver.Chrome, closed: tuple[Product, str]) -> Iterator[Page]:
    with watched(browser, closed[0].url) as tab:
        yield tab


def test_a_closed_api_asks_for_a_token_and_takes_no_other(
    closed_page: Page, closed: tuple[Product, str], downloads: Path
) -> None:
    page, (product, token) = closed_page, closed
    page.open("#/tasks")
    page.see("dialog", "Access token")
    page.see("dialog input").send_keys("sbx_wrong")
    page.click("dialog button", "Use this token")
    page.see("dialog", "none of this server's")
    page.click("dialog button", "Not now")
    page.see("main [role=alert]", "access token")
    page.click("main button", "Enter an access token")
    page.see("dialog input").send_keys(token)
    page.click("dialog button", "Use this token")
    page.see(".connection", "Live")
    page.see_none("main [role=alert]")
    with httpx.Client(base_url=f"{product.url}/api/v1", headers={"Authorization": f"Bearer {token}"}) as api:
        lifecycle = {"artifact_patterns": ["*.txt"]}
        task = submit(api, run_manifest(script="echo hello > with-token.txt; echo said", lifecycle=lifecycle))
        page.see("tr", "test")
        ended(api, task)
    page.open_task(task)
    page.see(".log", "said")
    page.click("[role=tab]", "Artifacts")
    page.click("a[download='with-token.txt']")
    page.wait("the download is there", (downloads / "with-token.txt").exists)
    assert token not in page.browser.current_url
    page.click("button", "Forget token")
    page.see("dialog", "Access token")
    assert page.run("return sessionStorage.getItem('sandbox-token');") is None


def long_answers(product: Product) -> float:
    """Logs and streams that the API is sending."""
    text = httpx.get(f"{product.url}/metrics").text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("sandbox_api_long_answers "))


def test_a_page_that_was_left_holds_no_connection_and_is_live_again_when_one_comes_back(
    page: Page, product: Product, api: httpx.Client
) -> None:
    """A browser keeps a page for the way back, for a minute or so with its connections, and opens only six of them to
    one server: three such pages would use them all up."""
    task = submit(api, run_manifest(script="echo begun; sleep 600", metadata={"name": "Visited"}))
    page.open_task(task)
    page.see(".log", "begun")
    page.see(".connection", "Live")
    page.browser.get("about:blank")
    eventually("nothing is sent to it", lambda: long_answers(product) == 0, 40)
    page.load(page.browser.back)
    page.see("h1", "Visited")
    page.see(".connection", "Live")
    api.delete(f"/tasks/{task}", params={"force": "true"})
    page.wait("it is told live", lambda: page.state == "cancelled")
