"""The first message of a TLS client, read strictly: which server it names (pure; RFC 8446 §4.1.2, RFC 6066 §3).

What two readers could understand differently is denied: a name given twice, bytes behind the message, lengths
that do not add up. What lies inside the encrypted part nobody can see (docs/network.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contacts import EgressRule
from workers.egress.denial import Denied

HELLO_BYTES = 16 << 10
"""A longer first message is denied; with post-quantum keys they have about 2 KB."""
HELLO_RECORDS = 8
"""One is usual. A message in a record for each of its bytes would cost this worker a second of work."""
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
_LONGEST_RECORD = 1 << 14
_SERVER_NAME, _HOST_NAME = 0, 0
_ADVICE = "speak TLS on this port, with the server name (SNI) of the host that is connected to"


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a TLS client says first. `server_name` as it wrote it; None when it names no server."""

    server_name: str | None


def read_hello(data: bytes) -> ClientHello | int:
    """Read the first bytes of a tunnel. Raises `Denied`.

    Returns how many bytes `data` must have, more than now, before it is worth reading again, while the message is not
    complete: so it is read a few times, however the bytes come.
    """
    message, place = b"", 0
    for _ in range(HELLO_RECORDS):
        head = data[place : place + _RECORD_HEAD]
        if not _may_begin_record(head):
            raise _not_tls("it does not begin with a TLS handshake")
        if len(head) < _RECORD_HEAD:
            return place + _RECORD_HEAD
        length = int.from_bytes(head[3:])
        if not 0 < length <= _LONGEST_RECORD:
            raise _not_tls("a record has an impossible length")
        place += _RECORD_HEAD
        message += data[place : place + length]
        if message[0:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise _not_tls("its first message is no ClientHello")
        wanted = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD])
        to_come = max(0, place + length - len(data))
        if len(message) >= _MESSAGE_HEAD and not len(message) + to_come <= wanted <= HELLO_BYTES:
            raise _not_tls("its ClientHello is too long, or something follows it at once")
        if to_come:
            # The message's own length first: who announces too much is not waited for.
            unknown = _MESSAGE_HEAD - len(message)
            return len(data) + (min(to_come, unknown) if unknown > 0 else to_come)
        if len(message) >= _MESSAGE_HEAD and len(message) == wanted:
            return ClientHello(_server_name(_Reader(message[_MESSAGE_HEAD:])))
        place += length
    raise _not_tls(f"its ClientHello comes in more than {HELLO_RECORDS} records")


def _may_begin_record(head: bytes) -> bool:
    """Tell early: who speaks another protocol must not be kept waiting for more bytes."""
    wanted: tuple[range, ...] = (range(_HANDSHAKE, _HANDSHAKE + 1), range(3, 4), range(5))
    return all(byte in allowed for byte, allowed in zip(head, wanted, strict=False))


def _server_name(hello: _Reader) -> str | None:
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session id
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression methods
    if hello.at_end():
        return None
    extensions = _Reader(hello.vector(2))
    hello.expect_end()
    found: dict[int, bytes] = {}
    while not extensions.at_end():
        kind = int.from_bytes(extensions.take(2))
        if kind in found:
            raise _not_tls("an extension comes twice in its ClientHello")
        found[kind] = extensions.vector(2)
    return _only_name(_Reader(found[_SERVER_NAME])) if _SERVER_NAME in found else None


def _only_name(extension: _Reader) -> str:
    names = _Reader(extension.vector(2))
    extension.expect_end()
    kind, name = names.take(1)[0], names.vector(2)
    names.expect_end()
    if kind != _HOST_NAME or not name.isascii() or not name.decode("ascii").isprintable():
        raise Denied(EgressRule.SNI, "the server name in its ClientHello is no plain host name", _ADVICE)
    return name.decode("ascii")


def _not_tls(why: str) -> Denied:
    return Denied(EgressRule.TLS, f"the tunnel does not carry TLS: {why}", _ADVICE)


class _Reader:
    """Takes bytes from the front. Raises `Denied` when they do not suffice."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        if len(taken) != count:
            raise _not_tls("its ClientHello ends too early")
        self._place += count
        return taken

    def vector(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes)))

    def at_end(self) -> bool:
        return self._place == len(self._data)

    def expect_end(self) -> None:
        if not self.at_end():
            raise _not_tls("its ClientHello holds bytes that belong to nothing")
