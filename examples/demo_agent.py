"""`make demo-agent`: the real coding agent fixes a bug in a small repository; a script stands in for the model.

It starts a stub of the model API on loopback (no key, no cost), the product, and the quick reference's bug-fix
manifest on a repository of its own; the agent reads and edits a file with its tools, runs the tests, and leaves a
patch. All that is written lies in `.demo/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo_product import DATA_DIR, ROOT, SANDBOX, DemoFailed, fetch, run_demo, run_task, running_product, sandbox, say

MANIFEST = ROOT / "examples" / "quick-reference" / "bug-fix.yaml"
SCRIPT = ROOT / "examples" / "agent-demo" / "model.json"
SOURCE = ROOT / "examples" / "agent-demo" / "repository"
PROFILE = "agentic-dev"


def demo() -> None:
    """The whole of it. Raises `DemoFailed`."""
    say(f"sandbox image build {PROFILE}")
    if subprocess.run([SANDBOX, "image", "build", PROFILE], check=False).returncode != 0:
        raise DemoFailed("the image with the agent could not be built; the lines above say why")
    task_id = f"agent-{time.strftime('%Y%m%d-%H%M%S')}"
    repository = _repository(DATA_DIR / "agent-repository")
    with _model() as url, _product(url) as server:
        say(f"sandbox task submit examples/quick-reference/{MANIFEST.name} --follow   (task: {task_id})")
        run_task(server, task_id, MANIFEST, f"repository.url={repository.as_uri()}")
        say(f"sandbox task status {task_id}")
        sandbox(server, "task", "status", task_id)
        found = {path.name: path for path in fetch(server, task_id)}
    for name in (f"{task_id}.patch", f"{task_id}.result.md"):
        if name not in found:
            raise DemoFailed(f"the task {task_id} left no {name}; read its log with `sandbox task logs {task_id}`")
        print(f"\n-- {name}\n{found[name].read_text()}")


def _repository(at: Path) -> Path:
    """A git repository with a bug, made anew."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(SOURCE, at)
    identity = {"GIT_AUTHOR_NAME": "demo", "GIT_AUTHOR_EMAIL": "demo@example.invalid"}
    identity |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in identity.items()}
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "A calculator with a bug")):
        subprocess.run(["git", "-C", at, *words], check=True, env={**os.environ, **identity})
    return at


@contextmanager
def _model() -> Iterator[str]:
    """The stub of the model API; gives its address."""
    command = [sys.executable, "-m", "tests.model_api.stub", "--script", str(SCRIPT)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as stub:
        try:
            assert stub.stdout is not None
            line = stub.stdout.readline().strip()
            if not line:
                raise DemoFailed("the stub of the model API did not start; the lines above say why")
            say(line)
            yield line.rpartition(" ")[2]
        finally:
            stub.terminate()


@contextmanager
def _product(model_url: str) -> Iterator[str]:
    """The product with this model, a key for it and the secret of the manifest. They open nothing."""
    key = DATA_DIR / "model-key"
    DATA_DIR.mkdir(exist_ok=True)
    key.touch(0o600)
    key.write_text("key-of-the-demo\n")
    settings = {"SANDBOX_MODEL_API_URL": model_url, "SANDBOX_MODEL_API_KEY_FILE": str(key)}
    with running_product(**settings, SANDBOX_SECRET_GITHUB_TOKEN="token-of-the-demo") as server:  # noqa: S106 - none
        yield server


if __name__ == "__main__":
    sys.exit(run_demo(demo))
