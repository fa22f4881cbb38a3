"""What the demos share: the product for the length of a demo, its command line, and what it gives back.

Needs only the standard library and an installed checkout (`.ci/install`). All that is written lies in `.demo/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA_DIR = ROOT / ".demo"
UP_LOG = DATA_DIR / "up.log"
SANDBOX = ROOT / ".venv" / "bin" / "sandbox"
START_SECONDS = 60
STOP_SECONDS = 60


class DemoFailed(Exception):
    """A step of the demo failed; the message says what, why, and what to do."""


def run_demo(demo: Callable[[], None]) -> int:
    """Run it. Return 0, or 1 after saying on stderr what failed."""
    try:
        _check_checkout()
        demo()
    except DemoFailed as failure:
        print(f"\ndemo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(
        "\nEverything that was started has ended. To look around on your own: .venv/bin/sandbox up, "
        "and open the page whose address it prints"
    )
    return 0


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _check_checkout() -> None:
    if not SANDBOX.exists():
        raise DemoFailed(f"{SANDBOX} is missing: this checkout is not installed; run .ci/install")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        raise DemoFailed(
            f"{ROOT} has no commit that could be cloned ({head.stderr.strip()}); "
            "run the demo in a git clone of the project with at least one commit"
        )


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def _environment(**more: str) -> dict[str, str]:
    """Return this environment without the caller's settings, which are not meant for the demo."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")} | more


@contextmanager
def running_product(**settings: str) -> Iterator[str]:
    """Run `sandbox up` for the duration of the block; give its address once it is ready.

    Afterwards it is stopped as Ctrl-C does, and checked that it ended.
    """
    port, stream_port = free_ports()
    command: list[str | Path] = [
        SANDBOX,
        "up",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--stream-port",
        str(stream_port),
    ]
    command += ["--data-dir", DATA_DIR, "--concurrency", "2"]
    DATA_DIR.mkdir(exist_ok=True)
    say(f"sandbox up, on port {port}; its log: {UP_LOG}")
    with UP_LOG.open("wb") as log:
        # A session of its own: Ctrl-C in the terminal reaches the demo alone, which then stops `up` once.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(**settings),
            start_new_session=True,
        )
    try:
        server = f"http://127.0.0.1:{port}"
        _wait_until_ready(server, process)
        yield server
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise DemoFailed(f"`sandbox up` ended by itself with exit code {process.returncode}{_log_end()}")
    say("stopping")
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise DemoFailed(
            f"`sandbox up` did not end within {STOP_SECONDS} s of SIGINT and was killed{_log_end()}"
        ) from None
    if process.returncode not in {0, 130}:
        raise DemoFailed(f"`sandbox up` ended with exit code {process.returncode} after SIGINT{_log_end()}")


def _log_end() -> str:
    lines = UP_LOG.read_text(errors="replace").splitlines()[-15:]
    return f"; see {UP_LOG}, and run `.venv/bin/sandbox doctor`:\n" + "\n".join(f"    {line}" for line in lines)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 – always our own http://127.0.0.1
        return json.load(answer)


def _wait_until_ready(server: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    reason = "no answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            get(f"{server}/api/v1/health/ready")
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace").strip()
        except OSError as error:
            reason = str(error)
        else:
            return
        time.sleep(0.1)
    raise DemoFailed(f"{server} was not ready within {START_SECONDS} s ({reason}){_log_end()}")


def sandbox(server: str, *arguments: str | Path) -> int:
    """Run the command line against `server`, its output on this terminal; return its exit code."""
    return subprocess.run([SANDBOX, *arguments], env=_environment(SANDBOX_SERVER=server), check=False).returncode


def run_task(server: str, task_id: str, manifest: Path, *changes: str) -> None:
    """Submit a manifest of `examples/` with `changes` (`path=value`), and follow its log to the end."""
    given = [word for change in (*changes, f"metadata.id={task_id}") for word in ("--set", change)]
    code = sandbox(server, "task", "submit", manifest, "--follow", *given)
    if code != 0:
        sandbox(server, "task", "status", task_id)
        raise DemoFailed(
            f"the task {task_id} ended with exit code {code}; "
            f"the lines above say why, and the log of the product is in {UP_LOG}"
        )


def fetch(server: str, task_id: str) -> list[Path]:
    """Download the artifacts, compare each with the checksum the server recorded, and return their paths."""
    target = DATA_DIR / "artifacts" / task_id
    target.mkdir(parents=True)
    say(f"sandbox task download {task_id} --all")
    code = sandbox(server, "task", "download", task_id, "--all", "-o", target)
    if code != 0:
        raise DemoFailed(f"the artifacts of {task_id} were not downloaded (exit code {code}); see {UP_LOG}")
    listing = get(f"{server}/api/v1/tasks/{task_id}/artifacts")["artifacts"]
    paths = []
    for artifact in listing:
        path = target / artifact["path"]
        found = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else "no file"
        if found != artifact["checksum"]:
            raise DemoFailed(
                f"{path} of task {task_id} is not what the server recorded: {found} instead of "
                f"{artifact['checksum']}; check the disk, then run the demo again"
            )
        paths.append(path)
    say("artifacts, checksums verified")
    for path in paths:
        print(f"{path.stat().st_size:>10} bytes  {path}")
    return paths
