"""`source: vault`: the KV engine, version 2, over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from orchestrator.outcomes import Fault
from workers.secrets.port import SecretRefused, SourceAway

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
ANSWER_BYTES = 4 << 20
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")  # what a header can hold; vault's own are shorter
_ONLY_FIELD = "value"
_TRY_LATER = frozenset({408, 412, 429, 472, 473, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class VaultSource:
    """See `Source`. A key is `path` or `path:field`, below `mount`.

    The token is read from its file at each use, so an agent beside the worker may renew it there. Answers of a
    server are never part of a message: they may hold values.
    """

    url: str | None
    token_file: Path | None
    mount: str

    def read(self, key: str) -> bytes:
        path, _, field = key.partition(":")
        fields = self._fields(path)
        if not field and len(fields) == 1:
            field = next(iter(fields))
        value = fields.get(field or _ONLY_FIELD)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        where = f"{self.mount}/{path}"
        if value is not None:
            raise SecretRefused(f"field {field or _ONLY_FIELD} of {where} is no text", "store it in Vault as text")
        if field:
            raise SecretRefused(f"{where} has no field {field}", "name one of its fields: key: path:field")
        raise SecretRefused(f"{where} has {len(fields)} fields", "name one of them: key: path:field")

    def check_token(self, seconds: float) -> None:
        """Ask Vault once whether it takes the token; wait `seconds` for each step.

        Raises `SecretRefused`, `SourceAway`.
        """
        status, _ = self._get(_ABOUT_ITSELF, seconds)
        if status == http.client.FORBIDDEN:
            raise _token_refused()
        if status != http.client.OK:
            raise SecretRefused(f"Vault answered {status} to a look at its own token", _LOOK_AT_URL, Fault.PLATFORM)

    def _fields(self, path: str) -> dict[str, Any]:
        status, answer = self._get(f"{quote(self.mount)}/data/{quote(path)}")
        if status == http.client.OK:
            try:
                fields = json.loads(answer)["data"]["data"]
            except (ValueError, TypeError, KeyError, RecursionError):
                fields = None
            if isinstance(fields, dict):
                return fields
        if status == http.client.NOT_FOUND:
            hint = f"paths are below the mount {self.mount} (SANDBOX_VAULT_MOUNT) and without data/; correct the key"
            raise SecretRefused(f"Vault has nothing at {self.mount}/{path}", hint)
        if status == http.client.FORBIDDEN:
            raise self._forbidden(path)
        raise SecretRefused(f"Vault answered {status}, which is no answer of KV v2", _LOOK_AT_URL, Fault.PLATFORM)

    def _forbidden(self, path: str) -> SecretRefused:
        """Whose fault it is: Vault says the same of a token that is not valid and of a path it may not read."""
        status, _ = self._get(_ABOUT_ITSELF)
        if status == http.client.OK:
            hint = f"the operator lets the worker's policy read {self.mount}/data/{path}, or the key is wrong"
            return SecretRefused(f"the worker may not read {self.mount}/{path}", hint)
        return _token_refused()

    def _get(self, path: str, seconds: float = CONNECT_SECONDS) -> tuple[int, bytes]:
        """Return status and body. Raises `SourceAway`, `SecretRefused`."""
        if self.url is None or self.token_file is None:
            hint = "the operator sets SANDBOX_VAULT_URL and SANDBOX_VAULT_TOKEN_FILE"
            raise SecretRefused("it knows no Vault", hint)
        headers = {"X-Vault-Token": _token(self.token_file), "X-Vault-Request": "true", "Connection": "close"}
        base = urlsplit(self.url)
        connection = _connection(base.scheme, base.hostname or "", base.port, seconds)
        try:
            connection.request("GET", f"{base.path}/v1/{path}", headers=headers)
            with connection.getresponse() as response:
                body = _body(response)
        except ssl.SSLCertVerificationError as error:
            hint = "the operator names the authority that signed it in SSL_CERT_FILE of the worker"
            why = f"Vault's certificate is not trusted: {error.verify_message}"
            raise SecretRefused(why, hint, Fault.PLATFORM) from None
        except (OSError, http.client.HTTPException) as error:
            words = error.strerror if isinstance(error, OSError) else None
            raise SourceAway(f"Vault does not answer: {words or type(error).__name__}") from None
        finally:
            connection.close()
        if response.status in _TRY_LATER:
            raise SourceAway(f"Vault answered {response.status}")
        return response.status, body


_ABOUT_ITSELF = "auth/token/lookup-self"
_LOOK_AT_URL = "the operator compares SANDBOX_VAULT_URL (the active node) and SANDBOX_VAULT_MOUNT (KV version 2)"


def _token_refused() -> SecretRefused:
    hint = "the operator renews the token in SANDBOX_VAULT_TOKEN_FILE"
    return SecretRefused("Vault does not accept the worker's token", hint, Fault.PLATFORM)


def _token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        why = f"its token file cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        raise SecretRefused(why, "the operator corrects SANDBOX_VAULT_TOKEN_FILE", Fault.PLATFORM) from None
    if not _TOKEN.fullmatch(token):  # the client's own complaint would quote it
        hint = "the operator puts one token into SANDBOX_VAULT_TOKEN_FILE"
        raise SecretRefused("its token file holds no token", hint, Fault.PLATFORM)
    return token


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
    """No proxy of the environment and no redirect: the token goes to the server that the operator named, only."""
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=seconds)
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())


def _body(response: http.client.HTTPResponse) -> bytes:
    """All of it. Raises `TimeoutError`, `HTTPException`."""
    body, deadline = b"", time.monotonic() + ANSWER_SECONDS
    while more := response.read1(1 << 16):
        body += more
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(body) > ANSWER_BYTES:
            raise http.client.HTTPException
    return body
