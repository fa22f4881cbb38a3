"""The page's modules for logs, previews and plots, in the browser: each check in `checks/` is a test here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api import conversation
from tests.unit.test_conversation import TOLD
from tests.unit.web.log_server import CHECKS, check_files, serving

pytestmark = pytest.mark.browser

LONGEST_SECONDS = 300.0
NAME = re.compile(r'^check\("([^"]+)"', re.MULTILINE)
STATUSES = (400, 401, 403, 404)
"""For each of which there is a check whose name tells it."""
REFUSED = "an answer {} is told in the server's words and not asked again"


def named() -> list[str]:
    names = [name for file in check_files() for name in NAME.findall((CHECKS / file).read_text())]
    return [*names, *(REFUSED.format(status) for status in STATUSES)]


@pytest.fixture(scope="module")
def report(chromium_programs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the page of checks has found: {"results": {name: error or null}, "violations": […]}."""
    from tests.e2e.browser.chromium import CUT_OFF, chromium

    downloads: Path = tmp_path_factory.mktemp("downloads")
    words = [{"body": body, "lines": conversation.lines(body)} for body, _ in TOLD]
    with serving(words) as server, chromium(*chromium_programs, downloads) as browser:
        deadline = time.monotonic() + LONGEST_SECONDS
        said: list[Any] = [CUT_OFF]
        while CUT_OFF in str(said):  # other tests make networks: what was asked for at that moment is missing
            said = []
            server.reported.clear()
            browser.get(f"http://127.0.0.1:{server.server_port}/checks/page.html")
            while not server.reported.wait(1) and CUT_OFF not in str(said):
                said += browser.get_log("browser")
                assert time.monotonic() < deadline, f"no report after {LONGEST_SECONDS:.0f} s; the browser says {said}"
            said += browser.get_log("browser")
        yield server.report


@pytest.mark.parametrize("name", named())
def test_check(report: dict[str, Any], name: str) -> None:
    assert name in report["results"], report.get("broken") or "the page has no such check"
    assert report["results"][name] is None


def test_every_check_of_the_page_is_a_test_here(report: dict[str, Any]) -> None:
    assert sorted(report["results"]) == sorted(named())


def test_the_pages_policy_had_nothing_to_block(report: dict[str, Any]) -> None:
    assert report["violations"] == []
