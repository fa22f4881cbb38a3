"""The example clients: each follows a task over a server that is killed in the middle, and misses nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.models import Claim
from orchestrator.product import Product
from orchestrator.services.submit import submit
from tests.integration.api.installation import BuildHost
from tests.integration.api.live import LiveServer
from tests.integration.api.waiting import eventually
from tests.integration.store.given import manifest_of
from tests.servers.process import free_port

if TYPE_CHECKING:
    from selenium import webdriver

CLIENTS = Path(__file__).parents[3] / "examples" / "clients"
LINES = 40
STATES = ["pending", "staging", "provisioning", "ready", "running", "completing"]
SECONDS = 60.0


class Reading:
    """What a process prints, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        while part := self.process.stdout.read(1):
            self.text += part

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout
        self.process.stdout.close()


def follow_py(*arguments: str) -> Reading:
    argv = [sys.executable, str(CLIENTS / "follow.py"), *arguments]
    return Reading(subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True))


@pytest.fixture
def pages() -> Iterator[int]:
    """The port at which the examples are served, as the README says."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(CLIENTS)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(product: Product, pages: int) -> Iterator[LiveServer]:
    port = free_port()
    live = LiveServer(
        product.settings.data_dir,
        ("--stream-port", str(port)),
        environment={"SANDBOX_ALLOWED_ORIGINS": f"http://127.0.0.1:{pages}"},
    )
    live.start()
    yield live
    live.stop()


@pytest.fixture
def claim(product: Product, host: BuildHost) -> Claim:
    return host.run(submit(product, manifest_of("Followed", task_id="followed")).id)


def speak_over_a_restart(host: BuildHost, claim: Claim, server: LiveServer, seen: Callable[[str], object]) -> None:
    """Print lines, kill the server, print on, start it again; end the task. `seen(text)` waits until it is shown."""
    for number in range(LINES):
        host.say(claim, f"line {number} \x1b[2J\u2028<b>&\n")
        if number == LINES // 2:
            seen(f"line {number} ")
            server.stop(signal.SIGKILL)
        if number == LINES // 2 + 5:
            server.start()
            seen(f"line {number} ")
    host.exit(claim)
    seen("completed")


def said(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^line (\d+) ", text, re.MULTILINE)]


def test_the_python_client_follows_a_task_over_a_restart_of_the_server(
    host: BuildHost, claim: Claim, server: LiveServer
) -> None:
    reading = follow_py("followed", "--server", server.url)
    try:
        speak_over_a_restart(host, claim, server, lambda text: eventually(text, lambda: text in reading.text, SECONDS))
        assert reading.process.wait(SECONDS) == 0
    finally:
        reading.close()
    assert said(reading.text) == list(range(LINES))
    assert re.findall(r"^followed: (\w+)", reading.text, re.MULTILINE) == [*STATES, "completed"]
    assert "\x1b" not in reading.text


def test_the_python_client_says_by_its_exit_code_how_the_task_ended(
    host: BuildHost, claim: Claim, server: LiveServer
) -> None:
    host.exit(claim, 3)
    reading = follow_py("followed", "--server", server.url)
    try:
        assert reading.process.wait(SECONDS) == 1
    finally:
        reading.close()


def test_the_python_client_follows_all_tasks(product: Product, host: BuildHost, server: LiveServer) -> None:
    first = host.run(submit(product, manifest_of("First", task_id="first")).id)
    reading = follow_py("--server", server.url)
    try:
        eventually("what was there is told", lambda: "first: running" in reading.text, SECONDS)
        host.exit(host.run(submit(product, manifest_of("Second", task_id="second")).id))
        host.exit(first)
        eventually("both have ended", lambda: {"first: completed", "second: completed"} <= ended(reading.text), SECONDS)
    finally:
        reading.close()


def ended(text: str) -> set[str]:
    return {" ".join(line.split()[:2]) for line in text.splitlines() if "completed" in line}


def test_the_python_client_passes_on_what_the_server_refuses(server: LiveServer) -> None:
    argv = [sys.executable, str(CLIENTS / "follow.py"), "absent", "--server", server.url]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert refused.returncode == 1
    assert "task_not_found" in refused.stderr


@pytest.fixture
def browser(chromium_programs: tuple[str, str], tmp_path: Path) -> Iterator[webdriver.Chrome]:
    from tests.e2e.browser.chromium import chromium

    with chromium(*chromium_programs, tmp_path) as started:
        yield started


@pytest.mark.browser
def test_the_browser_client_follows_a_task_over_a_restart_of_the_server(
    host: BuildHost, claim: Claim, server: LiveServer, pages: int, browser: webdriver.Chrome
) -> None:
    browser.get(f"http://127.0.0.1:{pages}/follow.html?server=ws://127.0.0.1:{server.options[-1]}")
    browser.execute_script(
        "document.querySelector('input').value = 'followed'; document.querySelector('form').requestSubmit();"
    )

    def text() -> str:
        return str(browser.execute_script("return document.querySelector('pre').textContent"))

    speak_over_a_restart(host, claim, server, lambda part: eventually(part, lambda: part in text(), SECONDS))
    shown = text()
    assert browser.execute_script("return document.querySelectorAll('pre *').length") == 0
    assert said(shown) == list(range(LINES))
    assert re.findall(r"^followed: (\w+)", shown, re.MULTILINE) == [*STATES, "completed"]


@pytest.mark.parametrize("name", ["follow.py", "follow.js"])
def test_an_example_client_fits_on_a_screen(name: str) -> None:
    assert len((CLIENTS / name).read_text().splitlines()) <= 50
