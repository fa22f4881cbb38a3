"""How the relay to the model API reads what it is asked (pure). The refusals are tried on sockets next door."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.model_api import incoming
from workers.model_api.incoming import MAX_HEAD_BYTES, ClientGone, Incoming
from workers.model_api.request import MAX_BODY_BYTES, Asked, Refused, Route, parse

HEAD = (
    b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: 127.0.0.1:3129\r\nContent-Length: 12\r\nanthropic-version: 2023\r\n"
    b"x-api-key: k\r\nAuthorization: Bearer k\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nCookie: a"
)
PASSED_ON = re.compile(rb"accept|content-type|user-agent|x-app|(anthropic|x-claude-code|x-stainless)-[!#-~]*")


@pytest.mark.parametrize(
    ("line", "route"),
    [
        (b"POST /v1/messages", Route.MESSAGES), (b"POST /v1/messages?beta=true", Route.MESSAGES),
        (b"POST /v1/messages?beta=true&a=1.0:2", Route.MESSAGES),
        (b"POST /v1/messages/count_tokens?beta=true", Route.COUNT_TOKENS),
        (b"GET /v1/models", Route.MODELS), (b"GET /v1/models?limit=1000&after_id=claude-a", Route.MODELS),
        (b"GET /v1/models/claude-opus-5-5", Route.MODELS), (b"GET /v1/models/a@b:c.d", Route.MODELS),
        (b"HEAD /", Route.ROOT), (b"POST /v1/messages?", None), (b"POST /v1/messages?beta", None),
        (b"POST /v1/messages?a=/", None), (b"POST /v1/messages?a=b?c=d", None), (b"GET /v1/models/.", None),
        (b"GET /v1/models/..", None), (b"GET /v1/models//", None), (b"GET /v1/models/a%2fb", None),
        (b"POST /V1/messages", None), (b"POST /v1\\messages", None), (b"GET /", None), (b"HEAD /v1/models", None),
        (b"POST /v1/messages?" + b"&".join([b"a=b"] * 17), None), (b"POST /v1/messages?a=" + b"b" * 129, None),
    ],
)  # fmt: skip
def test_a_route_is_known_by_method_path_and_plain_parameters(line: bytes, route: Route | None) -> None:
    asked = parse(line + b" HTTP/1.1" + (b"\r\nContent-Length: 0" if line.startswith(b"POST") else b""))
    assert (asked.route, asked.is_last, asked.awaits_continue) == (route, False, False)


def test_the_largest_body_is_taken_and_one_byte_more_is_not() -> None:
    line = b"POST /v1/messages HTTP/1.1\r\ncontent-length: "
    assert parse(line + b"%d" % MAX_BODY_BYTES).body_bytes == MAX_BODY_BYTES
    with pytest.raises(Refused, match="at most 67,108,864") as refused:
        parse(line + b"%d" % (MAX_BODY_BYTES + 1))
    assert (refused.value.status, refused.value.kind) == (413, "request_too_large")


def mutations(head: bytes) -> st.SearchStrategy[bytes]:
    """A few pieces of it replaced by bytes that mean something to HTTP, or by any."""
    telling = st.sampled_from(
        [b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"%2e%2e", b"/../", b"//", b"?", b"#",
         b"\x85", b"0", b"HTTP/1.0", b"http://evil.test", b"Content-Length: 3\r\n", b"\r\nX: y",
         b"Transfer-Encoding: chunked\r\n"]
    )  # fmt: skip
    change = st.tuples(st.integers(0, len(head)), st.integers(0, 20), st.one_of(telling, st.binary(max_size=4)))

    def changed(changes: list[tuple[int, int, bytes]]) -> bytes:
        found = head
        for place, size, piece in changes:
            found = found[:place] + piece + found[place + size :]
        return found

    return st.lists(change, max_size=4).map(changed)


def _parsed(head: bytes) -> Asked | Refused:
    try:
        return parse(head)
    except Refused as refused:
        return refused


def _checked(head: bytes) -> Asked | None:
    """What was understood keeps the promises that the rest of the relay relies on."""
    asked = _parsed(head)
    if not isinstance(asked, Asked):
        assert asked.status in (400, 411, 413)
        return None
    first, *lines = head.split(b"\r\n")
    assert first == f"{asked.method} {asked.target} HTTP/1.1".encode()
    assert all(line.count(b"\n") + line.count(b"\r") + line.count(b"\0") == 0 for line in lines)
    lengths = [line for line in lines if line.lower().startswith(b"content-length")]
    assert len(lengths) <= 1
    assert not any(line.lower().startswith(b"transfer-encoding") for line in lines)
    assert asked.body_bytes == (int(lengths[0].partition(b":")[2]) if lengths else 0) <= MAX_BODY_BYTES
    if asked.route is not None:
        assert re.fullmatch(
            r"/(v1/(messages|messages/count_tokens|models|models/[\w.:@-]+))?(\?[\w=&.:-]+)?", asked.target
        )
    for name, value in asked.headers:
        assert PASSED_ON.fullmatch(name)
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$", value)
    h11.Request(method=asked.method, target=asked.target, headers=[(b"host", b"x"), *asked.headers])  # it checks them
    return asked


@settings(max_examples=150, deadline=None)
@given(mutations(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")))
def test_a_mutated_request_is_refused_or_understood_in_the_only_way(head: bytes) -> None:
    _checked(head)


@settings(max_examples=150, deadline=None)
@given(mutations(HEAD))
def test_no_mutation_makes_two_framings_pass(head: bytes) -> None:
    asked = _checked(head)
    assert (
        asked is None
        or b"transfer-encoding" not in head.lower().replace(b"x-transfer-encoding", b"")
        or (not re.search(rb"(^|\r\n)transfer-encoding[ \t]*:", head.lower()))
    )


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_understood(head: bytes) -> None:
    _checked(head)


@contextmanager
def received(*pieces: bytes) -> Iterator[Incoming]:
    """What a client has sent and closed behind it, each piece by itself."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with ours, suppress(BrokenPipeError):  # who refuses the beginning reads no more
            for piece in pieces:
                ours.sendall(piece)

    sending = threading.Thread(target=send)
    sending.start()
    with theirs:
        yield Incoming(theirs)
    sending.join()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_requests_are_told_apart_wherever_they_are_cut(size: int) -> None:
    sent = b"A\r\n\r\n12345B\r\nC: \r\n\r\n\r\n\r\n"
    with received(*(sent[at : at + size] for at in range(0, len(sent), size))) as one:
        assert one.head() == b"A"
        assert b"".join(one.body(5)) == b"12345"
        assert one.head() == b"B\r\nC: "
        assert one.head() == b""
        assert one.head() is None


def test_a_head_of_the_largest_size_is_taken() -> None:
    with received(b"a" * MAX_HEAD_BYTES, b"\r\n\r\n", b"a" * (MAX_HEAD_BYTES + 1), b"\r\n\r\n") as one:
        assert one.head() == b"a" * MAX_HEAD_BYTES
        with pytest.raises(Refused, match="more than 65,536 bytes"):
            one.head()


def test_an_end_in_the_middle_of_a_head_or_a_body_is_no_request() -> None:
    with received(b"A\r\n\r") as one, pytest.raises(ClientGone):
        one.head()
    with received(b"A\r\n\r\n123") as one:
        assert one.head() == b"A"
        with pytest.raises(ClientGone):
            list(one.body(4))


def test_a_head_that_drips_is_not_waited_for_beyond_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "HEAD_SECONDS", 0.2)
    over = threading.Event()
    ours, theirs = socket.socketpair()

    def drip() -> None:
        while not over.wait(0.02):
            ours.sendall(b"a")

    dripping = threading.Thread(target=drip)
    dripping.start()
    with ours, theirs:
        try:
            with pytest.raises(ClientGone):
                Incoming(theirs).head()
        finally:
            over.set()
            dripping.join()
