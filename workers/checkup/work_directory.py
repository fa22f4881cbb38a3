"""Whether the engine sees the worker's directory, and the worker the engine's processes: a container of ours tells."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from orchestrator.settings import Settings
from workers.checkup.machine import CAP_SYS_ADMIN, has_capability, nearest
from workers.finding import Finding, note, ok, problem
from workers.sandbox.docker.visibility import sees_directory
from workers.sandbox.labels import ROLE
from workers.task_disk import ImageDisk, WatchedDisk, locked, why_no_images

SUBJECT = "work directory"
ROLE_CHECKUP = "checkup"
INSIDE = "/checkup"
TOKEN = "token"  # noqa: S105 - the name of a file
WAIT_SECONDS = 30
_SCRIPT = f'sleep 1; test "$(cat {INSIDE}/{TOKEN})" = "$0"'
"""Alive for a moment, so that the worker can look at the process; then the exit code is the answer."""


def seen_by_engine(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    """Start a container that has to find a file of ours. Nothing is left of it.

    A worker in a container may drive an engine that knows other directories under the same paths.
    """
    image = settings.profiles["basic"].image
    place = nearest(settings.work_dir)
    if not os.access(place, os.W_OK):
        seen = f"{place} is not writable for this user: no workspace can be made"
        yield problem(SUBJECT, seen, "give it to the worker's user, or point SANDBOX_DATA_DIR elsewhere")
        return
    try:
        engine.inspect_image(image)
    except ImageNotFound:
        yield note(SUBJECT, f"whether the engine sees {place} was not tried: {image} is missing", "build it first")
        return
    with (
        tempfile.TemporaryDirectory(prefix=".sandbox-checkup-", dir=place) as directory,
        locked(Path(directory)),  # a worker that runs here would take it for an orphan
    ):
        yield from _tried(engine, image, Path(directory), place)


def _tried(engine: docker.APIClient, image: str, directory: Path, place: Path) -> Iterator[Finding]:
    token = secrets.token_hex(16)
    directory.chmod(0o755)  # with userns-remap, root in the container is nobody here
    (directory / TOKEN).write_text(token)
    (directory / TOKEN).chmod(0o644)
    advice = (
        "bind the host's directory at the same path into the worker's container, or set DOCKER_HOST to this machine"
    )
    try:
        with _container(engine, image, directory, token) as probe:
            visible = _sees_process(engine, probe, token)
            code = engine.wait(probe, timeout=WAIT_SECONDS)["StatusCode"]
    except APIError as error:
        seen = f"the engine cannot mount {place}: {error.explanation}; sandboxes would have no workspace"
        yield problem(SUBJECT, seen, advice)
        return
    if code != 0:
        seen = f"the engine has another directory at {place} than this process: sandboxes would find an empty workspace"
        yield problem(SUBJECT, seen, advice)
        return
    yield ok(SUBJECT, f"the engine sees {place} under the same path")
    if has_capability(CAP_SYS_ADMIN) and not visible:
        seen = "the engine's containers are not among this process's: every way out of a sandbox takes a sidecar"
        yield note("process ids", seen, "run the worker's container with pid: host")


@contextmanager
def _container(engine: docker.APIClient, image: str, directory: Path, token: str) -> Iterator[str]:
    # A mount, not a bind: the engine makes the directory of a bind that is not there.
    mount = docker.types.Mount(INSIDE, str(directory), type="bind", read_only=True)
    created: dict[str, Any] = engine.create_container(
        image,
        entrypoint=["/bin/sh", "-c", _SCRIPT, token],
        command=[],
        user=f"{os.geteuid()}:{os.getegid()}",
        labels={ROLE: ROLE_CHECKUP},
        host_config=engine.create_host_config(
            mounts=[mount], network_mode="none", cap_drop=["ALL"], security_opt=["no-new-privileges"], read_only=True
        ),
    )
    try:
        engine.start(created["Id"])
        yield str(created["Id"])
    finally:
        engine.remove_container(created["Id"], force=True)


def _sees_process(engine: docker.APIClient, probe: str, token: str) -> bool:
    """Tell whether the container's process is the one that has its number here: only then its root holds the file."""
    number = engine.inspect_container(probe)["State"]["Pid"]
    try:
        return Path(f"/proc/{number}/root{INSIDE}/{TOKEN}").read_text() == token
    except OSError:
        return False


def disk_limit(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    """Make a file system of a limited size, as a worker does at its start. Nothing is left of it."""
    place = nearest(settings.work_dir)
    if not os.access(place, os.W_OK):
        return  # the check above says so
    why = why_no_images(place, partial(sees_directory, engine))
    if why is None:
        yield ok("disk limit", f"vm.disk is held by a file system for each task ({ImageDisk.mechanism})")
        return
    seen = f"{why}; vm.disk is {WatchedDisk.mechanism}: a task can write more than it may, for that long"
    advice = (
        "run the worker as root, with loop devices (modprobe loop) and e2fsprogs; in a container privileged, rshared"
    )
    yield note("disk limit", seen, advice)
