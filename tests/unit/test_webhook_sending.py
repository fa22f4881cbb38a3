"""One try to deliver: what is sent, where it goes, and how it ends. Where it may go is H3 (tests/security/api)."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.webhooks import sending
from orchestrator.webhooks.retrying import Tried
from orchestrator.webhooks.sending import Sender
from tests.integration.broker.certificates import Certificates
from tests.servers.receiver import Receiver, receiving

HERE = (ipaddress.ip_network("127.0.0.1/32"),)
NAME = "hooks.example.org"
HEADERS = {"webhook-id": "msg_1", "webhook-timestamp": "1614265330", "webhook-signature": "v1,abc="}


def at_home(_name: str, _port: int) -> Sequence[str]:
    """What any name leads to."""
    return ["127.0.0.1"]


def sent(url: str, *, seconds: float = 10.0) -> Tried:
    return Sender(HERE, lookup=at_home, seconds=seconds)(url, b'{"a": 1}', HEADERS)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@contextmanager
def talking(say: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A server that says to each client what no HTTP server would; yields its port."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(65536)
                say(client, over)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def test_a_body_arrives_to_the_byte_with_its_headers_and_the_name_it_was_sent_to(receiver: Receiver) -> None:
    tried = sent(f"http://{NAME}:{receiver.port}/hook?team=a%20b")
    assert (tried.status, tried.error) == (204, None)
    assert tried.is_delivered
    (request,) = receiver.received
    assert (request.path, request.body) == ("/hook?team=a%20b", b'{"a": 1}')
    assert HEADERS.items() <= request.headers.items()
    assert request.headers["host"] == f"{NAME}:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert re.fullmatch(r"sandbox-orchestrator/\d+\.\d+\.\d+", request.headers["user-agent"])
    assert "cookie" not in request.headers
    assert "authorization" not in request.headers


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
def test_any_answer_but_a_success_is_none_and_keeps_its_status(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda _request: status
    tried = sent(receiver.url)
    assert (tried.status, tried.error) == (status, f"the receiver answered {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_its_host_is_named(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda _request: status
    receiver.location = f"http://other.example.org:{receiver.port}/secret-path"
    tried = sent(receiver.url)
    assert len(receiver.received) == 1
    assert tried.error == (
        f"the receiver answered {status}, a redirect to 'other.example.org', which is not followed; give the webhook "
        "the address itself"
    )


def test_a_redirect_that_leads_nowhere_is_one_too(receiver: Receiver) -> None:
    receiver.answer = lambda _request: 302
    receiver.location = "http://[broken"
    assert "a redirect elsewhere" in str(sent(receiver.url).error)


def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert sent(receiver.url).is_delivered


def test_a_receiver_that_drips_its_answer_is_left_when_the_time_is_over() -> None:
    def drip(client: socket.socket, over: threading.Event) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not over.wait(0.02):
            client.sendall(b"x")

    with talking(drip) as port:
        tried = sent(f"http://{NAME}:{port}/", seconds=0.3)
    assert (tried.status, tried.error) == (None, "the receiver did not answer within 0.3 s")


def test_what_comes_behind_the_head_of_an_answer_does_not_matter_however_long_it_is() -> None:
    def flood(client: socket.socket, over: threading.Event) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not over.is_set():
            client.sendall(b"x" * 65536)

    with talking(flood) as port:
        assert sent(f"http://{NAME}:{port}/").is_delivered


def test_what_is_no_http_is_told_without_a_word_of_it() -> None:
    with talking(lambda client, _over: client.sendall(b"-ERR the password is hunter2\r\n\r\n")) as port:
        tried = sent(f"http://{NAME}:{port}/")
    assert (tried.status, tried.error) == (None, "what the receiver answered is not HTTP")


def test_a_port_that_nobody_listens_on_is_told_as_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tried = sent(f"http://{NAME}:{port}/")
    assert tried.status is None
    assert "could not be reached" in str(tried.error)
    assert "refused" in str(tried.error)


def test_a_name_that_has_no_address_now_is_told_as_that() -> None:
    def lost(_name: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    tried = Sender(HERE, lookup=lost)(f"http://{NAME}/", b"", HEADERS)
    assert "Name or service not known" in str(tried.error)


def test_the_next_address_of_a_name_is_taken_when_one_is_deaf(receiver: Receiver) -> None:
    networks = (*HERE, ipaddress.ip_network("127.0.0.2/32"))
    sender = Sender(networks, lookup=lambda _name, _port: ["127.0.0.2", "127.0.0.1"])
    assert sender(f"http://{NAME}:{receiver.port}/", b"", HEADERS).is_delivered


@pytest.fixture
def trusting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Certificates]:
    """A certificate for `NAME` whose authority this machine trusts."""
    certificates = Certificates(tmp_path, f"DNS:{NAME}")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    sending._trusted.cache_clear()
    yield certificates
    sending._trusted.cache_clear()


def test_over_tls_the_names_certificate_is_wanted_at_the_address_that_was_judged(trusting: Certificates) -> None:
    asked_for: list[str | None] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(trusting.certificate, trusting.key)
    server.sni_callback = lambda _connection, name, _context: asked_for.append(name)
    with receiving(server) as receiver:
        assert sent(f"https://{NAME}:{receiver.port}/").is_delivered
        other = sent(f"https://other.example.org:{receiver.port}/")
    assert asked_for == [NAME, "other.example.org"]
    assert "certificate" in str(other.error)
    assert len(receiver.received) == 1


def test_a_certificate_of_nobody_who_is_trusted_is_not_taken(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, f"DNS:{NAME}")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.certificate, certificates.key)
    with receiving(server) as receiver:
        assert "certificate verify failed" in str(sent(f"https://{NAME}:{receiver.port}/").error)
    assert receiver.received == []
