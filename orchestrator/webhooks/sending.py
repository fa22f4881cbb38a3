"""One try to deliver: a POST that goes to an address which was judged, and nowhere else.

The name is resolved and all its addresses are judged for this connection, which then goes to one of them: an answer of
the DNS that changes in between changes nothing. Redirects are not followed, proxies of the environment not asked.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import certifi
import httpcore

from orchestrator.addresses import ForbiddenAddress, Lookup, resolved, system_lookup
from orchestrator.host_addresses import Network
from orchestrator.webhooks.receiver import ADVICE, receiver_of
from orchestrator.webhooks.retrying import Tried

SECONDS = 10.0
"""For all of a try, from the first byte to the last; only the system's resolver may take longer."""
ANSWER_BYTES, ANSWER_SECONDS = 1024, 1.0
"""Of the body of an answer, so much is read and thrown away."""

Send = Callable[[str, bytes, Mapping[str, str]], Tried]
"""URL, body and headers → how it ended. Raises nothing. Thread-safe."""


class Sender:
    """Sends what it is given. `allowed`: the operator's ranges of addresses that are not public. Thread-safe."""

    def __init__(self, allowed: Sequence[Network], *, lookup: Lookup = system_lookup, seconds: float = SECONDS) -> None:
        self._allowed = tuple(allowed)
        self._lookup = lookup
        self._seconds = seconds

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Tried:
        began = time.monotonic()
        status, error = self._sent(url, body, headers, _Deadline(began + self._seconds))
        return Tried(status, error, round((time.monotonic() - began) * 1000))

    def _sent(
        self, url: str, body: bytes, headers: Mapping[str, str], deadline: _Deadline
    ) -> tuple[int | None, str | None]:
        backend = _JudgedBackend(self._allowed, self._lookup, deadline)
        try:
            to = receiver_of(url)
            address = httpcore.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.target)
            lines = [("Host", to.authority), *_FIXED, *headers.items()]
            pool = httpcore.ConnectionPool(_trusted(), network_backend=backend)
            with pool, pool.stream("POST", address, headers=lines, content=body) as answer:
                deadline.shorten(ANSWER_SECONDS)
                with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                    _drain(answer.iter_stream())
                return answer.status, _fault_of(answer)
        except ForbiddenAddress as error:
            return None, f"{error}; {ADVICE}"
        except httpcore.TimeoutException:
            return None, f"the receiver did not answer within {self._seconds:g} s"
        except httpcore.ProtocolError:  # whose text repeats what somebody inside may have said
            return None, "what the receiver answered is not HTTP"
        except (httpcore.NetworkError, OSError, ValueError) as error:
            return None, f"the receiver could not be reached: {str(error) or type(error).__name__}"


class _Deadline:
    """The instant, in monotonic seconds, that ends whatever is done then."""

    def __init__(self, at: float) -> None:
        self._at = at

    def left(self) -> float:
        """Seconds until then. Raises `httpcore.ReadTimeout` when there are none."""
        seconds = self._at - time.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout("the time is over")
        return seconds

    def shorten(self, seconds: float) -> None:
        self._at = min(self._at, time.monotonic() + seconds)


class _JudgedBackend(httpcore.NetworkBackend):
    """Dials addresses it has judged."""

    def __init__(self, allowed: Sequence[Network], lookup: Lookup, deadline: _Deadline) -> None:
        self._allowed = allowed
        self._lookup = lookup
        self._deadline = deadline
        self._dial = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline takes its place
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises `ForbiddenAddress`, `OSError` for a name without an address, and what httpcore raises."""
        addresses = resolved(host, port, self._allowed, self._lookup)
        for left in range(len(addresses), 0, -1):
            share = self._deadline.left() / left
            try:
                stream = self._dial.connect_tcp(addresses[-left], port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
            else:
                return _Timed(stream, self._deadline)
        raise AssertionError("a name that was resolved has an address")


class _Timed(httpcore.NetworkStream):
    """A stream that ends at an instant, however often a few bytes arrive."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - as above
        return self._inner.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, self._deadline.left()), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _drain(parts: Iterable[bytes]) -> None:
    """A receiver that is still writing its answer when we hang up may take that for a failure."""
    size = 0
    for part in parts:
        size += len(part)
        if size >= ANSWER_BYTES:
            return


def _fault_of(answer: httpcore.Response) -> str | None:
    if 200 <= answer.status < 300:
        return None
    if not 300 <= answer.status < 400:
        return f"the receiver answered {answer.status}"
    location = next((value.decode("latin-1") for name, value in answer.headers if name.lower() == b"location"), "")
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    where = f"to {host[:253]!r}" if host else "elsewhere"
    advice = "which is not followed; give the webhook the address itself"
    return f"the receiver answered {answer.status}, a redirect {where}, {advice}"


@cache
def _trusted() -> ssl.SSLContext:
    """The public authorities, and those of this machine (SSL_CERT_FILE). Shared: reading them takes tens of ms."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _product() -> str:
    try:
        return f"sandbox-orchestrator/{version('sandbox-orchestrator')}"
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "sandbox-orchestrator"


_FIXED = (
    ("Content-Type", "application/json"),
    ("User-Agent", _product()),
    ("Accept", "*/*"),
    ("Connection", "close"),
)
