"""Whose certificates are taken from the model API."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

import httpx


class TrustUnavailable(Exception):
    """The operator's file of authorities is of no use; the message names it and says why."""


def trusted(file: Path | None = None) -> ssl.SSLContext:
    """Those of the authorities in `file` (PEM) only; without one, of the public ones. Raises `TrustUnavailable`.

    Shared, as long as the file is the same: reading hundreds of authorities takes tens of milliseconds.
    """
    if file is None:
        return _public()
    try:
        found = file.stat()
        return _private(file, (found.st_mtime_ns, found.st_size, found.st_ino))
    except OSError as error:  # `ssl.SSLError` is one
        why = error.strerror or str(error)
        raise TrustUnavailable(f"the authorities for the model API ({file}) cannot be read: {why}") from None


@lru_cache(maxsize=1)
def _public() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@lru_cache(maxsize=4)
def _private(file: Path, _version: tuple[int, int, int]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file)
