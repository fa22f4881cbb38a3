"""Builds the sandbox images that ship with the product: `basic`, and `agentic-dev` on top of it."""

from __future__ import annotations

import hashlib
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import docker
import requests

from workers.images.agent_cli import AGENT_LABEL, LOCK, AgentCli, locked
from workers.images.base import provide_base
from workers.images.cli_cache import provide_cli
from workers.images.context import open_context, write_context
from workers.images.failure import ImageBuildFailed

# On each image: the digest of what it was built from, so that an image that is up to date is left alone.
CONTENT_LABEL = "sandbox.image.content"
STEP_TIMEOUT_SECONDS = 1800
# The engine paints what a step writes to stderr.
COLOUR = re.compile(r"\x1b\[\d*m")


@dataclass(frozen=True, slots=True)
class ShippedImage:
    """An image whose Dockerfile ships with the product. `parent` names another one; None is the base.

    `has_agent`: its Dockerfile copies the coding agent's command line from the build context.
    """

    tag: str
    parent: str | None
    has_agent: bool = False


IMAGES = {
    "basic": ShippedImage("sandbox/basic:latest", None),
    "agentic-dev": ShippedImage("sandbox/agentic-dev:latest", "basic", has_agent=True),
}


def build(
    profile_name: str,
    *,
    engine: docker.DockerClient,
    echo: Callable[[str], None],
    force: bool = False,
    network: str | None = None,
) -> str:
    """Build the image of a shipped profile and those below it; return its id (`sha256:…`).

    What is up to date is not built again unless `force`, which renews the base, too. `network` is the
    engine's network mode for the build's steps (`host` where the default bridge has no way out). `echo` gets
    one line of progress at a time. Raises `ImageBuildFailed`, and the SDK's own errors when the engine does
    not answer.
    """
    image = IMAGES.get(profile_name)
    if image is None:
        raise ImageBuildFailed(
            profile_name,
            "no Dockerfile of that name ships with the product",
            f"use one of {', '.join(IMAGES)}, or build the profile's own image with `docker build`",
        )
    if image.parent is None:
        base = provide_base(engine, echo, renew=force)
        parent_id = _image_id(engine, base)
    else:
        base = IMAGES[image.parent].tag
        parent_id = build(image.parent, engine=engine, echo=echo, force=force, network=network)
    cli = _cli_for(image.tag, engine, base) if image.has_agent else None
    content = content_digest(profile_name, parent_id, cli)
    present = engine.images.list(name=image.tag)
    if present and present[0].labels.get(CONTENT_LABEL) == content and not force:
        echo(f"{image.tag} is up to date")
        return str(present[0].id)
    program = provide_cli(cli, echo, image=image.tag) if cli else None
    echo(f"building {image.tag} from {base}")
    options = {**_options(base, content, cli), "network_mode": network, "nocache": force}
    with open_context(profile_name, program, image=image.tag) as context:
        _run_build(engine, image.tag, context, options, echo)
    for former in present:
        _remove_former(engine, str(former.id))
    return _image_id(engine, image.tag)


def content_digest(name: str, parent_id: str, cli: AgentCli | None) -> str:
    """Return what tells one content of an image from another. Nothing is fetched for it."""
    files = io.BytesIO()
    write_context(files, name)
    agent = f"{cli.version} {cli.sha256}" if cli else ""
    return hashlib.sha256(files.getvalue() + parent_id.encode() + agent.encode()).hexdigest()


def _cli_for(tag: str, engine: docker.DockerClient, base: str) -> AgentCli:
    """Return the locked program for the architecture of `base`. Raises `ImageBuildFailed` when the lock has none."""
    architecture, programs = str(engine.images.get(base).attrs["Architecture"]), locked()
    if architecture not in programs:
        raise ImageBuildFailed(
            tag,
            f"{base} is an image for {architecture}, and {LOCK} has the agent's program for {', '.join(programs)} only",
            f"use an engine on such a machine, or add {architecture} to the lock (docs/images.md says how)",
        )
    return programs[architecture]


def _options(base: str, content: str, cli: AgentCli | None) -> dict[str, Any]:
    arguments, labels = {"BASE": base}, {CONTENT_LABEL: content}
    if cli is not None:
        arguments["CLAUDE_VERSION"] = labels[AGENT_LABEL] = cli.version
    return {"buildargs": arguments, "labels": labels}


def _remove_former(engine: docker.DockerClient, image_id: str) -> None:
    """Remove an image that lost its tag; one that a container still uses stays until the operator prunes."""
    with suppress(docker.errors.ImageNotFound, docker.errors.APIError):
        if not engine.images.get(image_id).tags:
            engine.images.remove(image_id)


def _image_id(engine: docker.DockerClient, tag: str) -> str:
    return str(engine.images.get(tag).id)


def _run_build(
    engine: docker.DockerClient,
    tag: str,
    context: IO[bytes],
    options: dict[str, Any],
    echo: Callable[[str], None],
) -> None:
    """Run one build and pass its output on. Raises `ImageBuildFailed` with the end of that output."""
    tail: deque[str] = deque(maxlen=20)
    try:
        progress = engine.api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=STEP_TIMEOUT_SECONDS,
            **options,
        )
        for line in _lines(progress):
            tail.append(line)
            echo(line)
    except (docker.errors.APIError, docker.errors.BuildError, requests.RequestException) as error:
        todo = (
            "correct what the output names and run `sandbox image build` again; "
            "where the build reaches no package mirror, add `--network host`"
        )
        raise ImageBuildFailed(tag, str(error), todo, tail) from error


def _lines(progress: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield the non-empty lines of a build's output. Raises `BuildError` when the build failed."""
    rest = ""
    for message in progress:
        if "error" in message:
            raise docker.errors.BuildError(str(message["error"]).strip(), iter(()))
        *whole, rest = (rest + COLOUR.sub("", str(message.get("stream", "")))).split("\n")
        yield from (line.rstrip() for line in whole if line.strip())
    if rest.strip():
        yield rest.rstrip()
