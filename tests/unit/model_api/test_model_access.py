"""What opens the model API: the operator's files, read at each use, and shown nowhere."""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.settings import Settings, load
from tests.integration.broker.certificates import Certificates
from tests.unit.model_api.api import KEY, SECONDS, Request, message_of, post, running_api, sandbox
from workers.model_api.access import MAX_FILE_BYTES, Access, ModelKeyUnavailable, read_access
from workers.model_api.trust import trusted


class Operator:
    """An operator's files and settings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {"SANDBOX_WORKER_NAME": "w1"}

    def file(self, variable: str, text: str | bytes) -> Path:
        path = self.directory / variable.lower()
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.environment[variable] = str(path)
        return path

    def key(self, text: str | bytes) -> Path:
        return self.file("SANDBOX_MODEL_API_KEY_FILE", text)

    def headers(self, text: str | bytes) -> Path:
        return self.file("SANDBOX_MODEL_API_HEADERS_FILE", text)

    @property
    def settings(self) -> Settings:
        return load(self.environment, data_dir=self.directory)

    def access(self) -> Access:
        return read_access(self.settings)

    def refusal(self) -> ModelKeyUnavailable:
        with pytest.raises(ModelKeyUnavailable) as caught:
            self.access()
        return caught.value


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_the_key_goes_into_the_header_that_the_operator_names(operator: Operator) -> None:
    operator.key(f" {KEY}\n\n")
    found = operator.access()
    assert (found.url, found.headers, found.secrets) == ("https://api.anthropic.com", (("x-api-key", KEY),), (KEY,))
    operator.environment["SANDBOX_MODEL_API_AUTH"] = "Bearer"
    assert operator.access().headers == (("authorization", f"Bearer {KEY}"),)


def test_a_key_is_renewed_in_its_file_without_a_restart(operator: Operator) -> None:
    file, settings = operator.key("first-key"), operator.settings
    assert read_access(settings).secrets == ("first-key",)
    file.write_text("other-key")  # as long, and within the same tick of the clock
    assert read_access(settings).secrets == ("other-key",)
    renewed = file.with_suffix(".new")
    renewed.write_text("third-key")
    renewed.replace(file)
    assert read_access(settings).secrets == ("third-key",)


def test_headers_of_the_operator_are_added_and_what_is_secret_of_them_is_known(operator: Operator) -> None:
    operator.key(KEY)
    operator.headers(
        "# for the gateway\n\nX-Team:  build\r\nProxy-Token: Bearer tok-en-0123\n  X-Long: a b\tlonger-one \n"
    )
    found = operator.access()
    assert found.headers == (
        ("x-team", "build"), ("proxy-token", "Bearer tok-en-0123"), ("x-long", "a b\tlonger-one"), ("x-api-key", KEY),
    )  # fmt: skip
    assert found.secrets == ("Bearer tok-en-0123", "tok-en-0123", "a b\tlonger-one", "longer-one", KEY)


def test_a_gateway_that_knows_the_worker_by_a_header_needs_no_key(operator: Operator) -> None:
    operator.headers("Authorization: Basic dXNlcjpwYXNz\n")
    assert operator.access().headers == (("authorization", "Basic dXNlcjpwYXNz"),)
    assert "dXNlcjpwYXNz" in operator.access().secrets


def test_nothing_of_an_access_is_shown(operator: Operator) -> None:
    operator.key(KEY)
    operator.headers("X-Other: hunter2-hunter2")
    shown = repr(operator.access()) + repr(operator.settings)
    assert KEY not in shown
    assert "hunter2" not in shown


def test_a_worker_without_a_key_says_what_the_operator_does(operator: Operator) -> None:
    refusal = operator.refusal()
    assert str(refusal) == "worker w1 has no key for the model API"
    assert "SANDBOX_MODEL_API_KEY_FILE" in refusal.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"), (" \n\n", "is empty"), ("short", "holds no key"), (f"{KEY}\n{KEY}", "holds no key"),
        (f"two {KEY}", "holds no key"), ("sk-ant-\x07-0123456", "holds no key"), ("schlüssel-0123", "is no ASCII text"),
        (b"\xff" * 20, "is no ASCII text"), ("x" * (MAX_FILE_BYTES + 1), "has more than 65,536 bytes"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_key_is_told_without_what_it_holds(
    operator: Operator, content: str | bytes, words: str
) -> None:
    file = operator.key(content)
    refusal = operator.refusal()
    assert f"({file}) {words}" in str(refusal)
    told = str(refusal) + refusal.hint
    assert not {"short", KEY, "schl"} & set(told.replace("'", " ").split())


def test_a_file_that_cannot_be_read_is_told_and_a_fifo_is_not_waited_for(operator: Operator) -> None:
    file = operator.key(KEY)
    file.unlink()
    assert (
        str(operator.refusal()) == f"the key file of the model API ({file}) cannot be read: No such file or directory"
    )
    file.mkdir()
    assert str(operator.refusal()).endswith("is no plain file")
    file.rmdir()
    os.mkfifo(file)
    assert str(operator.refusal()).endswith("is no plain file")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no header at all hunter2", "line 2 of the headers for the model API"),
        ("X-A:", "line 2"), (": x", "line 2"),
        ("X A: hunter2", "line 2"), ("X-A: hunter2\x07", "line 2"),
        ("Host: gateway", "sets host, which the relay writes"), ("Accept-Encoding: gzip", "sets accept-encoding"),
        ("Content-Length: 3", "sets content-length"), ("Transfer-Encoding: chunked", "sets transfer-encoding"),
        ("Connection: close", "sets connection"), ("TE: trailers", "sets te"),
        ("X-API-Key: hunter2-hunter2", "name x-api-key, which holds the key already"),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_sent_are_told_by_their_line_without_their_value(
    operator: Operator, line: str, words: str
) -> None:
    operator.key(KEY)
    operator.headers(f"X-Good: 1\n{line}\n")
    refusal = operator.refusal()
    assert words in str(refusal)
    assert "hunter2" not in str(refusal) + refusal.hint


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), "IP:127.0.0.1")


def test_a_gateways_own_authority_is_trusted_where_the_operator_names_it(
    operator: Operator, certificates: Certificates
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    operator.key(KEY)
    with running_api(tls=tls) as api:
        operator.environment["SANDBOX_MODEL_API_URL"] = f"{api.url}/"
        with sandbox(operator.access()) as one:
            status, _, body = one.ask()
            assert status == 502
            assert "CERTIFICATE_VERIFY_FAILED" in message_of(body, "api_error")
        assert api.seen == []
        operator.environment["SANDBOX_MODEL_API_CA_FILE"] = str(certificates.authority)
        trusting = operator.access()
        assert operator.access().trust is trusting.trust, "it is read once"
        with sandbox(trusting) as one:
            assert [one.ask()[0] for _ in range(2)] == [200, 200]
        in_turn = [trusting, replace(trusting, trust=trusted()), trusting]
        with sandbox(lambda: in_turn.pop(0)) as one:
            assert [one.ask()[0] for _ in range(3)] == [200, 502, 200], "a change takes effect at once"
        assert api.headers()["x-api-key"] == KEY


def test_cutting_wakes_a_thread_that_waits_for_an_api_behind_tls(
    operator: Operator, certificates: Certificates
) -> None:
    waits, seen = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        waits.set()
        try:
            if request.rfile.read(1) == b"":
                seen.set()
        except OSError:
            seen.set()
        request.close_connection = True

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    operator.key(KEY)
    operator.environment["SANDBOX_MODEL_API_CA_FILE"] = str(certificates.authority)
    with running_api(answer, tls) as api:
        operator.environment["SANDBOX_MODEL_API_URL"] = api.url
        with sandbox(operator.access()) as one:
            one.send(post())
            assert waits.wait(SECONDS)
            one.connection.cut()
            assert one.is_over()
            assert seen.wait(SECONDS)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_told(operator: Operator, tmp_path: Path, content: str | None) -> None:
    operator.key(KEY)
    file = operator.file("SANDBOX_MODEL_API_CA_FILE", content or "")
    if content is None:
        file.unlink()
    refusal = operator.refusal()
    assert str(refusal).startswith(f"the authorities for the model API ({file}) cannot be read: ")
    assert "SANDBOX_MODEL_API_CA_FILE" in refusal.hint
