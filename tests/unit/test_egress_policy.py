"""Where a sandbox's proxy connects to, and how it reads what it is asked: no network is used here."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable

import pytest

from workers.egress_policy import Denied, Policy, is_own_address
from workers.egress_request import Forward, Tunnel, parse

URL = "https://git.example/a/b.git"
Answers = Callable[..., list[str]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let every name resolve to the given addresses; returns the list of the names that were asked for."""

    def set_to(*addresses: str) -> list[str]:
        asked: list[str] = []

        def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            asked.append(host)
            return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port)) for one in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        return asked

    return set_to


DENIED = [
    "0.0.0.1", "127.0.0.1", "127.8.9.10", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1", "fd00:ec2::254",
    "fd20:ce::254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:1::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1",
]  # fmt: skip


@pytest.mark.parametrize("address", DENIED)
def test_an_address_that_is_not_public_is_denied_whatever_its_name(answers: Answers, address: str) -> None:
    answers(address)
    with pytest.raises(Denied, match=r"git\.example leads to .*, which is not a public address"):
        Policy.for_url(URL, ()).resolve("git.example", 443)


@pytest.mark.parametrize("address", ["93.184.216.34", "172.32.0.1", "100.128.0.1", "169.253.1.1", "2606:2800:220::1"])
def test_a_public_address_may_be_dialled(answers: Answers, address: str) -> None:
    answers(address)
    assert Policy.for_url(URL, ()).resolve("git.example", 443) == [(address, 443)]


def test_one_bad_address_among_good_ones_denies_the_name(answers: Answers) -> None:
    answers("93.184.216.34", "10.0.0.1")
    with pytest.raises(Denied):
        Policy.for_url(URL, ()).resolve("git.example", 443)


def test_a_name_is_resolved_once_and_what_was_checked_is_what_is_dialled(answers: Answers) -> None:
    asked = answers("93.184.216.34", "2606:2800:220::1", "93.184.216.34")
    found = Policy.for_url(URL, ()).resolve("GIT.example.", 443)
    assert found == [("93.184.216.34", 443), ("2606:2800:220::1", 443)]
    assert asked == ["git.example"]


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("git.example", 80), ("git.example", 22), ("git.example", 444), ("other.example", 443),
        ("git.example.evil.test", 443), ("evilgit.example", 443), ("sub.git.example", 443), ("example", 443),
        ("git.example..", 443), ("127.0.0.1", 443), ("", 443),
    ],
)  # fmt: skip
def test_only_the_repository_s_exact_host_and_port_are_allowed(answers: Answers, host: str, port: int) -> None:
    asked = answers("93.184.216.34")
    with pytest.raises(Denied, match=r"only the repository's own host \(git\.example:443\)"):
        Policy.for_url(URL, ()).resolve(host, port)
    assert asked == []


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://Git.Example/a", {("git.example", 443)}),
        ("https://user:pw@git.example./a", {("git.example", 443)}),
        ("https://git.example:8443/a", {("git.example", 8443)}),
        ("http://git.example/a", {("git.example", 80), ("git.example", 443)}),
        ("http://git.example:8080/a", {("git.example", 8080)}),
        ("https://[2606:2800:220::1]/a", {("2606:2800:220::1", 443)}),
    ],
)
def test_the_policy_of_a_url_is_its_host_and_port(url: str, hosts: set[tuple[str, int]]) -> None:
    assert Policy.for_url(url, ()).hosts == hosts


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "localhost"])
def test_a_loopback_address_in_another_spelling_is_denied_by_what_it_resolves_to(spelling: str) -> None:
    # The system's own resolver: it takes all of these for addresses, as a client would.
    with pytest.raises(Denied, match="which is not a public address"):
        Policy.for_url(f"https://{spelling}/a", ()).resolve(spelling, 443)


def test_a_private_range_that_the_operator_allows_is_allowed_and_nothing_beside_it(answers: Answers) -> None:
    policy = Policy.for_url(URL, ["10.1.0.0/16", "fd12:3456::/32", "192.168.7.9/24"])
    for address in ("10.1.2.3", "fd12:3456::1", "192.168.7.1"):
        answers(address)
        assert policy.resolve("git.example", 443) == [(address, 443)]
    for address in ("10.2.0.1", "fd12:3457::1", "192.168.8.1", "127.0.0.1", "169.254.169.254"):
        answers(address)
        with pytest.raises(Denied):
            policy.resolve("git.example", 443)


def test_the_machine_s_own_addresses_are_known() -> None:
    assert is_own_address(ipaddress.ip_address("127.0.0.1"))
    assert not is_own_address(ipaddress.ip_address("192.0.2.1"))
    assert not is_own_address(ipaddress.ip_address("2001:db8::1"))


def test_a_public_address_that_is_the_worker_s_own_is_denied(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers("93.184.216.34")
    monkeypatch.setattr("workers.egress_policy.is_own_address", lambda _: True)
    with pytest.raises(Denied, match="which is the worker's own"):
        Policy.for_url(URL, ()).resolve("git.example", 443)
    assert Policy.for_url(URL, ["93.184.216.0/24"]).resolve("git.example", 443)


def test_a_name_without_an_address_is_no_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(socket.gaierror):
        Policy.for_url(URL, ()).resolve("git.example", 443)


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
        b"CONNECT git.example:999999 HTTP/1.1",
        b"CONNECT git\x00.example:443 HTTP/1.1", b"CONNECT git\\evil:443 HTTP/1.1", b"CONNECT -x:443 HTTP/1.1",
        b"PUT http://git.example/ HTTP/1.1", b"DELETE http://git.example/ HTTP/1.1",
        b"GET http://git.example HTTP/1.1", b"GET http://u:p@git.example/ HTTP/1.1",
        b"GET http://git.example:80:80/ HTTP/1.1", b"GET http://git.example/a b HTTP/1.1",
        b"GET http://git.example/\xff HTTP/1.1", b"GET http:///a HTTP/1.1", b"GET ftp://git.example/ HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"\x16\x03\x01\x02\x00\x01",
    ],
)  # fmt: skip
def test_what_is_neither_a_tunnel_nor_a_plain_http_request_is_denied(head: bytes) -> None:
    with pytest.raises(Denied, match="only CONNECT, and GET, HEAD and POST"):
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


def test_no_mutation_of_a_request_gives_anything_but_a_denial_or_one_request() -> None:
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
