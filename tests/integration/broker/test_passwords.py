"""A broker's password appears in no error and no log line, whatever is wrong."""

import pytest

from orchestrator.broker.messages import BrokerUnavailable, open_broker
from tests.integration.broker.conftest import Fleet, Server
from tests.integration.broker_programs.processes import wait_until
from tests.servers.process import free_port

PASSWORD = "correct-horse%2Fstaple"
SECRETS = (PASSWORD, "correct-horse", "staple")


@pytest.fixture(params=["redis", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_password(url: str, port: int | None = None) -> str:
    scheme, rest = url.split("://")
    host, rest = rest.split(":", maxsplit=1)
    found, path = rest.split("/", maxsplit=1)
    return f"{scheme}://somebody:{PASSWORD}@{host}:{port or found}/{path}"


def told(url: str) -> str:
    """All that the errors of a broker say, their causes included."""
    broker = open_broker(url)
    texts = []
    for call in (broker.ping, lambda: broker.send_attempt("one", "t1", 1), lambda: broker.send_cancel("one", "t1", 1)):
        with pytest.raises(BrokerUnavailable) as caught:
            call()
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
    broker.close()
    return "\n".join(texts)


def test_a_refused_login_is_reported_without_the_password(server: Server) -> None:
    text = told(with_password(server.url))
    assert "was not announced to worker one" in text
    assert not [secret for secret in SECRETS if secret in text], text


def test_a_server_that_is_away_is_reported_without_the_password(server: Server) -> None:
    url = with_password(server.url, port=free_port())
    text = told(f"{url};{with_password(server.url, port=free_port())}" if url.startswith("amqp") else url)
    assert "refused" in text
    assert not [secret for secret in SECRETS if secret in text], text


def test_a_worker_whose_login_is_refused_waits_and_logs_no_password(server: Server, fleet: Fleet, name: str) -> None:
    worker = fleet.start(name, url=with_password(server.url), wait=False)
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has tried")
    assert worker.alive()
    assert worker.terminate() == 0
    log = worker.log.read_text()
    assert not [secret for secret in SECRETS if secret in log], log


def test_a_worker_that_loses_its_broker_logs_no_password(server: Server, fleet: Fleet, name: str) -> None:
    known = with_password(server.url).replace(f"somebody:{PASSWORD}", "guest:guest")
    url = known if known.startswith("amqp") else server.url
    worker = fleet.start(name, url=url)
    server.kill()
    wait_until(lambda: "broker not reached, trying again" in worker.log.read_text(), "it has noticed")
    assert worker.terminate() == 0
    assert ":guest@" not in worker.log.read_text()
