"""An S3-compatible server of the test's own: moto, as a process."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Self

from tests.conftest import missing
from tests.servers.process import ServerProcess, answers, free_port

SECRET = "tests-own-secret-key"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tests-own-key-id",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
}
"""What boto3 reads, besides the endpoint: nothing of the person who runs the tests."""


class S3Server:
    """moto on a loopback port, log in `directory`. It forgets everything when it ends."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._process = ServerProcess("moto", directory / "moto.log")
        self._client: Any = None

    @property
    def endpoint(self) -> str:
        """The URL for `AWS_ENDPOINT_URL_S3`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": self.endpoint}

    def client(self) -> Any:
        """A client of the test's own, to look behind the product's back."""
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _make_client(self) -> Any:
        import boto3

        return boto3.session.Session(
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SECRET,
            region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
        ).client("s3", endpoint_url=self.endpoint)

    def start(self) -> None:
        """Start it; returns when it answers. Skips the test (fails under CI) where moto is not installed."""
        if importlib.util.find_spec("moto") is None:
            missing("moto", "pip install 'sandbox-orchestrator[dev]', or run .ci/install")
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        question = b"GET /moto-api/ HTTP/1.0\r\n\r\n"
        self._process.start(argv, os.environ, lambda: answers(self.port, question, b"HTTP/1"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
