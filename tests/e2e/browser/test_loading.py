"""Files of the page that do not come: on a build host the browser breaks off requests whenever a network changes."""

from __future__ import annotations

import pytest

from tests.e2e.browser.page import Page

pytestmark = [pytest.mark.docker, pytest.mark.browser]


def block(page: Page, *files: str) -> None:
    """Let no request for these files of the page through; none for all of them again."""
    page.cdp("Network.enable")
    page.cdp("Network.setBlockedURLs", urls=[f"*/assets/{file}" for file in files])


@pytest.mark.parametrize("file", ["plot.js", "main.js"])
def test_a_page_without_one_of_its_modules_loads_itself_again_until_all_are_there(page: Page, file: str) -> None:
    block(page, file)
    page.open("#/fleet")
    page.see("main .loading", "did not come")

    def tries() -> int:
        return int(page.browser.execute_script("return Number(sessionStorage.getItem('sandbox-loading'));"))

    page.wait("it has tried twice", lambda: tries() >= 2)
    block(page)
    page.wait("all are there", lambda: tries() == 0)
    page.see("h1", "Fleet")
    page.see_none(".loading")


def test_a_stylesheet_that_does_not_come_is_asked_for_again_and_the_page_stays(page: Page) -> None:
    block(page, "style.css")
    page.open("#/submit")
    page.see("h1", "Submit a task")
    page.run("window.isTheSame = true;")
    laid_out = "return getComputedStyle(document.querySelector('.top')).position;"
    assert page.run(laid_out) == "static"
    block(page)
    page.wait("its layout is there", lambda: page.run(laid_out) == "sticky")
    assert page.run("return window.isTheSame;")


def test_a_file_that_is_none_of_the_pages_is_none_of_its_business(page: Page) -> None:
    """Of a browser's extension, say: the policy blocks it, and the page must not reload for it."""
    page.open("#/fleet")
    page.see("h1", "Fleet")
    page.run(
        """
        window.isTheSame = true;
        const link = document.createElement("link");
        const failed = new Promise((done) => { link.onerror = done; });
        Object.assign(link, { rel: "stylesheet", href: "http://198.51.100.7/foreign.css" });
        document.head.append(link);
        await failed;
        await new Promise((done) => setTimeout(done, 2500));
        """
    )
    assert page.run("return window.isTheSame;")
    page.run("window.violations.length = 0;")


def test_it_waits_for_a_server_that_does_not_answer(page: Page) -> None:
    block(page, "plot.js")
    page.open()
    page.cdp("Network.setBlockedURLs", urls=["*"])
    page.see(".loading", "The server does not answer")
    block(page)
    page.see("h1", "Tasks")
