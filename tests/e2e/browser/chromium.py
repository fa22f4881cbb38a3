"""Debian's Chromium without a screen, driven over WebDriver."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

DESKTOP = (1280, 900)
"""Width and height of the view, in CSS pixels."""
CUT_OFF = "ERR_NETWORK_CHANGED"
"""What Chromium says of every request that is on its way when a network of its machine comes or goes."""
WATCH = """
window.violations = [];
window.failures = [];
window.ran = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample} (${event.sourceFile})`);
});
window.addEventListener("error", (event) => window.failures.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => window.failures.push(String(event.reason)));
for (const name of ["alert", "confirm", "prompt"]) window[name] = (text) => window.ran.push(`${name}(${text})`);
"""
"""Runs before any script of a page: keeps what the content security policy has blocked, what has failed, and what a
script that is not the page's would do."""


@contextmanager
def chromium(browser: str, driver: str, downloads: Path) -> Iterator[webdriver.Chrome]:
    """A browser that stores what it downloads in `downloads`."""
    options = Options()
    options.binary_location = browser
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en-US",
        "--force-color-profile=srgb", "--hide-scrollbars", f"--window-size={DESKTOP[0]},{DESKTOP[1]}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING"})
    service = Service(driver, log_output=subprocess.DEVNULL)
    started = webdriver.Chrome(options=options, service=service)
    try:
        started.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        yield started
    finally:
        started.quit()
