"""What `doctor` says of the container that a worker runs in, as its engine describes it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from orchestrator import settings
from workers.checkup_container import container
from workers.finding import Level

HOST_NAME = "0123456789ab"
SEEN = {"Id": HOST_NAME + 52 * "c"}


class Engine:
    """Describes one container."""

    def __init__(self, described: dict[str, Any] | None) -> None:
        self._described = described

    def inspect_container(self, name: str) -> dict[str, Any]:
        assert name == HOST_NAME
        if self._described is None:
            raise NotFound("no such container")
        return self._described


def described(
    *, privileged: bool = True, added: list[str] | None = None, propagation: str = "rshared", at: str = "/data"
) -> dict[str, Any]:
    mount = {"Type": "bind", "Source": at, "Destination": at, "Propagation": propagation}
    return {**SEEN, "HostConfig": {"Privileged": privileged, "CapAdd": added}, "Mounts": [mount]}


def examined(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Level, str]]:
    monkeypatch.setattr(socket, "gethostname", lambda: HOST_NAME)
    in_force = settings.load({"SANDBOX_DATA_DIR": str(Path("/data/sandbox"))})
    return [(one.level, one.seen) for one in container(engine, in_force)]  # type: ignore[arg-type]


def test_outside_of_a_container_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(Engine(None), monkeypatch) == []


def test_a_container_that_only_bears_the_hosts_name_is_not_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(Engine({**described(), "Id": 64 * "f"}), monkeypatch) == []


def test_a_privileged_container_with_a_shared_directory_has_all_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [level for level, _ in examined(Engine(described()), monkeypatch)] == [Level.OK, Level.OK]


def test_a_directory_that_is_not_shared_costs_the_limit_of_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    [(level, seen), _] = examined(Engine(described(propagation="rprivate")), monkeypatch)
    assert level is Level.NOTE
    assert "/data is bound rprivate" in seen
    assert "sizes cannot be enforced" in seen


def test_without_the_capabilities_no_repository_can_be_cloned_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    [_, (level, seen)] = examined(Engine(described(privileged=False, added=["CAP_SYS_ADMIN"])), monkeypatch)
    assert level is Level.NOTE
    assert "without SYS_PTRACE" in seen
    assert "takes a sidecar" in seen


def test_the_capabilities_alone_are_told_apart_from_a_privileged_container(monkeypatch: pytest.MonkeyPatch) -> None:
    given = described(privileged=False, added=["SYS_ADMIN", "SYS_PTRACE"])
    [_, (level, seen)] = examined(Engine(given), monkeypatch)
    assert level is Level.NOTE
    assert seen.startswith("not privileged")


def test_the_check_of_the_work_directory_speaks_of_a_directory_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(examined(Engine(described(at="/other")), monkeypatch)) == 1
