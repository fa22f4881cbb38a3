"""What the product costs around the coding agent's command line, beside a plain `docker run` of the same image.

A stub stands in for the model, so that both runs do the same: read a prompt, write a file, run a command, answer. What
the command line itself takes is measured in the plain run, by a shell inside the container, and taken off both; the
product's figure thus holds all else: clone, sandbox, relay, log, patch and artifacts.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.manifest import Manifest
from tests.benchmarks.stack import BenchmarkFailed, Stack, StateWatch, running_stack
from tests.benchmarks.table import Row, from_samples
from tests.integration.sandbox.repositories import make_repository
from tests.model_api.scenarios import DEFAULT, answer, tool
from tests.model_api.stub import ModelApi
from workers.agents.claude import ClaudeAgent
from workers.agents.port import Launch, Places

IMAGE = "sandbox/agentic-dev:latest"
USER = "1000:1000"
KEY = "key-of-the-benchmark"
_WARM_UP = 1
WORK = [
    answer("I begin.", tool("Write", file_path="/workspace/made.txt", content="made\n")),
    answer("I go on.", tool("Bash", command="cat made.txt", description="look")),
    answer("Done."),
]


@dataclass
class Samples:
    """Milliseconds of each round."""

    task: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    command_line: list[float] = field(default_factory=list)


def around_the_command_line(quick: bool) -> list[Row]:
    """The same work as a task and as a `docker run`, in turns."""
    rounds, samples = 2 if quick else 10, Samples()
    with ExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        model = undo.enter_context(ModelApi({DEFAULT: WORK}))
        stack = undo.enter_context(_product(model.url, directory))
        watch = undo.enter_context(StateWatch(stack))
        manifest = _manifest(make_repository(directory / "repository"))
        for number in range(_WARM_UP + rounds):
            measured = (_task_ms(stack, watch, manifest), *_plain_ms(manifest, model.url, directory / f"{number}"))
            if number >= _WARM_UP:
                for sample, one in zip((samples.task, samples.plain, samples.command_line), measured, strict=True):
                    sample.append(one)
    return _rows(samples)


def _rows(samples: Samples) -> list[Row]:
    beside = "docker run"
    around_task = [whole - own for whole, own in zip(samples.task, samples.command_line, strict=True)]
    around_plain = [whole - own for whole, own in zip(samples.plain, samples.command_line, strict=True)]
    return [
        from_samples("agent, submitted → completed", samples.task, beside=beside, limits=samples.plain),
        from_samples(
            "… without the command line's own time", around_task, beside=f"{beside}, without it", limits=around_plain
        ),
    ]


@contextmanager
def _product(model_url: str, directory: Path) -> Iterator[Stack]:
    key = directory / "key"
    key.touch(0o600)
    key.write_text(KEY)
    settings = {"SANDBOX_MODEL_API_URL": model_url, "SANDBOX_MODEL_API_KEY_FILE": str(key)}
    with running_stack(IMAGE, settings) as stack:
        yield stack


def _manifest(repository: Path) -> dict[str, Any]:
    return {
        "version": "1",
        "kind": "Task",
        "metadata": {"name": "benchmark"},
        "repository": {"url": repository.as_uri()},
        "claude": {"prompt": "Make it."},
        "vm": {"cpus": 1, "memory": "1G", "disk": "1G"},
    }


def _task_ms(stack: Stack, watch: StateWatch, manifest: dict[str, Any]) -> float:
    began = time.perf_counter()
    return (watch.wait(stack.submit(manifest), "completed") - began) * 1000


def _plain_ms(manifest: dict[str, Any], model_url: str, directory: Path) -> tuple[float, float]:
    """The whole `docker run`, and what of it the command line took; the workspace is made before."""
    workspace = make_repository(directory / "workspace")
    subprocess.run(["chown", "--recursive", USER, str(workspace)], check=True)
    launch = _launch(manifest)
    environment = {**launch.environment, "ANTHROPIC_BASE_URL": model_url, "HOME": "/tmp"}
    script = 'began=$(date +%s%N); "$@" >&2; code=$?; echo $(($(date +%s%N) - began)); exit $code'
    argv = [
        "docker", "run", "--rm", "--interactive", "--network", "host", "--user", USER, "--cpus", "1", "--memory", "1g",
        f"--volume={workspace}:/workspace", *(f"--env={name}={value}" for name, value in environment.items()),
        IMAGE, "sh", "-c", script, "sh", *launch.command,
    ]  # fmt: skip
    began = time.perf_counter()
    ran = subprocess.run(argv, input=launch.files[launch.stdin or ""], capture_output=True, text=True, check=False)
    took_ms = (time.perf_counter() - began) * 1000
    if ran.returncode != 0 or not (workspace / "made.txt").exists():
        raise BenchmarkFailed(f"docker run of the agent ended with {ran.returncode}: {ran.stderr[-500:]}")
    return took_ms, int(ran.stdout) / 1e6


def _launch(manifest: dict[str, Any]) -> Launch:
    """What a worker would start."""
    session_id = "00000000-0000-4000-8000-000000000000"
    return ClaudeAgent().launch(Manifest.from_definition(manifest), Places("", "/private", ""), {}, session_id, None)
