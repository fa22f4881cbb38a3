"""TLS of the server: the certificate and its key, looked at before anything is served with them."""

from __future__ import annotations

import ssl
from pathlib import Path

from orchestrator.settings import Settings


class BadCertificate(Exception):
    """The certificate and its key cannot be used."""

    exit_code = 2

    def __init__(self, certificate: Path, key: Path, why: str) -> None:
        super().__init__(
            f"TLS cannot be served with SANDBOX_TLS_CERT={certificate} and SANDBOX_TLS_KEY={key}: {why}. The first is "
            "a PEM file with the certificate and those between it and the authority, the second its key without a "
            "passphrase; this user must be able to read both"
        )


def check(settings: Settings) -> None:
    """Raise `BadCertificate` unless the settings name no certificate, or one that can be served."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None or key is None:
        return
    try:
        for file in (certificate, key):
            file.open("rb").close()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise BadCertificate(certificate, key, str(error)) from error


def _no_passphrase() -> str:
    """Instead of asking for one on the terminal."""
    raise ValueError("the key has a passphrase")
