"""One HTTP connection pool to one server, with this product's errors instead of httpx's."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from api.client_errors import NotFound, ServerUnreachable, refusal

Json = dict[str, Any]
Params = Sequence[tuple[str, str]]

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
REPEATS = 3
"""How often a request that may be repeated is sent again after the connection broke."""


class InvalidServer(ValueError):
    """The address or the token cannot be used in a request."""

    exit_code = 2


class Connection:
    """Sends requests; every answer that is no success raises `ServerRefused`, silence `ServerUnreachable`."""

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        ca_file: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = _checked(server)
        self.sleep = sleep
        headers = {"User-Agent": "sandbox-client", **_authorization(token)}
        self.http = httpx.Client(
            base_url=self.server,
            headers=headers,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
            verify=_trusting(ca_file) if ca_file and self.server.startswith("https:") else True,
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=not _is_loopback(httpx.URL(self.server).host),
        )

    def close(self) -> None:
        """Close every connection. Safe to call again."""
        self.http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        read_seconds: float = READ_SECONDS,
        repeatable: bool = False,
    ) -> httpx.Response:
        """Send one request and return the successful answer, body read.

        With `repeatable` it is sent again when the connection breaks on the way: only for requests that do
        the same when they arrive twice.
        """
        request = self.http.build_request(
            method,
            path,
            params=_query(params),
            headers=headers,
            content=content,
            timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
        )
        response = self._send(request, REPEATS if repeatable else 0)
        if not response.is_success:
            raise refusal(response)
        return response

    def _send(self, request: httpx.Request, repeats: int) -> httpx.Response:
        for repeat in range(repeats + 1):
            try:
                return self.http.send(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise self.unreachable(error) from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                if repeat == repeats:
                    raise self.unreachable(error) from error
                self.sleep(0.5 * 2**repeat)
        raise AssertionError("unreachable: the last repeat returns or raises")

    @contextmanager
    def stream(
        self, method: str, path: str, *, params: Params = (), headers: Mapping[str, str], read_seconds: float
    ) -> Iterator[httpx.Response]:
        """Open an answer whose body is read by the caller. httpx's transport errors pass through: the
        caller knows how to resume."""
        timeout = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS)
        with self.http.stream(method, path, params=_query(params), headers=dict(headers), timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            yield response

    def json(self, method: str, path: str, **options: Any) -> Json:
        """Send one request (see `request`) and return the object it answers.

        Raises `ServerUnreachable` when the answer is no JSON object: something else listens there.
        """
        response = self.request(method, path, **options)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            kind = response.headers.get("content-type", "no content type")
            raise ServerUnreachable(self.server, f"what listens there is not this product's API ({kind})")
        return body

    def unreachable(self, error: Exception) -> ServerUnreachable:
        """Say in words why a request got no answer."""
        why = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            why = f"no answer in time ({type(error).__name__})"
        if "CERTIFICATE_VERIFY_FAILED" in why:
            why += ". Name the authority that signed its certificate with SANDBOX_CA_FILE"
        return ServerUnreachable(self.server, why)


def given(**options: str | int | None) -> list[tuple[str, str]]:
    """Return the parameters that have a value."""
    return [(name, str(value)) for name, value in options.items() if value is not None]


def path_of(kind: str, name: str) -> str:
    """Return the address of one `kind`; a name that would change the address must not reach another one.

    Raises `NotFound` for such a name, which nothing can have.
    """
    if name in {"", ".", ".."} or "/" in name:
        raise NotFound(404, f"{kind}_not_found", f"there is no {kind} {name!r}: no {kind} can have this name.")
    return f"/api/v1/{kind}s/{quote(name, safe='')}"


def _checked(server: str) -> str:
    try:
        url = httpx.URL(server)
    except httpx.InvalidURL as error:
        raise InvalidServer(f"the server's address {server!r} is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidServer(
            f"the server's address {server!r} is not usable: it must begin with http:// or https://, "
            "for example http://localhost:8122"
        )
    if url.userinfo:
        raise InvalidServer(
            "the server's address holds a password, which messages would show: give a token with --token "
            "or SANDBOX_TOKEN instead"
        )
    return server.rstrip("/")


def _trusting(ca_file: Path) -> ssl.SSLContext:
    """TLS that believes in these authorities alone."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one, too
        raise InvalidServer(
            f"the authorities' certificates cannot be read from {ca_file}: {error}; name a PEM file with "
            "SANDBOX_CA_FILE, or unset it"
        ) from error


def _query(params: Params) -> list[tuple[str, str | int | float | bool | None]] | None:
    return list(params) or None


def _authorization(token: str | None) -> dict[str, str]:
    bare = (token or "").strip()  # a token read from a file ends with a line end
    if not bare:
        return {}
    if not (bare.isascii() and bare.isprintable()):
        raise InvalidServer("the token holds characters that no token has: check --token or SANDBOX_TOKEN")
    return {"Authorization": f"Bearer {bare}"}


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
