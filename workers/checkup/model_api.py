"""The way to the model API: whether this worker has what opens it, never what is in it."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.settings import InvalidSettings, Settings
from workers.finding import Finding, note, ok, problem
from workers.model_api.access import ModelKeyUnavailable, read_access
from workers.model_api.prices import BUILT_IN, read_prices

SUBJECT = "model api"
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CONSEQUENCE = "`claude` tasks fail at staging with secret_unavailable"


def access(settings: Settings) -> Iterator[Finding]:
    """Without a key `claude` tasks cannot be run here; `run` tasks need none."""
    files = [file for file in (settings.model_api_key_file, settings.model_api_headers_file) if file is not None]
    if not files:
        advice = "put a key into a file and name it in SANDBOX_MODEL_API_KEY_FILE, see docs/model.md"
        yield note(SUBJECT, f"this worker has no key for it: {_CONSEQUENCE}; `run` tasks need none", advice)
    else:
        yield from _opened(settings)
        yield from _shielded(files, settings)
    yield from _prices(settings)


def _opened(settings: Settings) -> Iterator[Finding]:
    try:
        read_access(settings)
    except ModelKeyUnavailable as error:
        yield problem(SUBJECT, f"{error}: {_CONSEQUENCE}", error.hint)
        return
    if is_in_clear(settings.model_api_url):
        seen = f"{settings.model_api_url} is not https://: the key and all that tasks send travel in clear"
        yield note(SUBJECT, seen, "use https://, or a gateway on this machine or in your private network")
    else:
        yield ok(SUBJECT, f"tasks reach {settings.model_api_url} over the worker's relay, with its key")


def _shielded(files: list[Path], settings: Settings) -> Iterator[Finding]:
    """Who else may read a file; one that is not there was told of."""
    for file in files:
        if not file.exists():
            continue
        if file.stat().st_mode & _FOR_OTHERS:
            yield note(SUBJECT, f"{file} is open to other users of this host", f"chmod 0600 {file}")
        directory = settings.secrets_dir
        if directory is not None and file.resolve().is_relative_to(directory.resolve()):
            seen = f"{file} leads below SANDBOX_SECRETS_DIR={directory}: every task may read it as a secret"
            yield problem(SUBJECT, seen, "move it elsewhere")


def _prices(settings: Settings) -> Iterator[Finding]:
    try:
        prices = read_prices(settings)
    except InvalidSettings as invalid:
        for error in invalid.errors:
            yield problem(SUBJECT, f"{error}; the worker does not start", "correct the file, see docs/model.md")
        return
    if settings.model_prices_file is not None:
        own = len(prices.rules) - len(BUILT_IN.rules)
        yield ok(SUBJECT, f"{own} prices in {settings.model_prices_file}, before the {len(BUILT_IN.rules)} built in")


def is_in_clear(url: str) -> bool:
    """Tell whether strangers may be on the way: the names of private networks are not looked up."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return True
    return not (address.is_private or address.is_loopback)
