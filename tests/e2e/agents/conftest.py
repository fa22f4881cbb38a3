"""A product whose agents talk to a scripted model: the real command line in its sandboxes, no real API anywhere."""

from __future__ import annotations

import secrets
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.agents.model import Model, running_model
from tests.e2e.stack import Product, running_product
from tests.integration.sandbox.repositories import make_repository

GENEROUS = {f"SANDBOX_{what}_OVERCOMMIT": "64" for what in ("CPU", "MEMORY", "DISK")}
"""The quick reference's largest task fits on any machine; what it is given is clamped to the real one."""

IMPATIENT = """\
FROM sandbox/agentic-dev:latest
USER root
RUN mkdir /opt/impatient && cd /opt/impatient \\
    && printf '#!/bin/sh\\nexport CLAUDE_CODE_MAX_RETRIES=1\\nexec /usr/local/bin/claude "$@"\\n' > claude \\
    && chmod 755 claude
ENV PATH=/opt/impatient:$PATH
USER agent
"""
"""The real agent with less patience: it goes on asking an API that fails for three minutes."""


@pytest.fixture(scope="session")
def impatient_image(docker_engine: None) -> Iterator[str]:
    name = f"sandbox-test/impatient:{uuid.uuid4()}"
    build = ["docker", "build", "--quiet", "--network", "none", "--tag", name, "-"]
    subprocess.run(build, input=IMPATIENT.encode(), check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "rmi", name], check=True, capture_output=True)


@pytest.fixture(scope="session")
def model_key() -> str:
    """What the operator gives the worker; whoever finds it in a sandbox has found a leak."""
    return f"sk-canary-{secrets.token_hex(16)}"


@pytest.fixture(scope="session")
def secret() -> str:
    """The value of the secret `MCP_TOKEN`, for tasks that ask for it."""
    return f"mcp-{secrets.token_hex(16)}"


@pytest.fixture(scope="session")
def model(model_key: str) -> Iterator[Model]:
    with running_model(model_key) as running:
        yield running


@pytest.fixture(scope="session")
def product(
    tmp_path_factory: pytest.TempPathFactory, model: Model, model_key: str, secret: str, impatient_image: str
) -> Iterator[Product]:
    directory = tmp_path_factory.mktemp("agents")
    key_file = directory / "model-key"
    key_file.touch(0o600)
    key_file.write_text(f"{model_key}\n")
    profiles = directory / "profiles.yaml"
    profiles.write_text(f"impatient: {{image: '{impatient_image}'}}\n")
    settings = {
        **GENEROUS,
        "SANDBOX_PROFILES": str(profiles),
        "SANDBOX_MODEL_API_URL": model.url,
        "SANDBOX_MODEL_API_KEY_FILE": str(key_file),
        "SANDBOX_SECRET_MCP_TOKEN": secret,
        "SANDBOX_SECRET_GITHUB_TOKEN": secret,
    }
    with running_product(directory / "data", **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_runs_on(api: httpx.Client) -> Iterator[None]:
    """A task that a failed test has left would keep its place from the others."""
    yield
    states = "pending,staging,provisioning,ready,running,completing"
    for one in api.get("/tasks", params={"state": states}).json()["tasks"]:
        api.delete(f"/tasks/{one['id']}", params={"force": "true", "wait": 60})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on `main`; the last one has README.md, src/app.py and .gitignore."""
    return make_repository(tmp_path / "repository")
