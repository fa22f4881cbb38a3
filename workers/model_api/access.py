"""What opens the model API: the operator's address, key and headers, read anew for each request.

So a key may be renewed in its file while tasks run. Values are never part of a message.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.model_settings import BEARER, X_API_KEY
from orchestrator.settings import Settings
from workers.model_api.trust import TrustUnavailable, trusted

MAX_FILE_BYTES = 64 << 10
SHORTEST_SECRET = 8
"""Characters of a header's value that is masked: a shorter one (`1`, `team-a`) stands in many an innocent answer."""
_KEY = re.compile(r"[\x21-\x7e]{8,8192}")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)")
_OF_THE_RELAY = frozenset(
    ("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
     "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade")
)  # fmt: skip
"""They frame a request or concern one connection; an operator's would break it, or let a second one through."""
# Without O_NONBLOCK the opening of a fifo would wait for a writer.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_PAGE = "see docs/model.md"


class ModelKeyUnavailable(Exception):
    """This worker cannot open the model API now. The message says why, never a value; `hint` what to do."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Access:
    """`url` has no `/` at its end. `headers` are added to each request, in place of the sandbox's of the same name.

    `secrets` are what must not be shown of them. `trust`: whose certificates are taken.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    trust: ssl.SSLContext = field(default_factory=trusted, compare=False)


def read_access(settings: Settings) -> Access:
    """What is in force now. Raises `ModelKeyUnavailable`."""
    key_file, headers_file = settings.model_api_key_file, settings.model_api_headers_file
    if key_file is None and headers_file is None:
        raise ModelKeyUnavailable(
            f"worker {settings.worker_name} has no key for the model API",
            f"the operator puts one into a file and names it in SANDBOX_MODEL_API_KEY_FILE, {_PAGE}",
        )
    headers = [] if headers_file is None else list(_headers(headers_file))
    secrets = [secret for _, value in headers for secret in _secrets_of(value)]
    if key_file is not None:
        key = _key(key_file)
        name, value = ("authorization", f"Bearer {key}") if settings.model_api_auth == BEARER else (X_API_KEY, key)
        if any(name == other for other, _ in headers):
            raise ModelKeyUnavailable(
                f"the headers for the model API ({headers_file}) name {name}, which holds the key already",
                "the operator takes it out of SANDBOX_MODEL_API_HEADERS_FILE, or unsets SANDBOX_MODEL_API_KEY_FILE",
            )
        headers.append((name, value))
        secrets.append(key)
    try:
        trust = trusted(settings.model_api_ca_file)
    except TrustUnavailable as error:
        raise ModelKeyUnavailable(str(error), f"the operator corrects SANDBOX_MODEL_API_CA_FILE, {_PAGE}") from None
    return Access(settings.model_api_url, tuple(headers), tuple(dict.fromkeys(secrets)), trust)


def _key(file: Path) -> str:
    key = _text(file, "key", "SANDBOX_MODEL_API_KEY_FILE").strip()
    if not key:
        raise ModelKeyUnavailable(f"the key file of the model API ({file}) is empty", "the operator puts a key there")
    if not _KEY.fullmatch(key):
        why = f"the key file of the model API ({file}) holds no key"
        raise ModelKeyUnavailable(why, "the operator puts one key there: at least 8 characters, without spaces")
    return key


def _headers(file: Path) -> Iterator[tuple[str, str]]:
    """Names in lower case. Empty lines, and those that begin with `#`, say nothing."""
    for number, line in enumerate(_text(file, "headers", "SANDBOX_MODEL_API_HEADERS_FILE").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"line {number} of the headers for the model API ({file})"
        found = _HEADER.fullmatch(text)
        if found is None:
            raise ModelKeyUnavailable(f"{where} is no header", "the operator writes it as `Name: value`, in ASCII")
        if (name := found[1].lower()) in _OF_THE_RELAY:
            raise ModelKeyUnavailable(
                f"{where} sets {name}, which the relay writes itself", "the operator takes it out"
            )
        yield name, found[2]


def _secrets_of(value: str) -> Iterator[str]:
    """A value, and what stands behind its scheme (`Bearer …`): either may be shown alone."""
    for secret in (value, value.rsplit(maxsplit=1)[-1]):
        if len(secret) >= SHORTEST_SECRET:
            yield secret


def _text(file: Path, what: str, setting: str) -> str:
    """Raises `ModelKeyUnavailable`."""
    subject, hint = f"the {what} file of the model API ({file})", f"the operator corrects it, or {setting}; {_PAGE}"
    try:
        data = _read(file)
    except OSError as error:
        raise ModelKeyUnavailable(f"{subject} cannot be read: {error.strerror or error}", hint) from None
    if data is None or len(data) > MAX_FILE_BYTES:
        what = "is no plain file" if data is None else f"has more than {MAX_FILE_BYTES:,} bytes"
        raise ModelKeyUnavailable(f"{subject} {what}", hint)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:  # its own message quotes bytes
        raise ModelKeyUnavailable(f"{subject} is no ASCII text", hint) from None


def _read(file: Path) -> bytes | None:
    """Its bytes, a little more than `MAX_FILE_BYTES` at most; None when it is no plain file. Raises `OSError`."""
    descriptor = os.open(file, _FILE)
    try:  # fdopen would refuse a directory, and leave the descriptor open
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
