"""`sandbox doctor`: what it says of a machine that works, and of each part that does not."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from workers import checkup
from workers.checkup import Level, clock_skew_seconds
from workers.commands.doctor import doctor

# The SDK leaves sockets of calls that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

Findings = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What the SDK left open is closed, and warned of, in the test that made it."""
    yield
    gc.collect()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs the command with the given settings over those of an empty machine."""
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str, **settings: str) -> Result:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(doctor, arguments)

    return call


def findings(result: Result) -> Findings:
    by_subject: Findings = {}
    for one in json.loads(result.stdout):
        by_subject.setdefault(one["subject"], []).append(one)
    return by_subject


@pytest.mark.docker
def test_a_machine_that_works_has_no_problem_and_exit_code_0(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("--format", "json")
    assert result.exit_code == 0, result.output
    found = findings(result)
    assert {one["level"] for many in found.values() for one in many} <= {"ok", "note"}
    expected = {
        "settings",
        "user",
        "disk",
        "disk limit",
        "network",
        "store",
        "broker",
        "api",
        "engine",
        "storage driver",
    }
    assert set(found) >= expected | {"image", "clock"}
    assert [one["seen"].split(" of profile ")[1].split(" ")[0] for one in found["image"]] == ["basic", "agentic-dev"]
    assert not (tmp_path / "data").exists()  # looking makes nothing


@pytest.mark.docker
def test_every_note_and_problem_says_what_to_do(run: Callable[..., Result]) -> None:
    for many in findings(run("--format", "json")).values():
        for one in many:
            assert set(one) == {"level", "subject", "seen", "advice"}
            assert bool(one["advice"]) is (one["level"] != "ok")


@pytest.mark.docker
def test_the_text_has_one_mark_a_line_and_the_advice_below(run: Callable[..., Result]) -> None:
    result = run()
    assert result.exit_code == 0
    for line in result.stdout.splitlines():
        assert line.startswith(("ok      ", "note    ", "        → "))
    assert any(line.startswith("ok      image: sandbox/basic:latest") for line in result.stdout.splitlines())


@pytest.mark.docker
def test_an_image_that_is_missing_is_a_problem_with_its_remedy(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "profiles.yaml").write_text("gpu: {image: 'no-such/image:1'}\n")
    result = run("--format", "json", SANDBOX_PROFILES=str(tmp_path / "profiles.yaml"))
    assert result.exit_code == 1
    [problem] = [one for one in findings(result)["image"] if one["level"] == "problem"]
    assert "no-such/image:1 of profile gpu is missing" in problem["seen"]
    assert problem["advice"]


def test_an_engine_that_is_down_is_a_problem_and_the_rest_is_looked_at(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run("--format", "json", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert result.exit_code == 1
    found = findings(result)
    [engine] = found["engine"]
    assert engine["level"] == "problem"
    assert "does not answer" in engine["seen"]
    assert "start dockerd, or set DOCKER_HOST" in engine["advice"]
    assert {"settings", "store", "broker", "disk"} <= set(found)
    text = run()
    assert text.exit_code == 1
    assert text.stdout.startswith("PROBLEM engine: the Docker Engine does not answer")


def test_store_and_broker_that_are_down_are_problems(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    result = run(
        "--format",
        "json",
        DOCKER_HOST=f"unix://{tmp_path}/no.sock",
        SANDBOX_STORE_URL=f"sqlite:///{tmp_path}/a-file/store.db",
        SANDBOX_BROKER_URL="amqp://user:secret@127.0.0.1:9//",
    )
    assert result.exit_code == 1
    found = findings(result)
    assert (found["store"][0]["level"], found["broker"][0]["level"]) == ("problem", "problem")
    assert "SANDBOX_STORE_URL" in found["store"][0]["advice"]
    assert "SANDBOX_BROKER_URL" in found["broker"][0]["advice"]
    assert "secret" not in result.output


def test_the_settings_in_force_are_printed_without_passwords(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(
        "--format",
        "json",
        DOCKER_HOST=f"unix://{tmp_path}/no.sock",
        SANDBOX_CONCURRENCY="7",
        SANDBOX_BROKER_URL="redis://:se-cret@127.0.0.1:9/0",
    )
    [settings] = findings(result)["settings"]
    assert "concurrency=7, " in settings["seen"]
    assert "broker_url=redis://:…@127.0.0.1:9/0" in settings["seen"]
    assert "se-cret" not in result.output


def test_settings_that_are_not_usable_are_refused_before_anything_is_looked_at(run: Callable[..., Result]) -> None:
    result = run("--format", "json", SANDBOX_CONCURRENCY="many")
    assert result.exit_code != 0
    assert "SANDBOX_CONCURRENCY" in str(result.exception)


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("20.10.24+dfsg1", Level.NOTE),
        ("23.0.10", Level.NOTE),
        ("23.0.11", Level.OK),
        ("24.0.9", Level.NOTE),
        ("25.0.3", Level.NOTE),
        ("25.0.4", Level.OK),
        ("26.0.0-rc3", Level.OK),
        ("28.2.2", Level.OK),
    ],
)
def test_an_engine_with_the_hole_in_its_resolver_is_noted(version: str, level: Level) -> None:
    class Engine:
        @staticmethod
        def version() -> dict[str, str]:
            return {"Version": version}

    [found] = checkup._version(Engine(), None)  # type: ignore[arg-type]
    assert found.level is level
    assert version in found.seen


NOON = datetime(2026, 1, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2026-01-29T12:00:00.500000123Z", 0),
        ("2026-01-29T13:00:00.5+01:00", 0),
        ("2026-01-29T07:30:01-04:30", 0),
        ("2026-01-29T12:00:11Z", 10),
        ("2026-01-29T11:59:00Z", 60),
    ],
)
def test_the_engine_s_clock_is_compared_in_whatever_zone_it_lives(stamp: str, seconds: float) -> None:
    assert clock_skew_seconds(stamp, NOON, NOON + timedelta(seconds=1)) == seconds


def test_a_check_that_the_engine_does_not_answer_is_a_finding_and_not_the_end(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    class Engine:
        @staticmethod
        def info() -> dict[str, Any]:
            return {"Driver": "overlay2"}

        @staticmethod
        def version() -> dict[str, Any]:
            raise ConnectionResetError("gone")

        @staticmethod
        def close() -> None:
            closed.append(True)

        @staticmethod
        def inspect_image(_: str) -> dict[str, Any]:
            raise TimeoutError("slow")

    monkeypatch.setattr(checkup, "connect", Engine)
    result = run("--format", "json")
    assert result.exit_code == 1
    found = findings(result)
    assert [one["seen"] for one in found["engine"]] == ["it failed to answer: gone", "it failed to answer: slow"]
    assert found["storage driver"][0]["seen"] == "overlay2, cgroup v1"
    assert closed == [True]
