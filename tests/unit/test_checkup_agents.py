"""What `sandbox doctor` says of the agent in the images of the profiles."""

from __future__ import annotations

from typing import Any

import pytest
from docker.errors import ImageNotFound

from orchestrator.profiles import Profile
from orchestrator.settings import Settings, load
from workers.checkup.agents import command_line, command_lines
from workers.finding import Level
from workers.images.agent_cli import AGENT_LABEL, locked

OURS = Profile("agentic-dev", "sandbox/agentic-dev:latest")
BASIC = Profile("basic", "sandbox/basic:latest")
OWN = Profile("agentic-dev", "registry.test/team/dev:1")
OTHER = Profile("gpu", "registry.test/team/gpu:1")
TRIED = locked()["amd64"].version


@pytest.mark.parametrize(
    ("profile", "version", "level", "words"),
    [
        (OURS, TRIED, Level.OK, f"holds claude {TRIED}"),
        (OURS, "1.0.0", Level.NOTE, f"holds claude 1.0.0; this version of the product was tried with {TRIED}"),
        (OURS, None, Level.PROBLEM, "end with agent_not_found"),
        (BASIC, None, Level.OK, "for `run` tasks"),
        (OWN, "1.0.0", Level.OK, "registry.test/team/dev:1 of profile agentic-dev holds claude 1.0.0"),
        (OWN, None, Level.NOTE, AGENT_LABEL),
        (OTHER, None, Level.OK, "of profile gpu"),
    ],
)
def test_a_profile_is_judged_by_its_image_s_label(
    profile: Profile, version: str | None, level: Level, words: str
) -> None:
    found = command_line(profile, version)
    assert (found.level, words in found.seen) == (level, True)
    assert bool(found.advice) is (level is not Level.OK)


def test_our_image_without_the_agent_is_remedied_by_a_build() -> None:
    advice = command_line(OURS, None).advice
    assert advice is not None
    assert "sandbox image build agentic-dev" in advice


@pytest.mark.parametrize("labels", [None, {}, {AGENT_LABEL: TRIED}])
def test_the_label_is_read_from_the_engine_and_a_missing_image_is_another_check_s(
    labels: dict[str, str] | None,
) -> None:
    class Engine:
        @staticmethod
        def inspect_image(name: str) -> dict[str, Any]:
            if name == BASIC.image:
                raise ImageNotFound(name)
            return {"Config": {"Labels": labels}}

    settings: Settings = load({})
    [found] = command_lines(Engine(), settings)  # type: ignore[arg-type]
    assert found.level is (Level.OK if labels else Level.PROBLEM)
