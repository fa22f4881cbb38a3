"""The manifests of the quick reference run as they are; only their repository is another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from tests.e2e.agents.agent_tasks import artifact, artifact_paths, events
from tests.e2e.agents.model import Model
from tests.e2e.submitting import Json, ended, submit
from tests.integration.sandbox.repositories import git
from tests.model_api.scenarios import answer, tool

pytestmark = pytest.mark.docker

MANIFESTS = Path(__file__).parents[3] / "examples" / "quick-reference"
REPORT = "/workspace/security-report.md"


Run = Callable[[str], tuple[str, Json]]


@pytest.fixture
def run(api: httpx.Client, model: Model, repository: Path) -> Run:
    """Return a function that runs a manifest to its end, which must be a good one."""
    git(repository, "branch", "production")
    model.plays_unasked(
        answer("I look.", tool("Write", file_path=REPORT, content="# Nothing found\n")), answer("This is all.")
    )

    def to_its_end(name: str) -> tuple[str, Json]:
        manifest = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
        manifest["repository"]["url"] = repository.as_uri()
        task = submit(api, manifest)
        found = ended(api, task)
        assert found["state"] == "completed", found["outcome"]
        assert artifact(api, task, f"{task}.result.md").decode().strip() == "This is all."
        assert "security-report.md" in artifact(api, task, f"{task}.patch").decode()
        return task, found

    return to_its_end


def test_the_minimal_manifest(run: Run) -> None:
    run("minimal")


def test_the_bug_fix_shows_that_its_server_could_not_be_fetched_under_its_own_allow_list(
    api: httpx.Client, run: Run, secret: str
) -> None:
    task, found = run("bug-fix")
    [told] = events(api, task, "mcp_failed")
    assert told["server"] == "github"
    assert "MCP server github is not there" in found["outcome"]["message"]
    assert secret not in api.get(f"/tasks/{task}/logs").text


def test_the_security_audit_has_its_tools_its_branch_and_its_report(api: httpx.Client, model: Model, run: Run) -> None:
    before = len(model.requests)
    task, _ = run("security-audit")
    assert set(model.requests[before].tools) == {"Read", "Bash", "Grep", "Write"}
    assert artifact(api, task, "security-report.md") == b"# Nothing found\n"
    assert artifact_paths(api, task) == {
        "security-report.md",
        *(f"{task}.{end}" for end in ("patch", "result.md", "claude-stream.jsonl")),
    }


def test_the_large_task_runs_on_a_worker_that_may_hold_it(run: Run) -> None:
    _, found = run("large-vm")
    assert found["definition"]["vm"]["cpus"] == 16
    assert found["applied"]["cpus"]
