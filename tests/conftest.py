"""What every test may ask for: services that are there, and a host that is clean afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

IMAGES = ("sandbox/basic:latest", "sandbox/agentic-dev:latest")


def missing(what: str, how: str) -> None:
    """A missing service skips locally and fails under CI: a green run there means that it was tested."""
    message = f"{what} is missing; {how}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


LONG_TESTS = {
    "faults_long": ("--all-faults", "the long tests of the fault suite, too"),
    "security_long": ("--all-security", "the long tests of the security suite, too"),
}
"""By marker: the option that runs these tests, and its help."""


def pytest_addoption(parser: pytest.Parser) -> None:
    for option, what in LONG_TESTS.values():
        parser.addoption(option, action="store_true", help=what)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the long tests of each suite unless they are asked for."""
    left_out = [marker for marker, (option, _) in LONG_TESTS.items() if not config.getoption(option)]
    long = [item for item in items if any(item.get_closest_marker(marker) for marker in left_out)]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """A Docker Engine with the sandbox images."""
    found = subprocess.run(["docker", "image", "inspect", *IMAGES], capture_output=True, check=False)
    if found.returncode != 0:
        missing("a Docker Engine with the sandbox images", "run .ci/install")


@pytest.fixture(autouse=True)
def _needs_docker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("docker"):
        request.getfixturevalue("docker_engine")


@pytest.fixture(scope="session")
def chromium_programs() -> tuple[str, str]:
    """The paths of Chromium and of its driver."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None or find_spec("selenium") is None:
        missing("Chromium with its driver and selenium", "run .ci/install")
    assert browser
    assert driver
    return browser, driver


@pytest.fixture(autouse=True)
def _needs_browser(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("browser"):
        request.getfixturevalue("chromium_programs")


def postgres_programs() -> Path | None:
    """The newest installed PostgreSQL server's programs."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None
