"""The server image installs what the tests ran with."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    found = [Requirement(line.rstrip("\\ ")) for line in lines]
    return {one.name: str(one.specifier) for one in found}


def test_every_pin_of_the_server_is_a_pin_of_the_development_environment() -> None:
    server, development = pins(ROOT / ".ci/server.lock"), pins(ROOT / "requirements.lock")
    assert {name: pin for name, pin in server.items() if development.get(name) != pin} == {}, "run `make lock`"


def test_the_server_has_the_drivers_of_every_store_broker_and_storage_and_no_development_tool() -> None:
    server = pins(ROOT / ".ci/server.lock")
    assert {"flask", "celery", "docker", "psycopg", "redis", "boto3", "hatchling"} <= set(server)
    assert not {"pytest", "mypy", "ruff", "moto"} & set(server)
