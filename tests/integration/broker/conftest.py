"""The three brokers, one of each for the whole session; every test has worker names of its own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.messages import Broker, open_broker
from tests.integration.broker.embedded import EmbeddedBroker
from tests.integration.broker_programs.processes import Worker
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

_NUMBERS = count(1)

Server = EmbeddedBroker | RedisServer | RabbitServer


class Fleet:
    """Starts workers on one broker and ends them all."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._workers: list[Worker] = []
        self.hears_strangers = False
        """Celery logs a traceback for a message it cannot read."""

    def start(self, name: str, **options: Any) -> Worker:
        """A worker process; see `Worker` for the options."""
        journal = self._directory / f"{name}.journal"
        self._workers.append(Worker(options.pop("url", self._url), journal, name=name, **options))
        return self._workers[-1]

    def end(self) -> None:
        """Kill those that still run. Fails when one logged a traceback or a warning of a library."""
        for worker in self._workers:
            if worker.alive():
                worker.kill()
        for worker in self._workers:
            log = worker.log.read_text()
            assert self.hears_strangers or "Traceback (most recent call last)" not in log, log
            assert "Warning:" not in log, log


def _server(kind: type[Server], directory: Path) -> Iterator[Server]:
    server = kind(directory)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(EmbeddedBroker, tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(RedisServer, tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(RabbitServer, tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture(params=["embedded", "redis", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The broker under test, running when the test begins and when it ends."""
    server: Server = request.getfixturevalue(kind)
    _let_run(server)
    yield server
    _let_run(server)


def _let_run(server: Server) -> None:
    if isinstance(server, EmbeddedBroker):
        server.stop()
        server.start()
    elif server.running:
        server.resume()
    else:
        server.start()


@pytest.fixture
def broker(server: Server) -> Iterator[Broker]:
    broker = open_broker(server.url)
    yield broker
    broker.close()


@pytest.fixture
def fleet(server: Server, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(server.url, tmp_path)
    yield fleet
    fleet.end()


@pytest.fixture
def name() -> str:
    """A worker's name nobody has had yet."""
    return f"worker{next(_NUMBERS)}"
