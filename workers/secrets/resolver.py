"""Fetches what a manifest refers to; says what cannot be had, by name and source, never by value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.manifest import Secret
from orchestrator.outcomes import Fault, Outcome, Reason, failure
from orchestrator.settings import Settings
from workers.secrets.environment import EnvironmentSource
from workers.secrets.files import FileSource
from workers.secrets.port import MAX_VALUE_BYTES, SecretRefused, Source, SourceAway
from workers.secrets.vault import VaultSource

TRIES = 4
BACKOFF_SECONDS = 0.5
MAX_TOTAL_BYTES = 1 << 20
"""Linux passes all variables and arguments of a command in a quarter of its stack: 2 MiB."""


class SecretUnavailable(Exception):
    """A secret cannot be handed in; the outcome names it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def sources_of(settings: Settings) -> Mapping[str, Source]:
    """The sources by the words of a manifest."""
    return {
        "env": EnvironmentSource(settings),
        "file": FileSource(settings.secrets_dir),
        "vault": VaultSource(settings.vault_url, settings.vault_token_file, settings.vault_mount),
    }


def resolve(
    wanted: Sequence[Secret], sources: Mapping[str, Source], worker: str, pause: Callable[[float], None]
) -> dict[str, str]:
    """Return the values by the names of their secrets.

    `pause` waits so many seconds, and raises when the task was asked to end meanwhile. Raises `SecretUnavailable`.
    """
    values: dict[str, str] = {}
    for secret in wanted:
        try:
            values[secret.name] = checked(_read(sources[secret.source], secret, pause))
        except SecretRefused as error:
            raise SecretUnavailable(_refusal(secret, worker, error)) from None
        except SourceAway as error:
            message = f"{_subject(secret)} cannot be had on worker {worker} in {TRIES} tries: {error}"
            hint = "run the task again later, or ask the operator why the source is away"
            raise SecretUnavailable(
                failure(Reason.SECRET_UNAVAILABLE, message, hint=hint, fault=Fault.PLATFORM)
            ) from None
    total = sum(len(value.encode()) for value in values.values())
    if total > MAX_TOTAL_BYTES:
        message = f"the task's secrets have {total:,} bytes together: at most {MAX_TOTAL_BYTES:,} can be handed in"
        raise SecretUnavailable(failure(Reason.SECRET_UNAVAILABLE, message, hint="name fewer, or smaller ones"))
    return values


def checked(value: bytes) -> str:
    """The value as a variable can hold it. Raises `SecretRefused`."""
    if not value:
        raise SecretRefused("the value is empty", "the operator stores one")
    if len(value) > MAX_VALUE_BYTES:
        hint = "the operator stores a smaller value"
        raise SecretRefused(f"the value has more than {MAX_VALUE_BYTES:,} bytes", hint)
    hint = "a variable holds text only: the operator stores the value in base64, for example"
    if b"\0" in value:
        raise SecretRefused("the value holds a NUL byte", hint)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:  # its own message quotes bytes
        raise SecretRefused("the value is no UTF-8 text", hint) from None


def _read(source: Source, secret: Secret, pause: Callable[[float], None]) -> bytes:
    for number in range(1, TRIES):
        try:
            return source.read(secret.key)
        except SourceAway:
            pause(BACKOFF_SECONDS * 2 ** (number - 1))
    return source.read(secret.key)


def _subject(secret: Secret) -> str:
    return f"secret {secret.name} (source {secret.source}, key {secret.key})"


def _refusal(secret: Secret, worker: str, error: SecretRefused) -> Outcome:
    message = f"{_subject(secret)} cannot be had on worker {worker}: {error}"
    return failure(Reason.SECRET_UNAVAILABLE, message, hint=error.hint, fault=error.fault)
