"""The agents' examples run as a user would submit them: only their repository is another one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from tests.e2e.agents.agent_tasks import artifact, artifact_paths, question_of, sandbox
from tests.e2e.agents.model import ASKS, Model, bash
from tests.e2e.stack import Product
from tests.e2e.submitting import Json, ended, submit
from tests.model_api.scenarios import answer

pytestmark = pytest.mark.docker

EXAMPLES = Path(__file__).parents[3] / "examples" / "agents"


def example(name: str, repository: Path) -> Json:
    manifest: Json = yaml.safe_load((EXAMPLES / name).read_text())
    manifest["repository"]["url"] = repository.as_uri()
    return manifest


def test_fix_tests_leaves_a_patch_and_can_be_gone_on_from(api: httpx.Client, model: Model, repository: Path) -> None:
    model.plays_unasked(answer(bash("python3 src/app.py && echo 'print(2)' > src/app.py")), answer("It was 1."))
    task = submit(api, example("fix-tests.yaml", repository))
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    assert "+print(2)" in artifact(api, task, f"{task}.patch").decode()
    assert found["attempts"][0]["session"]["resumable"]


def test_ask_first_waits_for_an_answer(product: Product, api: httpx.Client, model: Model, repository: Path) -> None:
    model.plays_unasked(ASKS, answer("SQLite it is."))
    task = submit(api, example("ask-first.yaml", repository))
    assert question_of(api, task)["options"] == ["SQLite", "PostgreSQL"]
    sent = sandbox(product, "task", "send", task, "--answer", "SQLite")
    assert sent.returncode == 0, sent.stderr
    found = ended(api, task)
    assert found["state"] == "completed", found["outcome"]
    assert f"{task}.result.md" in artifact_paths(api, task)


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"fix-tests.yaml", "ask-first.yaml"}
