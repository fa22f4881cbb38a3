"""How the proxy of a sandbox reads what it is asked (pure)."""

from __future__ import annotations

import random

import pytest

from orchestrator.contacts import EgressRule
from workers.egress.denial import Denied
from workers.egress.request import Forward, Tunnel, parse


@pytest.mark.parametrize(
    ("head", "tunnel"),
    [
        (b"CONNECT git.example:443 HTTP/1.1\r\nHost: x", Tunnel("git.example", 443)),
        (b"CONNECT my_host:8443 HTTP/1.0", Tunnel("my_host", 8443)),
        (b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nProxy-Connection: Keep-Alive", Tunnel("2001:db8::1", 443)),
    ],
)
def test_a_tunnel_names_host_and_port(head: bytes, tunnel: Tunnel) -> None:
    assert parse(head) == tunnel


@pytest.mark.parametrize(
    "head",
    [
        b"", b"GET / HTTP/1.1", b"GET https://git.example/ HTTP/1.1", b"CONNECT git.example HTTP/1.1",
        b"CONNECT user@git.example:443 HTTP/1.1", b"CONNECT git.example:443", b"CONNECT git.example:443 HTTP/2",
        b"connect git.example:443 HTTP/1.1", b"CONNECT git.example:443 HTTP/1.1 ",
        b"CONNECT git.example:999999 HTTP/1.1", b"CONNECT git.example: HTTP/1.1",
        b"CONNECT git\x00.example:443 HTTP/1.1", b"CONNECT git\\evil:443 HTTP/1.1", b"CONNECT -x:443 HTTP/1.1",
        b"TRACE http://git.example/ HTTP/1.1", b"get http://git.example/ HTTP/1.1",
        b"GET http://git.example HTTP/1.1", b"GET http://u:p@git.example/ HTTP/1.1",
        b"GET http://git.example:80:80/ HTTP/1.1", b"GET http://git.example/a b HTTP/1.1",
        b"GET http://git.example/\xff HTTP/1.1", b"GET http:///a HTTP/1.1", b"GET ftp://git.example/ HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"\x16\x03\x01\x02\x00\x01",
    ],
)  # fmt: skip
def test_what_is_neither_a_tunnel_nor_a_plain_http_request_is_denied(head: bytes) -> None:
    with pytest.raises(Denied, match="only CONNECT, and plain requests"):
        parse(head)


def test_a_plain_request_is_written_anew_for_the_host_of_its_url() -> None:
    head = b"\r\n".join(
        [
            b"GET http://git.example:8080/a/info/refs?service=git-upload-pack HTTP/1.1",
            b"Host: evil.test",
            b"User-Agent: git/2.39.5",
            b"Accept: */*",
            b"Proxy-Connection: Keep-Alive",
            b"Connection: X-Secret, close",
            b"X-Secret: 1",
            b"Upgrade: h2c",
            b"TE: trailers",
            b"Proxy-Authorization: Basic x",
            b"Expect: 100-continue",
            b"Git-Protocol: version=2",
        ]
    )
    assert parse(head) == Forward(
        "git.example",
        8080,
        b"GET /a/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: git.example:8080\r\nConnection: close\r\n"
        b"User-Agent: git/2.39.5\r\nAccept: */*\r\nGit-Protocol: version=2\r\n\r\n",
        0,
    )


def test_a_body_has_the_length_that_was_declared_once() -> None:
    sent = parse(b"POST http://git.example/a HTTP/1.1\r\nContent-Length: 17\r\nContent-Type: x")
    assert sent == Forward(
        "git.example",
        80,
        b"POST /a HTTP/1.1\r\nHost: git.example\r\nConnection: close\r\nContent-Type: x\r\nContent-Length: 17\r\n\r\n",
        17,
    )


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"POST", b"PUT", b"PATCH"])
def test_the_methods_of_http_are_passed_on(method: bytes) -> None:
    sent = parse(method + b" http://git.example/a HTTP/1.1")
    assert isinstance(sent, Forward)
    assert sent.head.startswith(method + b" /a HTTP/1.1\r\nHost: git.example\r\n")
    assert (b"Content-Length: 0" in sent.head) is (method in (b"POST", b"PUT", b"PATCH"))


@pytest.mark.parametrize("port", ["0", "65536", "99999", "00000"])
def test_a_port_is_a_number_from_1_to_65535(port: str) -> None:
    for head in (f"CONNECT git.example:{port} HTTP/1.1", f"GET http://git.example:{port}/ HTTP/1.1"):
        with pytest.raises(Denied, match="is no port") as denied:
            parse(head.encode())
        assert denied.value.rule is EgressRule.SYNTAX


@pytest.mark.parametrize(
    "lines",
    [
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: identity\r\nContent-Length: 3",
        b"Content-Length: 3\r\nContent-Length: 3",
        b"Content-Length: 3, 3",
        b"Content-Length: +3",
        b"Content-Length: -1",
        b"Content-Length: 0x3",
        b"Content-Length: ",
        b"Content-Length : 3",
        b" folded: 1",
        b"A: b\r\n continued",
        b"A: b\nEvil: c",
        b"A: b\rEvil: c",
        b"A: \x00",
        b": empty",
        b"no colon",
    ],
)
def test_a_request_whose_end_could_be_read_in_two_ways_is_denied(lines: bytes) -> None:
    with pytest.raises(Denied):
        parse(b"POST http://git.example/a HTTP/1.1\r\n" + lines)


def test_e8_no_mutation_of_a_request_gives_anything_but_a_denial_or_one_request() -> None:
    chance = random.Random(8122)  # noqa: S311 - a test's variety, no secret
    seeds = [
        b"CONNECT git.example:443 HTTP/1.1\r\nHost: git.example:443\r\nUser-Agent: git/2.39.5",
        b"POST http://git.example:80/a/git-upload-pack HTTP/1.1\r\nHost: git.example\r\nContent-Length: 12\r\nA: b",
    ]
    understood = 0
    for _ in range(10_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(0, 3)):
            place = chance.randrange(len(data))
            data[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        try:
            request = parse(bytes(data))
        except Denied:
            continue
        understood += 1
        if isinstance(request, Forward):
            first, *lines = request.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            assert first.count(b" ") == 2
            assert [line.split(b":")[0] for line in lines].count(b"Host") == 1
            assert not any(line.lower().startswith(b"transfer-encoding") for line in lines)
    assert understood > 1000
