"""What is wrong with an operator's settings for the model API (pure). Its files are read by workers only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

URL = "https://api.anthropic.com"
X_API_KEY, BEARER = "x-api-key", "bearer"
_EXAMPLE = "write it like https://gateway.example/anthropic"


def faults(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield an error for each bad value."""
    if fault := _url_fault(values["model_api_url"]):
        yield f"SANDBOX_MODEL_API_URL {fault}"
    if values["model_api_auth"] not in {X_API_KEY, BEARER}:
        yield (
            f"SANDBOX_MODEL_API_AUTH={values['model_api_auth']!r} is neither {X_API_KEY} (the key in a header of that "
            f"name) nor {BEARER} (in Authorization); correct it or unset it"
        )
    for name in ("model_api_key_file", "model_api_headers_file"):
        if _is_offered_to_tasks(values[name], values["secrets_dir"]):
            yield (
                f"SANDBOX_{name.upper()}={values[name]} lies below SANDBOX_SECRETS_DIR, where every task may read it "
                "as a secret; move it elsewhere"
            )


def _is_offered_to_tasks(file: Path | None, secrets_dir: Path | None) -> bool:
    """By the paths alone; `sandbox doctor` follows links."""
    if file is None or secrets_dir is None:
        return False
    return Path(os.path.normpath(file)).is_relative_to(os.path.normpath(secrets_dir))


def _url_fault(url: str) -> str | None:
    """The messages do not show the URL where it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"cannot be taken apart; {_EXAMPLE}"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"is no http:// or https:// URL; {_EXAMPLE}"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return (
            "holds a user, a query or a fragment; leave that out: credentials go into SANDBOX_MODEL_API_KEY_FILE or "
            "SANDBOX_MODEL_API_HEADERS_FILE"
        )
    if not all("!" <= one <= "~" for one in url):
        return f"holds a space or a character that is not ASCII; encode it, and {_EXAMPLE}"
    if parts.path.endswith("/v1"):
        return f"={url} ends with /v1, which is part of each request already; leave it out"
    return None
