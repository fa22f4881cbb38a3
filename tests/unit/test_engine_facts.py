"""What an engine tells of itself, and which profiles a worker offers on it."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from orchestrator.profiles import Profile
from workers.known_engine import KnownEngine
from workers.offered import offered, runtime_of, withheld
from workers.outages import Outages
from workers.sandbox.docker.facts import facts_of
from workers.sandbox.port import EngineFacts, EngineUnavailable, Runtime, SandboxBackend, SandboxError


def runsc(*arguments: str, path: str = "/usr/bin/runsc") -> dict[str, Any]:
    return {"path": path, "runtimeArgs": list(arguments)}


def test_an_engine_as_it_comes_shares_the_host_s_user_ids() -> None:
    info = {
        "Runtimes": {"runc": {"path": "runc"}, "io.containerd.runc.v2": {"path": "runc"}},
        "DefaultRuntime": "runc",
        "SecurityOptions": ["name=seccomp,profile=default"],
        "DockerRootDir": "/var/lib/docker",
        "SwapLimit": True,
    }
    plain = Runtime(limits=True, loopback=True)
    assert facts_of(info) == EngineFacts({"runc": plain, "io.containerd.runc.v2": plain}, "runc")
    assert facts_of({}) == EngineFacts({}, "runc", swap_limited=False)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (runsc("--platform=ptrace"), Runtime(limits=True, loopback=False)),
        (runsc("--network=host"), Runtime(limits=True, loopback=True)),
        (runsc("-network=host", "-ignore-cgroups"), Runtime(limits=False, loopback=True)),
        (runsc("--ignore-cgroups=true"), Runtime(limits=False, loopback=False)),
        (runsc("--ignore-cgroups=false"), Runtime(limits=True, loopback=False)),
        ({"runtimeType": "io.containerd.kata.v2"}, Runtime(limits=True, loopback=False)),
        ({"path": "/usr/bin/nvidia-container-runtime"}, Runtime(limits=True, loopback=True)),
        (None, Runtime(limits=True, loopback=True)),
    ],
)
def test_what_a_runtime_does_is_told_by_its_program_and_its_arguments(told: Any, expected: Runtime) -> None:
    assert facts_of({"Runtimes": {"it": told}}).runtimes["it"] == expected


def test_an_engine_that_maps_user_ids_tells_the_first_by_its_directory() -> None:
    found = facts_of({"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/200000.300000"})
    assert (found.first_user_id, found.first_group_id) == (200_000, 300_000)
    with pytest.raises(SandboxError, match="userns-remap"):
        facts_of({"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker"})


def test_a_profile_is_offered_when_the_engine_has_its_runtime_and_that_sets_limits() -> None:
    profiles = [Profile("plain", "i:1"), *(Profile(name, "i:1", runtime=name) for name in ("good", "bad", "absent"))]
    engine = EngineFacts(
        {"good": Runtime(True, False), "bad": Runtime(False, True), "runc": Runtime(True, True)}, "runc"
    )
    assert offered(profiles, engine) == ("plain", "good")
    assert offered(profiles, None) == ("plain",)
    assert "--ignore-cgroups" in (withheld(profiles[2], engine) or "")
    assert "does not know the runtime absent" in (withheld(profiles[3], engine) or "")
    assert runtime_of(profiles[0], engine) == ("runc", Runtime(True, True))
    assert runtime_of(profiles[1], engine)[1].loopback is False


class Engine:
    """Answers with what the test says next."""

    def __init__(self, *answers: EngineFacts | Exception) -> None:
        self.answers = list(answers)

    def facts(self) -> EngineFacts:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_engine_is_asked_once_and_again_after_an_outage() -> None:
    outages = Outages()
    first, second = EngineFacts({}, "first"), EngineFacts({}, "second")
    engine = Engine(first, EngineUnavailable("away"), second)
    known = KnownEngine(cast("SandboxBackend", engine), outages)
    assert known.last is None
    assert known.facts() is known.facts() is first
    outages.note()
    with pytest.raises(EngineUnavailable):
        known.facts()
    assert known.last is first
    assert known.facts() is known.facts() is second


def test_a_worker_that_is_not_root_cannot_work_with_an_engine_that_maps_user_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    known = KnownEngine(cast("SandboxBackend", Engine(EngineFacts({}, "runc", 200_000, 200_000))), Outages())
    with pytest.raises(SandboxError, match="run it as root"):
        known.facts()
