"""The checks of `sandbox doctor`: each one function, each finding with consequence and remedy."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

import docker
from docker.errors import ImageNotFound

from orchestrator.broker.messages import BrokerUnavailable, open_broker
from orchestrator.settings import LOOPBACK, Settings
from orchestrator.store.database import Database, StoreUnavailable
from workers.images.advice import how_to_get
from workers.sandbox.docker.connection import ENGINE_ERRORS, connect

GIB = 1 << 30
LOW_DISK_BYTES = 5 * GIB
CVE_2024_29018 = (((0,), (23, 0, 11)), ((24,), (25, 0, 4)))
"""From, and up to but without: versions of the engine whose internal networks resolve names outside."""
MAX_CLOCK_SKEW_SECONDS = 2.0


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was seen, what to do about it."""

    level: Level
    subject: str
    seen: str
    advice: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(subject: str, seen: str) -> Finding:
    return Finding(Level.OK, subject, seen)


def note(subject: str, seen: str, advice: str) -> Finding:
    return Finding(Level.NOTE, subject, seen, advice)


def problem(subject: str, seen: str, advice: str) -> Finding:
    return Finding(Level.PROBLEM, subject, seen, advice)


def examine(settings: Settings) -> list[Finding]:
    """Run every check. Never raises for a part that is missing: that is a finding."""
    found = [finding for check in CHECKS for finding in check(settings)]
    try:
        engine = connect()
    except ENGINE_ERRORS as error:
        advice = "install docker.io and start dockerd, or set DOCKER_HOST; this user needs access to its socket"
        return [problem("engine", f"the Docker Engine does not answer: {error}", advice), *found]
    with closing(engine):
        for check in ENGINE_CHECKS:
            try:
                found += check(engine, settings)
            except ENGINE_ERRORS as error:
                found.append(problem("engine", f"it failed to answer: {error}", "see the engine's log"))
    return found


def _privileges(_: Settings) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield ok("user", "root: workspaces belong to the sandbox's own user id 1000")
    else:
        advice = "run the worker as root to give sandboxes a user of their own, and to clone over https"
        yield note("user", f"uid {os.geteuid()}: sandboxes run as this user; https clones are not possible", advice)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = settings.data_dir
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    seen = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free at {settings.data_dir}"
    if usage.free < LOW_DISK_BYTES:
        yield problem("disk", seen, "free space, or point SANDBOX_DATA_DIR to a larger file system")
    else:
        yield ok("disk", seen)
    yield note("disk limit", "vm.disk is counted by placement and not enforced", "keep an eye on the host's disk")


def _network(_: Settings) -> Iterator[Finding]:
    advice = "tasks that need outbound or full wait for a version that enforces them"
    yield note("network", "network_mode isolated is enforced; outbound and full are refused", advice)


def _not_made_yet(settings: Settings, url: str) -> bool:
    """True for what lies in the data directory before the first start: to look at it would make it."""
    return not settings.data_dir.exists() and str(settings.data_dir) in unquote(url)


def _store(settings: Settings) -> Iterator[Finding]:
    if _not_made_yet(settings, settings.store_url):
        yield ok("store", f"is made at the first start: {settings.store_url}")
        return
    try:
        database = Database(settings.store_url)
        database.ping()
        database.close()
        yield ok("store", f"{settings.store_url.split('://')[0]} answers")
    except (StoreUnavailable, ValueError, OSError) as error:
        yield problem("store", str(error), "start it, or correct SANDBOX_STORE_URL")


def _broker(settings: Settings) -> Iterator[Finding]:
    if _not_made_yet(settings, settings.broker_url):
        yield ok("broker", f"is made at the first start: {settings.broker_url}")
        return
    try:
        broker = open_broker(settings.broker_url)
        broker.ping()
        broker.close()
        yield ok("broker", f"{settings.broker_url.split('://')[0]} answers")
    except (ImportError, AttributeError) as error:  # kombu's, when the package of a transport is not installed
        kind = settings.broker_url.split("://", maxsplit=1)[0]
        advice = f"install the Python package for {kind}:// beside this product, or correct SANDBOX_BROKER_URL"
        yield problem("broker", f"{kind}:// cannot be used: {error}", advice)
    except (BrokerUnavailable, ValueError, OSError) as error:
        yield problem("broker", str(error), "start it, or correct SANDBOX_BROKER_URL")


def _listening(settings: Settings) -> Iterator[Finding]:
    if settings.host in LOOPBACK:
        yield ok("api", f"listens on {settings.host}:{settings.port}: only this machine reaches it")
    else:
        advice = "anybody who reaches it can run code here: put it behind an authenticating proxy"
        yield note("api", f"listens on {settings.host}:{settings.port} without access tokens", advice)


def _settings(settings: Settings) -> Iterator[Finding]:
    shown = {one.name: getattr(settings, one.name) for one in fields(settings)}
    shown["profiles"] = "/".join(settings.profiles)
    if not settings.embedded:
        shown["in `sandbox up`"] = "wider overcommits, and file:// repositories, unless they are set"
    yield ok(
        "settings",
        ", ".join(f"{name}={_without_password(value)}" for name, value in shown.items()),
    )


def _without_password(value: object) -> object:
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:…@", value) if isinstance(value, str) else value


def _version(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    version = str(engine.version()["Version"])
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if any(first <= numbers < fixed for first, fixed in CVE_2024_29018):
        advice = "tasks have no network, so none reaches it; renew the engine all the same"
        yield note("engine", f"version {version}: CVE-2024-29018 (DNS) is open", advice)
    else:
        yield ok("engine", f"version {version}")


def _configuration(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    info = engine.info()
    yield ok("storage driver", f"{info['Driver']}, cgroup v{info.get('CgroupVersion', '1')}")
    if not info.get("LiveRestoreEnabled"):
        advice = 'set "live-restore": true in /etc/docker/daemon.json'
        yield note("live-restore", "off: a restart of the engine ends all running tasks", advice)
    if not any("userns" in one for one in info.get("SecurityOptions", [])):
        advice = 'consider "userns-remap" in /etc/docker/daemon.json for hostile tenants'
        yield note("userns-remap", "off: sandboxes share the host's user ids, without capabilities", advice)
    if not info.get("SwapLimit"):
        yield note(
            "memory",
            "the kernel does not account swap: vm.memory limits memory only",
            "boot with swapaccount=1",
        )


def _images(engine: docker.APIClient, settings: Settings) -> Iterator[Finding]:
    for profile in settings.profiles.values():
        try:
            found = engine.inspect_image(profile.image)
            yield ok("image", f"{profile.image} of profile {profile.name} is here ({found['Id'][7:19]})")
        except ImageNotFound:
            advice = how_to_get(profile.image)
            yield problem("image", f"{profile.image} of profile {profile.name} is missing on this host", advice)


def _clock(engine: docker.APIClient, _: Settings) -> Iterator[Finding]:
    before = datetime.now(UTC)
    stamp = engine.info().get("SystemTime")
    if not stamp:
        return
    skew = clock_skew_seconds(stamp, before, datetime.now(UTC))
    if skew > MAX_CLOCK_SKEW_SECONDS:
        yield note("clock", f"the engine's clock is {skew:.0f} s off", "synchronise the clocks (chrony)")
    else:
        yield ok("clock", "the engine's clock agrees with this one")


def clock_skew_seconds(stamp: str, before: datetime, after: datetime) -> float:
    """How far `stamp` (RFC 3339, in whatever zone the engine lives) is outside of when it was asked for."""
    there = datetime.fromisoformat(stamp)
    return max(0.0, (before - there).total_seconds(), (there - after).total_seconds())


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _settings, _privileges, _disk, _network, _store, _broker, _listening,
)  # fmt: skip
ENGINE_CHECKS: tuple[Callable[[docker.APIClient, Settings], Iterator[Finding]], ...] = (
    _version, _configuration, _images, _clock,
)  # fmt: skip
