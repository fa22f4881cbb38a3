"""Files of the page that do not come: on a build host the browser breaks off requests whenever a network changes."""

from __future__ import annotations

import pytest

from tests.e2e.browser.page import Page

pytestmark = [pytest.mark.docker, pytest.mark.browser]


def block(page: Page, *files: str) -> None:
    """Let no request for these files of the page through; none for all of them again."""
    page.cdp("Network.enable")
    page.cdp("Network.setBlockedURLs", urls=[f"*/assets/{file}" for file in files])


@pytest.mark.parametrize("file", ["plot.js", "main.js", "style.css"])
def test_a_page_without_one_of_its_files_loads_itself_again_until_all_are_there(page: Page, file: str) -> None:
    block(page, file)
    page.open("#/fleet")
    if file.endswith(".js"):
        page.see("main .loading", "did not come")

    def tries() -> int:
        return int(page.browser.execute_script("return Number(sessionStorage.getItem('sandbox-loading'));"))

    page.wait("it has tried twice", lambda: tries() >= 2)
    block(page)
    page.wait("all are there", lambda: tries() == 0)
    page.see("h1", "Fleet")
    page.see_none(".loading")


def test_it_waits_for_a_server_that_does_not_answer(page: Page) -> None:
    block(page, "plot.js")
    page.open()
    page.cdp("Network.setBlockedURLs", urls=["*"])
    page.see(".loading", "The server does not answer")
    block(page)
    page.see("h1", "Tasks")
