"""The coding agent: whether the images of the profiles hold its command line."""

from __future__ import annotations

from collections.abc import Iterator

import docker
from docker.errors import ImageNotFound

from orchestrator.profiles import Profile
from orchestrator.settings import Settings
from workers.finding import Finding, note, ok, problem
from workers.images import IMAGES
from workers.images.advice import how_to_get
from workers.images.agent_cli import AGENT_LABEL, locked

SUBJECT = "agent"


def command_lines(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    """By the label that our images have, and that an operator's own image should have."""
    for profile in settings.profiles.values():
        try:
            found = engine.inspect_image(profile.image)
        except ImageNotFound:
            continue  # the check of images says so
        labels = found["Config"].get("Labels") or {}
        yield command_line(profile, labels.get(AGENT_LABEL))


def command_line(profile: Profile, version: str | None) -> Finding:
    """Judge a profile by the version that its image's label tells; None: there is no such label."""
    ours = {one.tag for one in IMAGES.values() if one.has_agent}
    tried = sorted({cli.version for cli in locked().values()})
    where = f"{profile.image} of profile {profile.name}"
    if version is not None and profile.image in ours and version not in tried:
        seen = f"{where} holds claude {version}; this version of the product was tried with {', '.join(tried)}"
        return note(SUBJECT, seen, how_to_get(profile.image))
    if version is not None:
        return ok(SUBJECT, f"{where} holds claude {version}")
    if profile.image in ours:
        seen = f"{where} lacks the claude command line: `claude` tasks in it end with agent_not_found"
        return problem(SUBJECT, seen, how_to_get(profile.image))
    if profile.name in IMAGES and IMAGES[profile.name].has_agent:
        seen = (
            f"{where} does not say that it holds the claude command line (label {AGENT_LABEL}); "
            "where it does not, `claude` tasks that name no profile end with agent_not_found"
        )
        return note(SUBJECT, seen, "put the program and the label into that image, see docs/images.md")
    return ok(SUBJECT, f"{where} has no label {AGENT_LABEL}: it is for `run` tasks")
