"""Builds the sandbox images that ship with the product: `basic`, and `agentic-dev` on top of it."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any

import docker
import requests

from workers.images.base import provide_base
from workers.images.failure import ImageBuildFailed

# On each image: the digest of what it was built from, so that an image that is up to date is left alone.
CONTENT_LABEL = "sandbox.image.content"
STEP_TIMEOUT_SECONDS = 1800
# The engine paints what a step writes to stderr.
COLOUR = re.compile(r"\x1b\[\d*m")


@dataclass(frozen=True, slots=True)
class ShippedImage:
    """An image whose Dockerfile ships with the product. `parent` names another one; None is the base."""

    tag: str
    parent: str | None


IMAGES = {
    "basic": ShippedImage("sandbox/basic:latest", None),
    "agentic-dev": ShippedImage("sandbox/agentic-dev:latest", "basic"),
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
    context = _context(profile_name)
    content = hashlib.sha256(context + parent_id.encode()).hexdigest()
    present = engine.images.list(name=image.tag)
    if present and present[0].labels.get(CONTENT_LABEL) == content and not force:
        echo(f"{image.tag} is up to date")
        return str(present[0].id)
    echo(f"building {image.tag} from {base}")
    options = {"buildargs": {"BASE": base}, "labels": {CONTENT_LABEL: content}, "network_mode": network}
    _run_build(engine, image.tag, context, {**options, "nocache": force}, echo)
    for former in present:
        _remove_former(engine, str(former.id))
    return _image_id(engine, image.tag)


def _remove_former(engine: docker.DockerClient, image_id: str) -> None:
    """Remove an image that lost its tag; one that a container still uses stays until the operator prunes."""
    with suppress(docker.errors.ImageNotFound, docker.errors.APIError):
        if not engine.images.get(image_id).tags:
            engine.images.remove(image_id)


def _image_id(engine: docker.DockerClient, tag: str) -> str:
    return str(engine.images.get(tag).id)


def _context(name: str) -> bytes:
    """Return the directory of a Dockerfile as a tar archive: equal files give equal bytes, anywhere."""
    buffer = io.BytesIO()
    directory = resources.files("workers.images").joinpath(name)
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            data = entry.read_bytes()
            member = tarfile.TarInfo(entry.name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _run_build(
    engine: docker.DockerClient,
    tag: str,
    context: bytes,
    options: dict[str, Any],
    echo: Callable[[str], None],
) -> None:
    """Run one build and pass its output on. Raises `ImageBuildFailed` with the end of that output."""
    tail: deque[str] = deque(maxlen=20)
    try:
        progress = engine.api.build(
            fileobj=io.BytesIO(context),
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
