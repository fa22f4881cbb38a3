"""The product's web page as a test sees it: find things by what a person reads, and wait until they are there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.e2e.browser.chromium import CUT_OFF, DESKTOP, WATCH

WAIT_SECONDS = 30.0
Found = TypeVar("Found")


class Page:
    """One tab. `url` is the server's address."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        self.url = url
        browser.switch_to.new_window("tab")
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.resize(*DESKTOP)

    def cdp(self, command: str, **parameters: Any) -> Any:
        """A command of the Chrome DevTools Protocol."""
        return self.browser.execute_cdp_cmd(command, parameters)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the view, in CSS pixels; a phone's is smaller than any window may be."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def open(self, hash_: str = "") -> None:
        """Load the page anew at an address of its own."""
        self.browser.get("about:blank")
        self.load(lambda: self.browser.get(f"{self.url}/{hash_}"))

    def reload(self) -> None:
        self.load(self.browser.refresh)

    def load(self, way: Callable[[], None]) -> None:
        """Go to a document. It is cut off when another test makes a network; a person would press reload."""
        for _ in range(5):
            try:
                way()
            except WebDriverException as error:
                if CUT_OFF not in str(error):
                    raise
            else:
                return
        raise AssertionError(f"cut off five times on the way to {self.address}")

    def open_task(self, task_id: str, query: str = "") -> None:
        self.open(f"#/tasks/{task_id}{query}")

    def close(self) -> None:
        """Close the tab; the browser goes on in another one."""
        self.browser.close()
        self.browser.switch_to.window(self.browser.window_handles[0])

    # What is on it

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def shown(self, css: str, text: str | None = None) -> WebElement | None:
        """The first visible element that has `text` in it."""
        for one in self.all(css):
            try:
                if one.is_displayed() and (text is None or text in one.text):
                    return one
            except StaleElementReferenceException:
                continue
        return None

    def wait(self, what: str, check: Callable[[], Found | None], seconds: float = WAIT_SECONDS) -> Found:
        """Poll until `check` gives something; a failure shows what the page says instead."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := check():
                    return found
            except StaleElementReferenceException:
                continue
            time.sleep(0.05)
        raise AssertionError(
            f"not within {seconds} s: {what}; the page at {self.address} says:\n{self.text[:3000]}\n{self.troubles()}"
        )

    def see(self, css: str, text: str | None = None, seconds: float = WAIT_SECONDS) -> WebElement:
        """Wait until there is such an element."""
        what = f"{css} with {text!r}" if text else css
        return self.wait(what, lambda: self.shown(css, text), seconds)

    def see_none(self, css: str, text: str | None = None) -> None:
        self.wait(f"no {css} {text or ''}", lambda: self.shown(css, text) is None)

    def click(self, css: str, text: str | None = None) -> None:
        """Click on it as soon as it is there and nothing covers it."""

        def clicked() -> bool:
            one = self.shown(css, text)
            if one is None:
                return False
            try:
                self.run("args[0].scrollIntoView({ block: 'center' });", one)  # the page's head covers what is on top
                one.click()
            except ElementClickInterceptedException:
                return False
            return True

        self.wait(f"{css} with {text!r} can be clicked", clicked)

    @property
    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    @property
    def address(self) -> str:
        """What is behind the server's address."""
        return self.browser.current_url.removeprefix(self.url)

    @property
    def state(self) -> str:
        """The state of the task that is shown."""
        badge = self.shown("main header .state")
        return badge.get_attribute("data-state") or "" if badge else ""

    @property
    def focused(self) -> WebElement:
        return self.browser.switch_to.active_element

    def press(self, *keys: str) -> None:
        """Type into whatever has the focus."""
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def write(self, manifest: str) -> None:
        """Put a text in the editor, in the place of what stands there."""
        editor = self.see("textarea")
        editor.click()
        editor.send_keys(Keys.CONTROL, "a")
        self.cdp("Input.insertText", text=manifest)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of an async function returns, in the page."""
        body = f"""
        const [given, done] = arguments;
        const run = async (...args) => {{ {script} }};
        run(...given).then((found) => done(["ok", found]), (error) => done(["no", String(error)]));
        """
        verdict, found = self.browser.execute_async_script(body, list(arguments))
        assert verdict == "ok", found
        return found

    def troubles(self) -> str:
        """What the browser knows about a page that does not come: its console, and the requests without an answer."""
        waiting = self.browser.execute_script(
            "return [document.readyState, ...performance.getEntriesByType('resource')"
            ".filter((one) => !one.responseStatus || one.responseStatus >= 400)"
            ".map((one) => `${one.name} ${one.responseStatus} ${one.startTime} ${one.responseEnd}`)]"
        )
        return "\n".join([*map(str, self.browser.get_log("browser")), *waiting])  # type: ignore[no-untyped-call]

    # What must never be

    def violations(self) -> list[str]:
        """What the content security policy has blocked."""
        return list(self.browser.execute_script("return window.violations ?? []"))

    def ran(self) -> list[str]:
        """What a script that is not the page's has done."""
        return list(self.browser.execute_script("return window.ran ?? []"))

    def failures(self) -> list[str]:
        """Errors that no code of the page has handled."""
        return list(self.browser.execute_script("return window.failures ?? []"))

    def local_storage(self, name: str, value: str) -> None:
        self.browser.execute_script(f"localStorage.setItem({json.dumps(name)}, {json.dumps(value)})")


@contextmanager
def watched(browser: webdriver.Chrome, url: str) -> Iterator[Page]:
    """A tab for a test. Whatever the test does, nothing foreign has run and no error of the page went unhandled."""
    tab = Page(browser, url)
    try:
        yield tab
        assert tab.violations() == []
        assert tab.ran() == []
        assert tab.failures() == []
    finally:
        tab.close()
