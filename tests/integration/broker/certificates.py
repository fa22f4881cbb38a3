"""A certificate authority of the test's own and a certificate for this host."""

import subprocess
from pathlib import Path


class Certificates:
    """`authority`, `certificate` and `key` are PEM files; the certificate is for `host` alone."""

    def __init__(self, directory: Path, host: str) -> None:
        self.authority, authority_key = directory / "ca.pem", directory / "ca.key"
        self.certificate, self.key = directory / "server.pem", directory / "server.key"
        extension = f"subjectAltName={host}"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", authority_key, "-out", self.authority, "-subj", "/CN=test")
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-keyout", self.key, "-out", self.certificate, "-subj", "/CN=server"),
            *("-CA", self.authority, "-CAkey", authority_key, "-addext", extension),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        self.key.chmod(0o644)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def _openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
