"""The way from the worker to the model API, for one connection of a sandbox: one request at a time."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from workers.model_api.access import Access
from workers.model_api.masking import masked_text
from workers.model_api.request import Asked, Refused

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 60.0
READ_SECONDS = 660.0
"""For the next piece of an answer: longer than the ten minutes after which the agent gives up by itself."""
KEEP_SECONDS = 60.0
"""An idle connection is used again within."""
_CONNECTED = ("connect_tcp.complete", "start_tls.complete")
"""Steps that give a new stream."""
_OPERATOR = "which the worker's operator sets in SANDBOX_MODEL_API_URL"


class Upstream:
    """For one thread; `cut` may be called from any.

    A client of its own, and not one of the whole process: only so it is known which connection serves whom, and a
    request that nobody waits for any more can be ended while the API thinks about it.
    """

    def __init__(self) -> None:
        self._client: httpx.Client | None = None
        self._trust: object = None
        self._socket: socket.socket | None = None
        self._is_cut = False

    def cut(self) -> None:
        """End what is under way: a thread that waits for the API wakes up."""
        self._is_cut = True
        _shut(self._socket)

    def close(self) -> None:
        """Idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @contextmanager
    def answer(self, asked: Asked, access: Access, body: Iterable[bytes]) -> Iterator[httpx.Response]:
        """Send a request; its answer, whose body has not been read. What is left of it is thrown away at the end.

        Raises `Refused` (502) when there is no answer, and what `body` raises.
        """
        try:
            client = self._client_for(access)
            request = client.build_request(
                asked.method,
                access.url + asked.target,
                headers=_headers(asked, access),
                content=body if asked.body_bytes else None,
                extensions={"trace": self._watch},
            )
            response = client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
            raise not_answered(access, _why(error)) from None
        with closing(response):
            yield response

    def _client_for(self, access: Access) -> httpx.Client:
        """Raises `ImportError` and `ValueError` for a proxy in the environment that cannot be used."""
        if self._client is not None and self._trust is access.trust:
            self._client.cookies.clear()  # what a gateway remembers of one request concerns no other
            return self._client
        self.close()
        self._client = httpx.Client(
            verify=access.trust,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, write=WRITE_SECONDS),
            limits=httpx.Limits(max_keepalive_connections=1, keepalive_expiry=KEEP_SECONDS),
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=not is_loopback(urlsplit(access.url).hostname or ""),
        )
        self._trust = access.trust
        return self._client

    def _watch(self, event: str, told: dict[str, Any]) -> None:
        """Called by the client at each of its steps (httpcore's `trace`)."""
        if not event.endswith(_CONNECTED):
            return
        found = told["return_value"].get_extra_info("socket")
        if found is not None:
            self._socket = found
            if self._is_cut:
                _shut(found)


def not_answered(access: Access, why: str) -> Refused:
    """Of a type that clients of the API try again after."""
    host = urlsplit(access.url).hostname
    said = f"the model API at {host}, {_OPERATOR}, {why}"
    return Refused(502, "api_error", masked_text(said, access.secrets))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _headers(asked: Asked, access: Access) -> list[tuple[bytes, bytes]]:
    """The sandbox's that may pass, and the operator's in place of those of the same name."""
    operators = [(name.encode(), value.encode()) for name, value in access.headers]
    names = {name for name, _ in operators}
    written = [(name, value) for name, value in asked.headers if name not in names] + operators
    # What is compressed could not be looked through for usage.
    written.append((b"accept-encoding", b"identity"))
    if asked.body_bytes:
        written.append((b"content-length", b"%d" % asked.body_bytes))
    return written


def _why(error: Exception) -> str:
    """What happened, by the kind of error; its own words say the rest."""
    if isinstance(error, httpx.ReadTimeout):
        return f"did not answer within {READ_SECONDS:.0f} seconds"
    if isinstance(error, httpx.TimeoutException):
        return "cannot be reached in time"
    if isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.InvalidURL | ImportError | ValueError):
        return f"cannot be reached: {error}"
    return f"broke off: {str(error) or type(error).__name__}"


def _shut(found: socket.socket | None) -> None:
    """TLS's own `shutdown` would take its state away from the thread that reads."""
    if found is not None:
        with suppress(OSError):
            socket.socket.shutdown(found, socket.SHUT_RDWR)
