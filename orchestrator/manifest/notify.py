"""The rules about who is told of a task: `notify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.documents.parts import Path
from orchestrator.manifest.errors import Finding, field_name, shown
from orchestrator.manifest.policy import ManifestPolicy
from orchestrator.manifest.values import entries, text
from orchestrator.webhooks import receiver, signing


def receivers_can_be_reached(data: dict[str, Any], policy: ManifestPolicy) -> Iterator[Finding]:
    for index, entry in entries(data, "notify"):
        url = text(entry, "url")
        fault = _url_fault(url, policy) if url else None
        if fault:
            path: Path = ("notify", index, "url")
            yield Finding(path, "notify_url", f"{field_name(path)} is {shown(url)}: {fault}")


def signing_secrets_can_be_used(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for index, entry in entries(data, "notify"):
        secret = text(entry, "secret")
        fault = signing.secret_fault(secret) if secret else None
        if fault:
            path: Path = ("notify", index, "secret")
            yield Finding(path, "notify_secret", f"{field_name(path)}: {fault}")


def _url_fault(url: str, policy: ManifestPolicy) -> str | None:
    try:
        found = receiver.receiver_of(url)
    except ValueError as error:
        return str(error)
    return None if policy.webhook_networks is None else receiver.literal_fault(found, policy.webhook_networks)


NOTIFY_RULES = (receivers_can_be_reached, signing_secrets_can_be_used)


def without_secrets(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition as it may be shown: signing secrets are replaced by a word."""
    told = definition.get("notify")
    if not told:
        return definition
    shown = [{**one, "secret": signing.REDACTED} if one.get("secret") else one for one in told]
    return {**definition, "notify": shown}
