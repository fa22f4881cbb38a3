"""The real server with TLS, and clients that verify it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from api import tls
from api.client import Client, ServerRefused, ServerUnreachable
from api.connection import InvalidServer
from orchestrator.access import USUAL
from orchestrator.product import Product
from orchestrator.services import tokens
from orchestrator.settings import load
from orchestrator.store import audit
from tests.integration.api.installation import MANIFEST, BuildHost, open_product
from tests.integration.api.live import LiveServer
from tests.integration.api.waiting import Background, eventually
from tests.integration.broker.certificates import Certificates

STALLED = 100


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), "IP:127.0.0.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[LiveServer]:
    server = LiveServer(
        tmp_path_factory.mktemp("tls") / "data",
        environment={"SANDBOX_TLS_CERT": str(certificates.certificate), "SANDBOX_TLS_KEY": str(certificates.key)},
        authority=certificates.authority,
    )
    server.start()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.fixture
def stored(server: LiveServer) -> Iterator[Product]:
    product = open_product(server.data_dir)
    yield product
    product.database.close()


@pytest.fixture
def token(stored: Product) -> tuple[str, str]:
    """Its id and its text."""
    made, text = tokens.create(stored.database, name="ci", owner="alice", scopes=USUAL)
    return made.id, text


def test_a_task_is_submitted_followed_and_fetched_over_tls(
    server: LiveServer, certificates: Certificates, stored: Product, token: tuple[str, str], tmp_path: Path
) -> None:
    host = BuildHost(stored)
    host.register()
    with Client(server.url, token[1], ca_file=certificates.authority) as client:
        task_id = client.submit(MANIFEST.encode())["task_id"]
        claim = host.run(task_id)
        following = Background(lambda: [one.data for one in client.logs(task_id, follow=True) if one.kind == "stdout"])
        for number in range(20):
            host.say(claim, f"line {number}\n")
        host.keep(claim, {"report.bin": bytes(range(256)) * 4096})
        host.exit(claim)
        assert following.result() == [f"line {number}\n" for number in range(20)]
        assert client.get(task_id)["state"] == "completed"
        (artifact,) = client.artifacts(task_id)["artifacts"]
        done = client.download(task_id, artifact["path"], tmp_path / "report.bin", checksum=artifact["checksum"])
        assert done is not None
    assert (tmp_path / "report.bin").read_bytes() == bytes(range(256)) * 4096


def test_a_server_nobody_vouches_for_is_not_talked_to(server: LiveServer, token: tuple[str, str]) -> None:
    with Client(server.url, token[1]) as client, pytest.raises(ServerUnreachable, match="SANDBOX_CA_FILE"):
        client.list()


def test_the_cli_takes_the_authority_from_its_setting(
    server: LiveServer, certificates: Certificates, token: tuple[str, str]
) -> None:
    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "orchestrator.cli", "task", "list", "--server", server.url]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)

    authority = str(certificates.authority)
    assert run(SANDBOX_CA_FILE=authority, SANDBOX_TOKEN=token[1]).returncode == 0
    assert run(SSL_CERT_FILE=authority, SANDBOX_TOKEN=token[1]).returncode == 0
    refused = run(SANDBOX_CA_FILE=authority)
    assert refused.returncode == 4
    assert "sandbox token create" in refused.stderr
    unverified = run(SANDBOX_TOKEN=token[1])
    assert (unverified.returncode, "SANDBOX_CA_FILE" in unverified.stderr) == (5, True)


def test_an_authority_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidServer, match="SANDBOX_CA_FILE"):
        Client("https://127.0.0.1:1", ca_file=tmp_path / "none.pem")
    Client("http://127.0.0.1:1", ca_file=tmp_path / "none.pem").close()  # it is of no use there


def test_h6_handshakes_that_never_end_leave_the_server_usable(server: LiveServer, certificates: Certificates) -> None:
    trusting = ssl.create_default_context(cafile=certificates.authority)
    stalled = []
    try:
        for number in range(STALLED):
            stalled.append(socket.create_connection(("127.0.0.1", server.port)))
            stalled[-1].sendall(b"\x16\x03\x01" * (number % 2))
        assert httpx.get(f"{server.url}/api/v1/health/live", verify=trusting, timeout=30).status_code == 200
    finally:
        for one in stalled:
            one.close()


def test_plain_http_on_the_tls_port_is_answered_and_ends(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while connection.recv(1 << 16):
            pass
    assert server.answers()


def test_a_follower_whose_token_is_revoked_is_cut_off_and_told_why(
    server: LiveServer, certificates: Certificates, stored: Product, token: tuple[str, str]
) -> None:
    host = BuildHost(stored)
    host.register()
    with Client(server.url, token[1], ca_file=certificates.authority) as client:
        claim = host.run(client.submit(MANIFEST.encode())["task_id"])
        seen: list[str] = []
        following = Background(lambda: [seen.append(one.data) for one in client.logs(claim.task_id, follow=True)])
        host.say(claim, "before\n")
        eventually("it follows", lambda: "before\n" in seen)
        tokens.revoke(stored.database, token[0])

        def is_cut_off() -> bool:
            host.say(claim, "after\n")
            return following.done

        eventually("it is cut off", is_cut_off, seconds=60)
        with pytest.raises(ServerRefused) as caught:
            following.result()
        assert caught.value.status == 401
    host.exit(claim)


def test_what_changed_just_before_the_end_of_the_server_is_in_the_trail(
    tmp_path: Path,
) -> None:
    server = LiveServer(tmp_path / "data")
    server.start()
    answer = httpx.post(f"{server.url}/api/v1/tasks", content=MANIFEST, headers={"Content-Type": "text/yaml"})
    assert server.stop() == 0
    product = open_product(server.data_dir)
    with product.database.read() as tx:
        assert [one.subject for one in audit.find(tx)] == [answer.json()["task_id"]]
    product.database.close()


def test_a_certificate_that_cannot_be_served_stops_the_start(certificates: Certificates, tmp_path: Path) -> None:
    in_force = load({"SANDBOX_DATA_DIR": str(tmp_path)})
    tls.check(in_force)
    tls.check(replace(in_force, tls_cert=certificates.certificate, tls_key=certificates.key))
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", str(certificates.key), "-aes128", "-passout", "pass:x", "-out", str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    for certificate, key, why in (
        (tmp_path / "none.pem", certificates.key, "No such file"),
        (certificates.certificate, certificates.authority, ""),
        (certificates.certificate, locked, "passphrase"),
    ):
        with pytest.raises(tls.BadCertificate, match="SANDBOX_TLS_KEY") as caught:
            tls.check(replace(in_force, tls_cert=certificate, tls_key=key))
        assert why in str(caught.value)
        assert caught.value.exit_code == 2
