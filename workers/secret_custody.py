"""The values of an attempt's secrets outlive this worker without ever being written down (design §4).

The keeper holds them in its memory beside the sandbox's streams: a worker that takes the sandbox back must know what
its output may not show. If the keeper died as well they are fetched again where they came from. A seal on the host's
disk, a salted hash, tells whether those are the same ones; when they are not, or cannot be had, the rest of the
output is not shown, because nobody could say what in it is secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable, Mapping

from workers.attempt import Attempt
from workers.keeper_client import KeeperRefused
from workers.redaction import Redactor
from workers.redaction_patterns import SHORTEST_BYTES, unmasked
from workers.secrets.resolver import SecretUnavailable, resolve, sources_of

log = logging.getLogger(__name__)

_FORM = 1
_NOT_KEPT = "the keeper does not hold the values of the task's secrets"


def guard(attempt: Attempt) -> None:
    """Keep the secrets out of all that is told of the attempt, and say which of them the log may show all the same.

    What is too short is not masked: it would mask other words, and could be guessed from them.
    """
    _guard_hosts(attempt)
    short = [name for name, value in attempt.secrets.items() if unmasked(value.encode())]
    if short:
        attempt.say(
            f"warning: not all of {', '.join(short)} is masked in this log: "
            f"lines of fewer than {SHORTEST_BYTES} bytes are not; use longer secrets"
        )


def _guard_hosts(attempt: Attempt) -> None:
    """A name that a command looks up may hold a secret; names of hosts come in lower case."""
    values = attempt.redactor.values
    attempt.traffic.shown = Redactor((*values, *(value.lower() for value in values))).redact


def keepsake(attempt: Attempt) -> str | None:
    """What the keeper is to hold for a successor; also seals it. None when there is no secret. Raises `OSError`."""
    if not attempt.secrets:
        return None
    _seal(attempt)
    values = {name: base64.b64encode(value.encode()).decode() for name, value in attempt.secrets.items()}
    return json.dumps({"form": _FORM, "values": values})


def recall(attempt: Attempt, pause: Callable[[float], None]) -> None:
    """Give an attempt of a worker before us its secrets again, or the reason why its output must be withheld.

    `pause` waits so many seconds for a source that is away. Raises `KeeperUnavailable`, and what `pause` raises: the
    output is to be withheld then, too.
    """
    if not attempt.manifest.secrets or attempt.sandbox is None:
        return
    attempt.withheld = f"{_NOT_KEPT}, and the task was asked to end before they were fetched again"
    attempt.secrets = _kept(attempt, attempt.sandbox) or _fetched_again(attempt, pause)
    _guard_hosts(attempt)
    if attempt.secrets:
        attempt.withheld = None
    else:
        log.warning("output withheld", extra={"task": attempt.claim.task_id, "why": attempt.withheld})


def _kept(attempt: Attempt, sandbox: str) -> dict[str, str]:
    """From the keeper's memory; empty when it has none, or is of a version that keeps none."""
    try:
        text = attempt.equipment.keeper.keepsake(sandbox)
    except KeeperRefused:
        return {}
    if text is None:
        return {}
    stored = json.loads(text)
    if stored["form"] != _FORM:
        return {}
    return {name: base64.b64decode(value).decode() for name, value in stored["values"].items()}


def _fetched_again(attempt: Attempt, pause: Callable[[float], None]) -> dict[str, str]:
    settings = attempt.equipment.product.settings
    try:
        found = resolve(attempt.manifest.secrets, sources_of(settings), settings.worker_name, pause)
    except SecretUnavailable as error:
        attempt.withheld = f"{_NOT_KEPT}, and {error}"
        return {}
    if not _is_sealed(attempt, found):
        attempt.withheld = f"{_NOT_KEPT}, and their sources give other values by now"
        return {}
    return found


def _seal(attempt: Attempt) -> None:
    salt = secrets.token_bytes(16)
    path = attempt.directory.secrets_seal
    path.touch(0o600)
    path.write_text(f"{salt.hex()}:{_hash(salt, attempt.secrets)}", encoding="ascii")


def _is_sealed(attempt: Attempt, values: Mapping[str, str]) -> bool:
    try:
        salt, _, known = attempt.directory.secrets_seal.read_text(encoding="ascii").partition(":")
        salted = bytes.fromhex(salt)
    except (OSError, ValueError):  # not there, or not readable: nobody can tell
        return False
    return hmac.compare_digest(known, _hash(salted, values))


def _hash(salt: bytes, values: Mapping[str, str]) -> str:
    return hmac.new(salt, json.dumps(sorted(values.items())).encode(), hashlib.sha256).hexdigest()
