"""`sandbox doctor`: what it says of a machine that works, and of each part that does not."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from click.testing import CliRunner, Result
from docker.errors import NotFound

from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.migrate import HEAD, migrate
from tests.conftest import missing, postgres_programs
from tests.integration.store.cluster import can_run_as_server, running_cluster
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from workers import checkup
from workers.checkup.skew import clock_skew_seconds
from workers.checkup.work_directory import ROLE_CHECKUP
from workers.commands.doctor import doctor
from workers.finding import Level
from workers.sandbox.labels import ROLE

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
        "time",
        "keeper",
        "store",
        "broker",
        "artifacts",
        "api",
        "engine",
        "storage driver",
        "project quotas",
        "live-restore",
        "userns-remap",
        "swap",
        "engine logs",
        "runtime",
        "work directory",
    }
    assert set(found) >= expected | {"image", "agent", "clock"}
    assert "under the same path" in found["work directory"][0]["seen"]
    assert [one["seen"].split(" of profile ")[1].split(" ")[0] for one in found["image"]] == ["basic", "agentic-dev"]
    assert [("holds claude" in one["seen"], "for `run` tasks" in one["seen"]) for one in found["agent"]] == [
        (False, True),
        (True, False),
    ]
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
        SANDBOX_BROKER_URL="amqp://user:hunter2@127.0.0.1:9//",
    )
    assert result.exit_code == 1
    found = findings(result)
    assert (found["store"][0]["level"], found["broker"][0]["level"]) == ("problem", "problem")
    assert "SANDBOX_STORE_URL" in found["store"][0]["advice"]
    assert "SANDBOX_BROKER_URL" in found["broker"][0]["advice"]
    assert "hunter2" not in result.output


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

    for full, consequence in ((False, "none of them reaches it"), (True, "network_mode full")):
        settings = Settings(Path("/d"), "", "", "", allow_full_network=full)
        found, *others = checkup.engine.version(Engine(), settings)  # type: ignore[arg-type]
        assert (found.level, version in found.seen) == (level, True)
        assert (consequence in found.seen) is (level is Level.NOTE)
        vsock = ["AF_VSOCK" in one.seen for one in others if one.level is Level.NOTE]
        assert vsock == ([True] if int(version.partition(".")[0]) < 26 else [])


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
    assert clock_skew_seconds(datetime.fromisoformat(stamp), NOON, NOON + timedelta(seconds=1)) == seconds


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

        @staticmethod
        def inspect_container(_: str) -> dict[str, Any]:
            raise NotFound("no such container")

        @staticmethod
        def create_container_from_config(_: dict[str, Any]) -> dict[str, Any]:
            raise NotFound("no such directory")

    monkeypatch.setattr(checkup, "connect", Engine)
    result = run("--format", "json")
    assert result.exit_code == 1
    found = findings(result)
    assert [one["seen"] for one in found["engine"]] == [
        "it failed to answer: gone",
        "it failed to answer: slow",
        "it failed to answer: slow",
        "it failed to answer: slow",
    ]
    assert found["storage driver"][0]["seen"] == "overlay2, cgroup v1"
    assert closed == [True]


# --- where the engine is somewhere else than the worker


def doctor_in(namespaces: Sequence[str], before: str = "true") -> Findings:
    """Run the command in namespaces of its own, after the shell command `before`; the engine stays where it is."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("a root user with unshare", "run the tests as root, and install util-linux")
    doctor = f"exec {sys.executable} -m orchestrator.cli doctor --format json"
    argv = ["unshare", *namespaces, "sh", "-c", f"{before} && {doctor}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout, done.stderr
    by_subject: Findings = {}
    for one in json.loads(done.stdout):
        by_subject.setdefault(one["subject"], []).append(one)
    return by_subject


@pytest.mark.docker
def test_a_work_directory_that_the_engine_does_not_see_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path))
    [found] = doctor_in(["--mount"], f"mount -t tmpfs checkup {tmp_path} && mkdir {tmp_path}/work")["work directory"]
    assert found["level"] == "problem"
    assert "the engine cannot mount" in found["seen"]
    assert "at the same path" in found["advice"]
    assert list(tmp_path.iterdir()) == []  # nothing was made on the engine's side either


@pytest.mark.docker
def test_a_worker_that_does_not_see_the_engine_s_processes_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path))
    found = doctor_in(["--mount", "--pid", "--fork", "--mount-proc"])
    assert found["work directory"][0]["level"] == "ok"
    assert found["process ids"][0]["level"] == "note"
    assert "pid: host" in found["process ids"][0]["advice"]


@pytest.mark.docker
def test_no_container_is_left_of_the_look_at_the_work_directory(run: Callable[..., Result]) -> None:
    run()
    label = f"label={ROLE}={ROLE_CHECKUP}"
    left = subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True)
    assert left.stdout == ""


# --- servers


NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


def test_a_redis_that_evicts_is_a_problem_until_it_does_not(run: Callable[..., Result], tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        client = redis.Redis.from_url(server.url)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "64mb")
        [broker] = findings(run("--format", "json", SANDBOX_BROKER_URL=server.url, **NO_ENGINE))["broker"]
        assert broker["level"] == "problem"
        assert "allkeys-lru" in broker["seen"]
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
        [broker] = findings(run("--format", "json", SANDBOX_BROKER_URL=server.url, **NO_ENGINE))["broker"]
        assert broker["level"] == "ok"


def test_a_rabbitmq_tells_its_version(run: Callable[..., Result], tmp_path: Path) -> None:
    with RabbitServer(tmp_path / "rabbit") as server:
        [broker] = findings(run("--format", "json", SANDBOX_BROKER_URL=server.url, **NO_ENGINE))["broker"]
    assert broker["level"] == "ok"
    assert broker["seen"].startswith("RabbitMQ 3.")


@pytest.mark.postgres
def test_a_postgres_tells_version_schema_and_clock(run: Callable[..., Result]) -> None:
    programs = postgres_programs()
    if programs is None or not can_run_as_server():
        missing("a PostgreSQL server", "install the package postgresql, or run .ci/install")
    assert programs is not None, "missing() does not return"
    with running_cluster(programs) as cluster:
        url = cluster.url("postgres")
        found = findings(run("--format", "json", SANDBOX_STORE_URL=url, **NO_ENGINE))
        assert [one["level"] for one in found["store"]] == ["ok"]
        assert found["store"][0]["seen"].startswith("PostgreSQL 1")
        assert "the store's host agrees" in found["clock"][0]["seen"]
        assert found["schema"][0]["seen"].startswith("no tables yet")
        with closing(Database(url)) as database:
            migrate(database)
            [schema] = findings(run("--format", "json", SANDBOX_STORE_URL=url, **NO_ENGINE))["schema"]
            assert (schema["level"], schema["seen"]) == ("ok", f"{HEAD}, that of this version")
            with database.write() as tx:
                tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        [schema] = findings(run("--format", "json", SANDBOX_STORE_URL=url, **NO_ENGINE))["schema"]
        assert (schema["level"], "9999" in schema["seen"]) == ("problem", True)


def test_with_a_server_as_store_what_lies_on_this_host_alone_is_noted(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    for name in ("broker", "artifacts"):
        (tmp_path / "data" / name).mkdir(parents=True)
    found = findings(run("--format", "json", SANDBOX_STORE_URL="postgresql://127.0.0.1:9/s", **NO_ENGINE))
    assert "other hosts" in found["broker"][0]["seen"]
    assert "other hosts" in found["artifacts"][0]["seen"]
    assert [found[name][0]["level"] for name in ("store", "broker", "artifacts")] == ["problem", "note", "note"]


def test_an_artifact_directory_that_cannot_be_made_is_a_problem(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    url = f"file://{tmp_path}/a-file/artifacts"
    [found] = findings(run("--format", "json", SANDBOX_ARTIFACTS_URL=url, **NO_ENGINE))["artifacts"]
    assert found["level"] == "problem"
    assert "correct SANDBOX_ARTIFACTS_URL" in found["advice"]
