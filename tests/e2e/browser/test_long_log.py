"""A log of a million lines: the page keeps answering, draws a window of it, and finds what is near its end."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.e2e.browser.page import Page
from tests.e2e.stack import Product
from tests.e2e.submitting import ended, run_manifest, submit

pytestmark = [pytest.mark.docker, pytest.mark.browser]

LINES = 1_000_000
NEEDLE = "the needle in it"
SCRIPT = f"seq -f 'line %.0f of a long log' {LINES - 3}; echo {NEEDLE}; echo last but one; echo the end"
MOST_ROWS = 1000
"""Rows that may be in the page; a screen holds about forty."""


@pytest.fixture(scope="module")
def long_task(product: Product) -> str:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api:
        task = submit(api, run_manifest(script=SCRIPT))
        assert ended(api, task, 300)["state"] == "completed"
        return task


def test_a_million_lines_do_not_freeze_the_page_and_the_search_finds_one_near_the_end(
    page: Page, long_task: str
) -> None:
    page.open_task(long_task)
    page.see(".log")
    # The page is asked, again and again while the log arrives, for a frame: it answers each time.
    page.wait("all lines are there", lambda: frame(page) and counted(page) >= LINES, 180)
    page.see(".log", "the end")
    assert len(page.all(".log-row")) < MOST_ROWS
    page.see(".log input[type=search]").send_keys(NEEDLE)
    page.wait("the line is found", lambda: frame(page) and page.shown(".log-row", NEEDLE), 60)
    page.click(".log button[title^='To the beginning']")
    page.see(".log-row", "line 1 of a long log")
    assert len(page.all(".log-row")) < MOST_ROWS
    page.press("g", "f")
    page.see("h1", "Fleet")


def counted(page: Page) -> int:
    """Lines that the panel says there are; the state changes of the task are among them."""
    found = re.search(r"([\d,]+) lines", page.see(".log").text)
    return int(found[1].replace(",", "")) if found else 0


def frame(page: Page) -> bool:
    """Wait for a frame to be drawn; a page that is stuck runs into the driver's time limit."""
    return bool(page.run("return new Promise((done) => requestAnimationFrame(() => done(true)));"))
