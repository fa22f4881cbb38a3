"""The first message of a TLS client: which server it names, and what is no such message (pure)."""

from __future__ import annotations

import random
import ssl

import pytest

from orchestrator.contacts import EgressRule
from workers.egress.client_hello import HELLO_BYTES, HELLO_RECORDS, ClientHello, read_hello
from workers.egress.denial import Denied


def hello_of(name: str | None) -> bytes:
    """What OpenSSL says first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def vector(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size) + data


def server_names(*names: bytes, kind: int = 0) -> bytes:
    return b"\0\0" + vector(vector(b"".join(bytes([kind]) + vector(name) for name in names)))


def message(extensions: bytes | None, *, kind: int = 1, tail: bytes = b"") -> bytes:
    """A ClientHello by hand, without its record."""
    body = b"\x03\x03" + bytes(32) + vector(b"", 1) + vector(b"\x13\x01") + vector(b"\0", 1)
    if extensions is not None:
        body += vector(extensions)
    return bytes([kind]) + vector(body + tail, 3)


def record(data: bytes, *, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    return bytes([kind]) + version + vector(data)


def name_in(data: bytes) -> str | None:
    found = read_hello(data)
    assert isinstance(found, ClientHello)
    return found.server_name


def rule_of(data: bytes) -> EgressRule:
    with pytest.raises(Denied) as denied:
        read_hello(data)
    return denied.value.rule


@pytest.mark.parametrize("name", ["api.example.com", "a.b", None])
def test_what_openssl_says_first_is_read(name: str | None) -> None:
    assert name_in(hello_of(name)) == name


def test_more_bytes_are_waited_for_until_the_message_is_complete() -> None:
    data = hello_of("api.example.com")
    awaited = [read_hello(data[:length]) for length in range(len(data))]
    assert awaited == [5] * 5 + [9] * 4 + [len(data)] * (len(data) - 9)


@pytest.mark.parametrize("size", [11, 20, 60, 1000])
def test_a_message_may_come_in_several_records(size: int) -> None:
    whole = message(server_names(b"api.example.com"))
    parts = [whole[place : place + size] for place in range(0, len(whole), size)]
    assert len(parts) <= HELLO_RECORDS
    assert name_in(b"".join(record(part) for part in parts)) == "api.example.com"


def test_a_message_in_many_records_that_comes_byte_by_byte_is_read_a_few_times_only() -> None:
    whole = message(server_names(b"api.example.com"))
    data = b"".join(record(whole[place : place + 1]) for place in range(len(whole)))
    reads: list[int] = []

    def come() -> None:
        wanted = 0
        for here in range(len(data)):
            if here >= wanted:
                reads.append(here)
                found = read_hello(data[:here])
                assert isinstance(found, int)
                wanted = found

    with pytest.raises(Denied, match="more than 8 records"):
        come()
    assert reads[-1] == HELLO_RECORDS * 6
    assert len(reads) <= HELLO_RECORDS * 3


def test_who_announces_more_than_is_taken_is_not_waited_for() -> None:
    head = b"\x01" + (1000).to_bytes(3)
    assert rule_of(b"\x16\x03\x01" + (1005).to_bytes(2) + head) is EgressRule.TLS
    assert read_hello(b"\x16\x03\x01" + (1004).to_bytes(2) + head) == 1009


def test_a_client_that_names_nobody_is_told_apart_from_one_that_speaks_no_tls() -> None:
    for extensions in (None, b"", b"\0\x10" + vector(b"x")):
        assert name_in(record(message(extensions))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\0", b"\x16\x02", b"\x16\x03\x05", b"\x80\x2e\x01\x00\x02",
        record(b"x", kind=23), record(b"\x01", version=b"\x02\x00"), record(message(b""), kind=20),
        record(message(b"", kind=2)), record(message(b""), version=b"\x03\x05"), b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01", b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        record(message(b"", tail=b"x")), record(message(b"") + b"\x16"),
        record(message(b"") + message(b"")), record(b"\x01\0\0\x01x"), record(b"\x01\0\0\0"),
        record(message(b"\0\0")), record(message(b"\0\0\0\x05\0")),
        record(message(server_names(b"a.b") + server_names(b"a.b"))), record(message(server_names(b"a.b") * 2)),
        record(message(b"\0\x10\0\0" * 2)), record(message(server_names(b"a.b", b"a.b"))), record(message(b"\0\0\0\0")),
        record(message(b"\0\0" + vector(vector(b"")))),
        record(message(b"\0\0" + vector(vector(b"\0\0\x03a.b") + b"x"))),
    ],
)  # fmt: skip
def test_what_could_be_read_in_another_way_is_denied(data: bytes) -> None:
    assert rule_of(data) is EgressRule.TLS


@pytest.mark.parametrize(
    "extension",
    [
        server_names(b"a.b", kind=1), server_names(b"a\0.b"), server_names(b"a.b\n"), server_names(b"\xc3\xa9.b"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_plain_host_name_is_denied(extension: bytes) -> None:
    assert rule_of(record(message(extension))) is EgressRule.SNI


def test_an_endless_message_is_denied_before_it_is_held() -> None:
    long = b"\x01" + HELLO_BYTES.to_bytes(3)
    assert rule_of(record(long)) is EgressRule.TLS
    assert rule_of(b"\x16\x03\x01\x00\x01\x01" * 20 + b"x") is EgressRule.TLS


def test_e8_no_mutation_of_a_client_hello_gives_anything_but_a_denial_or_one_name() -> None:
    chance = random.Random(8123)  # noqa: S311 - a test's variety, no secret
    seeds = [hello_of("api.example.com"), hello_of(None), record(message(server_names(b"api.example.com")))]
    read = denied = 0
    for _ in range(10_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(0, 3)):
            place = chance.randrange(len(data))
            data[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        try:
            found = read_hello(bytes(data))
        except Denied:
            denied += 1
            continue
        if isinstance(found, int):
            assert found > len(data)
            continue
        read += 1
        assert found.server_name is None or found.server_name.isascii()
    assert read > 1000
    assert denied > 1000
