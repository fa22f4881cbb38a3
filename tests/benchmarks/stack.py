"""The product under measurement: `sandbox up` as a process, reached by REST alone."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from httpx_sse import connect_sse

from tests.benchmarks.processes import Process, marked_processes
from tests.servers.process import free_port

CONCURRENCY = 4
SECRET_KEY = "BENCHMARK"
"""What the operator of a measured product sets aside for tasks: `source: env`, this key."""
TERMINAL = frozenset({"completed", "failed", "failed_preserved", "cancelled"})
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


class BenchmarkFailed(Exception):
    """The product did not do what was to be timed, so there is no figure."""


def noop_manifest(image: str, **run: Any) -> dict[str, Any]:
    """A task of the smallest size; `run` replaces its command (``true``)."""
    return {
        "version": "1",
        "kind": "Task",
        "metadata": {"name": "benchmark"},
        "run": {"image": image, **(run or {"command": ["true"]})},
        "vm": {"profile": "basic", "cpus": 1, "memory": "256M", "disk": "1G"},
    }


class Stack:
    """A running `sandbox up` with a data directory of its own. `settings` are SANDBOX_… over the defaults."""

    def __init__(self, directory: Path, image: str, settings: Mapping[str, str] | None = None) -> None:
        self.image = image
        self.directory = directory
        self.marker = f"{directory.name}-{os.getpid()}"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self._log = (directory / "up.log").open("wb")
        began = time.perf_counter()
        where = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(directory / "data")]
        self._process = subprocess.Popen(
            [_sandbox_command(), "up", *where, "--concurrency", str(CONCURRENCY)],
            env=_environment(self.marker) | dict(settings or {}),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.client = httpx.Client(base_url=self.url, timeout=60)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - began

    def submit(self, manifest: dict[str, Any], client: httpx.Client | None = None) -> str:
        """Submit a task and answer its id."""
        answer = (client or self.client).post("/tasks", json=manifest)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise BenchmarkFailed(f"POST /tasks answered {answer.status_code}: {answer.text}")
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """The task as the API shows it."""
        answer = self.client.get(f"/tasks/{task_id}")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def processes(self) -> list[Process]:
        """Every process of the product, the keeper in its own session included."""
        return marked_processes(self.marker, str(self.directory))

    def stop(self) -> None:
        """Ctrl-C, which stops the sandboxes too; then kill what is left of the product's own processes."""
        self.client.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"`sandbox up` did not end within {_STOP_SECONDS} s and was killed", file=sys.stderr)
        for process in self.processes():
            process.kill()
        self._process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        why = "no answer"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                why = f"it ended with code {self._process.returncode}"
                break
            try:
                answer = self.client.get("/health/ready")
            except httpx.TransportError as error:
                why = str(error)
            else:
                if answer.status_code == httpx.codes.OK:
                    return
                why = answer.text
            time.sleep(0.02)
        log = (self.directory / "up.log").read_text(errors="replace")[-2000:]
        raise BenchmarkFailed(f"`sandbox up` was not ready within {_START_SECONDS} s ({why}); its log ends:\n{log}")


@contextmanager
def running_stack(image: str, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Start the product in a new directory, with its defaults or `settings`; stop it and remove the directory."""
    with ExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        stack = Stack(directory, image, settings)
        undo.callback(stack.stop)
        yield stack


class StateWatch:
    """Follows a task's events and tells when a state was received: the product's delay, not that of polling."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._client = httpx.Client(base_url=stack.url, timeout=httpx.Timeout(60, read=300))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.close()

    def wait(self, task_id: str, *states: str) -> float:
        """The `time.perf_counter()` of the moment at which the first of `states` was received."""
        seen = []
        parameters = {"follow": "true", "stream": "events", "format": "sse"}
        with connect_sse(self._client, "GET", f"/tasks/{task_id}/logs", params=parameters) as source:
            source.response.raise_for_status()
            for event in source.iter_sse():
                state = json.loads(event.data).get("new_state") if event.event == "event" else None
                if state in states:
                    return time.perf_counter()
                seen.append(state)
        outcome = self._stack.task(task_id).get("outcome")
        raise BenchmarkFailed(f"task {task_id} did not become {' or '.join(states)}; seen: {seen}; outcome: {outcome}")


def _sandbox_command() -> str:
    beside = Path(sys.executable).with_name("sandbox")
    found = str(beside) if beside.exists() else shutil.which("sandbox")
    if found is None:
        raise BenchmarkFailed(
            f"The `sandbox` command was not found beside {sys.executable} or on PATH: the project is not "
            "installed in this environment. Run `pip install -e .` with its interpreter."
        )
    return found


def _environment(marker: str) -> dict[str, str]:
    # The defaults are what is measured, whatever the caller has set for himself.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
    secret = {f"SANDBOX_SECRET_{SECRET_KEY}": secrets.token_hex(32)}
    return {**kept, **secret, "SANDBOX_WORKER_NAME": marker, "BENCHMARK_STACK": marker, "NO_COLOR": "1"}
