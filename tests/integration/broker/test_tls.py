"""Encrypted connections: the server must show a certificate for its name that somebody trusted has signed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.broker.messages import Broker, BrokerUnavailable, open_broker
from tests.integration.broker.certificates import Certificates
from tests.integration.broker.conftest import Fleet
from tests.servers.process import free_port
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

RIGHT, WRONG = "IP:127.0.0.1", "DNS:another.example"


def start_server(kind: str, directory: Path, certificates: Certificates) -> tuple[RedisServer | RabbitServer, str]:
    """The server and its encrypted URL."""
    port = free_port()
    files = {"cert": certificates.certificate, "key": certificates.key, "ca": certificates.authority}
    server: RedisServer | RabbitServer
    if kind == "redis":
        options = {"tls-port": str(port), "tls-auth-clients": "no", "tls-ca-cert-file": str(files["ca"])}
        options |= {f"tls-{name}-file": str(files[name]) for name in ("cert", "key")}
        server, url = RedisServer(directory / "server", options), f"rediss://127.0.0.1:{port}/0"
    else:
        configuration = f"listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.verify = verify_none\n"
        configuration += "".join(f"ssl_options.{name}file = {path}\n" for name, path in files.items() if name != "ca")
        configuration += f"ssl_options.cacertfile = {files['ca']}\n"
        server, url = RabbitServer(directory / "server", configuration), f"amqps://127.0.0.1:{port}//"
    server.start()
    return server, url


@pytest.fixture(params=["redis", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host() -> str:
    return RIGHT


@pytest.fixture
def certificates(tmp_path: Path, host: str) -> Certificates:
    return Certificates(tmp_path, host)


@pytest.fixture
def url(kind: str, tmp_path: Path, certificates: Certificates) -> Iterator[str]:
    server, url = start_server(kind, tmp_path, certificates)
    yield url
    server.kill()


@pytest.fixture
def broker(url: str) -> Iterator[Broker]:
    broker = open_broker(url)
    yield broker
    broker.close()


def test_a_server_whose_authority_the_host_trusts_is_used(
    url: str, broker: Broker, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    broker.send_attempt("one", "t1", 1)
    fleet = Fleet(url, tmp_path)
    fleet.start("one").wait_for("attempt t1 1")
    fleet.end()


def test_a_server_whose_authority_the_host_does_not_trust_is_refused(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match="certificate"):
        broker.ping()
    with pytest.raises(BrokerUnavailable, match="certificate"):
        broker.send_attempt("one", "t1", 1)


@pytest.mark.parametrize("host", [WRONG])
def test_a_server_with_the_certificate_of_another_host_is_refused(
    broker: Broker, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with pytest.raises(BrokerUnavailable, match="certificate"):
        broker.ping()
    with pytest.raises(BrokerUnavailable, match="certificate"):
        broker.send_attempt("one", "t1", 1)
