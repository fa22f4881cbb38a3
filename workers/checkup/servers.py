"""Store, broker, artifact storage: reached, of a version we work with, set up as we need them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from orchestrator.artifacts import ArtifactStoreUnavailable, open_artifact_store
from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.messages import BrokerUnavailable, open_broker
from orchestrator.settings import Settings
from orchestrator.settings_report import without_secrets
from orchestrator.store.database import Database, StoreUnavailable
from orchestrator.store.location import sqlite_file
from orchestrator.store.migrate import HEAD, version_of
from workers.checkup.mounts import NETWORK_FILE_SYSTEMS, mount_of
from workers.checkup.skew import compared
from workers.finding import Finding, note, ok, problem

OLDEST_POSTGRES = 13
"""The first one with pg_current_xact_id, by which readers of the journal follow commits."""
OLDEST_RABBITMQ = (3, 8)
NO_EVICTION = "noeviction"


def store(settings: Settings) -> Iterator[Finding]:
    file = sqlite_file(settings.store_url)
    if file is not None and not file.exists():
        yield _to_be_made("store", file, "SANDBOX_STORE_URL")
        return
    try:
        with closing(Database(settings.store_url)) as database:
            database.ping()
            yield from _answering_store(database, file)
    except (StoreUnavailable, ValueError, OSError) as error:
        yield problem("store", str(without_secrets(str(error))), "start it, or correct SANDBOX_STORE_URL")


def _to_be_made(subject: str, place: Path, setting: str) -> Finding:
    """What lies in a directory before the first start: to look at it would make it."""
    above = place.parent
    while not above.exists():
        above = above.parent
    if above.is_dir() and os.access(above, os.W_OK):
        return ok(subject, f"is made at the first start: {place}")
    return problem(
        subject, f"{place} cannot be made: {above} is no directory this user may write to", f"correct {setting}"
    )


def _answering_store(database: Database, file: Path | None) -> Iterator[Finding]:
    if file is None:
        yield from _postgres(database)
    else:
        mount = mount_of(file)
        if mount.kind in NETWORK_FILE_SYSTEMS:
            seen = f"{file} lies on {mount.kind}, whose locks SQLite cannot rely on: the store may be damaged"
            yield problem("store", seen, "put it on a local disk; for several hosts use postgresql://")
        else:
            yield ok("store", f"sqlite answers: {file}")
    version = version_of(database)
    if version == HEAD:
        yield ok("schema", f"{HEAD}, that of this version")
    elif version is None or version < HEAD:
        seen = f"{version or 'no tables yet'}: the next start of an API or worker brings it to {HEAD}"
        yield note("schema", seen, "to choose the moment, back up and run `sandbox admin migrate` (docs/upgrade.md)")
    else:
        seen = f"{version} is newer than {HEAD}, which this version knows: nothing of this version starts on it"
        yield problem("schema", seen, "install the newer version on this host")


def _postgres(database: Database) -> Iterator[Finding]:
    with database.read() as tx:
        number = int(tx.scalar(sa.text("SHOW server_version_num")))
        before = datetime.now(UTC)
        theirs: datetime = tx.scalar(sa.text("SELECT clock_timestamp()"))
        after = datetime.now(UTC)
    seen = f"PostgreSQL {number // 10_000}.{number % 10_000} answers"
    if number // 10_000 < OLDEST_POSTGRES:
        yield problem(
            "store", f"{seen}: too old to follow commits in order", f"use PostgreSQL {OLDEST_POSTGRES} or later"
        )
    else:
        yield ok("store", seen)
    yield compared("the store's host", theirs, before, after)


def broker(settings: Settings) -> Iterator[Finding]:
    directory = _embedded_broker(settings.broker_url)
    if directory is not None and not directory.exists():
        yield _to_be_made("broker", directory, "SANDBOX_BROKER_URL")
        return
    kind = settings.broker_url.split("://", maxsplit=1)[0]
    try:
        with closing(open_broker(settings.broker_url)) as opened:
            opened.ping()
        yield from _answering_broker(settings, kind)
    except (ImportError, AttributeError) as error:  # kombu's, when the package of a transport is not installed
        advice = f"install the Python package for {kind}:// beside this product, or correct SANDBOX_BROKER_URL"
        yield problem("broker", f"{kind}:// cannot be used: {error}", advice)
    except (BrokerUnavailable, ValueError, OSError) as error:
        yield problem("broker", str(error), "start it, or correct SANDBOX_BROKER_URL")


def _embedded_broker(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "sandboxfs" else None


def _answering_broker(settings: Settings, kind: str) -> Iterator[Finding]:
    if kind == "sandboxfs":
        if sqlite_file(settings.store_url) is None:
            seen = "sandboxfs answers: a directory of this host, so workers on other hosts are not rung for"
            yield note("broker", seen, "set SANDBOX_BROKER_URL to amqp:// or redis:// for several hosts")
        else:
            yield ok("broker", "sandboxfs answers")
        return
    with create_app(BrokerSettings(url=settings.broker_url)).connection_for_write() as connection:
        connection.ensure_connection(max_retries=0)
        if kind.startswith("redis"):
            channel: Any = connection.default_channel  # kombu's, with the client of its Redis transport
            yield from redis_findings(channel.client.info())
        else:
            yield rabbitmq_finding(connection.connection.server_properties)


def redis_findings(info: dict[str, Any]) -> Iterator[Finding]:
    """What a Redis server's INFO tells."""
    seen = f"Redis {info.get('redis_version', 'of an unknown version')} answers"
    policy = str(info.get("maxmemory_policy", NO_EVICTION))
    if policy == NO_EVICTION:
        yield ok("broker", f"{seen}, {NO_EVICTION}")
        return
    advice = f"CONFIG SET maxmemory-policy {NO_EVICTION}, and the same in redis.conf"
    seen = f"{seen}; maxmemory-policy is {policy}"
    if int(info.get("maxmemory", 0)):
        yield problem("broker", f"{seen}: it throws messages and bindings away when its memory is full", advice)
    else:
        yield note("broker", f"{seen}: once maxmemory is set, it throws messages away when that is full", advice)


def rabbitmq_finding(properties: dict[str, Any]) -> Finding:
    """What an AMQP server says of itself when it is connected to."""
    product, version = properties.get("product", "an AMQP server"), str(properties.get("version", ""))
    seen = f"{product} {version} answers"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if product == "RabbitMQ" and numbers < OLDEST_RABBITMQ:
        oldest = ".".join(map(str, OLDEST_RABBITMQ))
        return note("broker", f"{seen}: it gets no fixes, and nobody tried it here", f"use RabbitMQ {oldest} or later")
    return ok("broker", seen)


def artifacts(settings: Settings) -> Iterator[Finding]:
    parts = urlsplit(settings.artifacts_url)
    directory = Path(unquote(parts.path)) if parts.scheme == "file" else None
    if directory is not None and not directory.exists():
        yield _to_be_made("artifacts", directory, "SANDBOX_ARTIFACTS_URL")
        return
    name = without_secrets(settings.artifacts_url)
    try:
        open_artifact_store(settings.artifacts_url).ping()
    except (ArtifactStoreUnavailable, ValueError, OSError) as error:
        advice = "correct that, or SANDBOX_ARTIFACTS_URL; for S3 its region, address and credentials too"
        yield problem("artifacts", str(error), advice)
        return
    several = sqlite_file(settings.store_url) is None
    if directory is not None and several and mount_of(directory).kind not in NETWORK_FILE_SYSTEMS:
        seen = f"{name} takes writes, and is a directory of this host: APIs on other hosts find no artifact in it"
        yield note("artifacts", seen, "with several hosts use s3://, or a directory that all of them mount")
    else:
        yield ok("artifacts", f"{name} takes writes")
