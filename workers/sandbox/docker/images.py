"""Images of the engine: looked up by name, fetched by a process of its own, told by their exact id."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import docker
from docker.errors import APIError, ImageNotFound

from workers.images.advice import how_to_get
from workers.sandbox.docker.pull import ENGINE_AWAY
from workers.sandbox.port import EngineUnavailable, Image, ImageUnavailable

POLL_SECONDS = 0.2
READ_BYTES = 64 << 10


def find(api: docker.APIClient, name: str) -> Image | None:
    """Return the image if it is here. Raises `ImageUnavailable` for a name that the engine does not take."""
    try:
        return image_of(name, api.inspect_image(name))
    except ImageNotFound:
        return None
    except APIError as error:
        if not error.is_client_error():
            raise
        raise ImageUnavailable(unavailable(name, error.explanation or str(error))) from error


def image_of(name: str, inspected: dict[str, Any]) -> Image:
    """The image in the port's words. Its digest is the one by which `name`'s registry knows it, else its id."""
    repository, exact = _repository(name), str(inspected["Id"])
    digests = [str(one) for one in inspected.get("RepoDigests") or ()]
    digest = next((one for one in digests if _repository(one) == repository), exact)
    volumes = tuple(sorted((inspected.get("Config") or {}).get("Volumes") or ()))
    return Image(name, digest, exact, volumes)


def _repository(name: str) -> str:
    """A name without tag and digest, as the engine writes it: without the public registry's own."""
    bare = name.partition("@")[0]
    head, _, tag = bare.rpartition(":")
    bare = head if head and "/" not in tag else bare
    return bare.removeprefix("docker.io/").removeprefix("library/")


def fetch(
    image: str, registry_config: Path | None, *, interrupted: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """Pull it; `say` is told how far it is. Raises `ImageUnavailable`, also when `interrupted()` turns true."""
    argv = [sys.executable, "-P", "-m", "workers.sandbox.docker.pull", image]
    argv += [str(registry_config)] if registry_config else []
    with (
        tempfile.TemporaryFile() as reasons,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=reasons) as fetching,
    ):
        try:
            _follow(cast("IO[bytes]", fetching.stdout), image, interrupted, say)
            fetching.wait()
        finally:
            fetching.kill()  # harmless after its end; before, somebody does not want the image any more
        reasons.seek(0)
        why = reasons.read().decode(errors="replace").strip()
    if fetching.returncode == ENGINE_AWAY:
        raise EngineUnavailable(f"the Docker Engine went away during the pull of image {image}: {why}")
    if fetching.returncode != 0:
        raise ImageUnavailable(unavailable(image, why or "the pull ended without a reason"))


def _follow(said: IO[bytes], image: str, interrupted: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Pass on each line, until the end."""
    waiting, unfinished = select.poll(), b""
    waiting.register(said, select.POLLIN)
    while True:
        if interrupted():
            raise ImageUnavailable(f"the pull of image {image} was stopped")
        if not waiting.poll(POLL_SECONDS * 1000):
            continue
        received = os.read(said.fileno(), READ_BYTES)
        if not received:
            return
        *lines, unfinished = (unfinished + received).split(b"\n")
        for line in lines:
            say(line.decode(errors="replace"))


def unavailable(image: str, why: str) -> str:
    """The words for an image that cannot be had."""
    return f"image {image} cannot be had: {why}; on this worker, {how_to_get(image)}"
