"""G1: the strings that make git run a program, as every field of `repository`: refused, or only a name.

The same past the manifest's rules, straight into the helper: tests/integration/sandbox/test_git.py.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.repositories import make_repository
from tests.security.git.cloning import assert_clone_failed, submit_clone

pytestmark = pytest.mark.docker

STRINGS = [
    "--upload-pack=touch {pwned}",
    "-u",
    "-utouch {pwned}",
    "--config=core.sshCommand=touch {pwned}",
    "--template={pwned}",
    "ext::sh -c touch% {pwned}",
    "fd::17",
    "ssh://-oProxyCommand=touch {pwned}/x",
    "git@-oProxyCommand=touch {pwned}:x",
    "--orphan=zz",
    "a;touch${{IFS}}{pwned}",
    "$(touch${{IFS}}{pwned})",
]


@pytest.mark.parametrize("field", ["url", "branch", "commit", "subpath"])
def test_g1_a_string_that_git_or_a_shell_could_run_runs_nowhere(
    api: httpx.Client, allowed: Path, canary: Path, field: str
) -> None:
    upstream = allowed / f"upstream-{field}"
    good = {"url": make_repository(upstream).url}
    submitted = [submit_clone(api, {**good, field: text.format(pwned=canary)}) for text in STRINGS]
    for task_id in submitted:
        if task_id:
            assert_clone_failed(api, task_id)
    assert not canary.exists()
    assert [path.name for path in upstream.iterdir() if path.name not in {".git", "README.md", "src", "docs"}] == []
