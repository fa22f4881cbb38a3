"""An installed wheel works without the checkout: everything it needs is package data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, assert_clean
from tests.e2e.submitting import ended, run_manifest, submit

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.docker


def test_an_installed_wheel_runs_a_task_without_the_checkout(docker_engine: None, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels, installed = tmp_path / "wheels", tmp_path / "installed"
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), *map(str, wheels.iterdir())], check=True)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = "import api, orchestrator, schemas, workers; print(api.__file__, schemas.__file__, workers.__file__)"
    origin = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert origin.stdout.count(str(installed)) == 3
    data = [
        "workers/images/basic/Dockerfile",
        "workers/images/claude_cli.lock.toml",
        "workers/sandbox/docker/seccomp.json",
        "schemas/task.schema.json",
    ]
    assert [name for name in [*data, "schemas/openapi.yaml"] if not (installed / name).exists()] == []

    product = Product(tmp_path / "data", environment={"PYTHONPATH": str(installed)}, working_directory=tmp_path)
    product.start()
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api:
        assert ended(api, submit(api, run_manifest(command=["true"])))["state"] == "completed"
        assert api.get("/openapi.json").status_code == 200
    product.stop()
    assert_clean(product)
