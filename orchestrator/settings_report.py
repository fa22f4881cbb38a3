"""The settings in force as they may be shown: without passwords and other secrets."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from orchestrator.settings import Settings

HIDDEN = "…"
# A password may hold `/` and `@` where nobody encoded it: everything up to the last `@` is hidden.
_USER_INFO = re.compile(r"(://[^/@:]*):.*@")
_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:password|passwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


def report(settings: Settings) -> dict[str, Any]:
    """Every setting by name, as JSON can hold it; profiles by name only."""
    shown = {one.name: _plain(getattr(settings, one.name)) for one in fields(settings)}
    shown["profiles"] = sorted(settings.profiles)
    return shown


def without_secrets(value: Any) -> Any:
    """The value; a URL without its password and without parameters that are secret by their name."""
    if not isinstance(value, str) or "://" not in value:
        return value
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1:{HIDDEN}@", value))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [without_secrets(one) for one in value]
    return str(value) if isinstance(value, Path) else without_secrets(value)
