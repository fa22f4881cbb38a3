"""G2: a repository that starts programs wherever it can is cloned or refused cleanly; nothing of it runs on the host.

One attack at a time, in a helper of its own: tests/integration/sandbox/test_git.py.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product
from tests.e2e.submitting import ended, raw_output
from tests.integration.sandbox.repositories import commit, git, head, make_repository, write
from tests.integration.sandbox.test_git import add_submodule, hostile
from tests.security.artifacts.leaving import said
from tests.security.git.cloning import assert_clone_failed, submit_clone
from tests.security.git.host_programs import watched

pytestmark = pytest.mark.docker

GIT = {"git", "git-remote-http", "git-upload-pack", "git-http-backen", "ssh", "sh", "bash", "touch"}
"""What a clone, a hook or a filter on the host would be seen as."""
CHANGE = "echo changed >> README.md; echo new > new.txt; ls -A"


def everything_hostile(upstream: Path, canary: Path) -> str:
    """Hooks, configuration, attributes, links out and names that differ in case only; return the tip."""
    (upstream / "etc").symlink_to("/etc")
    (upstream / "passwd").symlink_to("../../../../../../etc/passwd")
    commit(upstream, {".gitattributes": "* filter=evil diff=evil\n", "Makefile": "upper\n", "makefile": "lower\n"})
    hostile(upstream, canary)
    for name in ("objects/info/alternates", "info/attributes"):
        (upstream / ".git" / name).parent.mkdir(exist_ok=True)
    (upstream / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n")
    (upstream / ".git" / "objects" / "info" / "alternates").write_text(f"{canary.parent}/objects\n")
    return head(upstream)


def test_g2_a_repository_full_of_programs_is_cloned_changed_and_made_a_patch_of_and_the_host_runs_none(
    api: httpx.Client, product: Product, allowed: Path, canary: Path
) -> None:
    upstream = make_repository(allowed / "hostile")
    tip = everything_hostile(upstream, canary)
    assert product.process
    with watched(product.process.pid) as programs:
        task_id = submit_clone(api, {"url": upstream.as_uri()}, CHANGE)
        assert task_id
        task = ended(api, task_id, 180)
    assert task["state"] == "completed", task["outcome"]
    assert task["attempts"][0]["commit"] == tip
    files = raw_output(api, task_id).decode().split()
    assert {"Makefile", "makefile", "README.md", "new.txt", "etc"} <= set(files)
    assert "pwned" not in files
    patch = api.get(f"/tasks/{task_id}/artifacts/{task_id}.patch").text
    assert "+changed" in patch
    assert "root:" not in patch
    assert not canary.exists()
    assert programs, "the product's own processes were not seen: nothing was watched"
    assert not programs & GIT, programs


PATCH_EATER = r"""
git config filter.evil.clean '(while :; do rm -f /git-out/patch; done) > /dev/null 2>&1 < /dev/null & cat'
echo '* filter=evil' > .gitattributes
echo changed >> README.md
"""


def test_g2_a_filter_that_removes_the_patch_costs_the_patch_and_nothing_else(api: httpx.Client, allowed: Path) -> None:
    upstream = make_repository(allowed / "eaten")
    task_id = submit_clone(api, {"url": upstream.as_uri()}, PATCH_EATER)
    assert task_id
    task = ended(api, task_id, 180)
    assert task["state"] == "completed", task["outcome"]
    assert api.get(f"/tasks/{task_id}/artifacts").json()["artifacts"] == []
    assert any("no patch could be made" in line for line in said(api, task))


SUBMODULES = {
    "transport": "ext::sh -c touch% {pwned}",
    "file": "file://{outside}",
    "option": "-u./x",
    "upload-pack": "--upload-pack=touch {pwned}",
    "above": "../../outside",
}


def test_g2_a_submodule_that_leads_elsewhere_fails_the_clone_and_nothing_else(
    api: httpx.Client, allowed: Path, tmp_path: Path, canary: Path
) -> None:
    outside = make_repository(tmp_path / "outside")
    submitted = []
    for name, url in SUBMODULES.items():
        upstream = make_repository(allowed / "submodule" / name)
        update = f"\tupdate = !touch {canary} /workspace/pwned\n"
        add_submodule(upstream, url.format(pwned=canary, outside=outside), head(outside), update)
        submitted.append(submit_clone(api, {"url": upstream.as_uri(), "submodules": True}))
    for task_id in submitted:
        assert task_id
        assert_clone_failed(api, task_id)
    assert not canary.exists()


def with_entry(upstream: Path, name: str, mode: str, content: str) -> None:
    """Put onto `main` a commit whose tree has, beside the rest, the entry `name` that no `git add` would make."""
    blob = git(upstream, "hash-object", "-w", "--stdin", stdin=content.encode())
    rest = git(upstream, "ls-tree", "HEAD")
    tree = git(upstream, "mktree", stdin=f"{rest}\n{mode} blob {blob}\t{name}\n".encode())
    made = git(upstream, "commit-tree", "-p", "HEAD", "-m", "entry", tree)
    git(upstream, "update-ref", "refs/heads/main", made)


ENTRIES = {
    "link": (".git", "120000", "/etc"),
    "file": (".git", "100644", "gitdir: /etc\n"),
    "upper-case": (".GIT", "120000", "/etc"),
    "modules": (".gitmodules", "120000", "/etc/passwd"),
}


def test_g2_an_entry_in_the_place_of_git_s_own_files_fails_the_clone_or_is_only_an_entry(
    api: httpx.Client, allowed: Path
) -> None:
    submitted = {}
    for name, entry in ENTRIES.items():
        upstream = make_repository(allowed / "entry" / name)
        with_entry(upstream, *entry)
        section = {"url": upstream.as_uri(), "submodules": True}
        submitted[upstream] = submit_clone(api, section, "git rev-parse HEAD; test -d .git && test ! -L .git")
    for upstream, task_id in submitted.items():
        assert task_id
        task = ended(api, task_id, 180)
        if task["state"] == "completed":
            assert raw_output(api, task_id).decode().split() == [head(upstream)], upstream
        else:
            assert task["outcome"]["reason"] == "clone_failed", (upstream, task["outcome"])


PATHS = {"above": "../outside", "absolute": "/tmp/outside", "hooks": ".git/hooks", "detour": "sub/../../outside"}


def test_g2_a_submodule_s_path_out_of_the_workspace_fails_the_clone_or_is_ignored(
    api: httpx.Client, allowed: Path
) -> None:
    submitted = []
    for name, path in PATHS.items():
        upstream = make_repository(allowed / "path" / name)
        write(upstream, {".gitmodules": f'[submodule "sub"]\n\tpath = {path}\n\turl = ./inner.git\n'})
        git(upstream, "update-index", "--add", "--cacheinfo", f"160000,{head(upstream)},sub")
        git(upstream, "add", ".gitmodules")
        git(upstream, "commit", "--quiet", "--message=path")
        submitted.append(submit_clone(api, {"url": upstream.as_uri(), "submodules": True}, "ls -A .. /tmp"))
    for task_id in submitted:
        assert task_id
        task = ended(api, task_id, 180)
        assert task["state"] == "completed" or task["outcome"]["reason"] == "clone_failed", task["outcome"]
        assert "outside" not in raw_output(api, task_id).decode()


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.security_long)])
def test_g2_many_branches_are_no_hindrance(api: httpx.Client, allowed: Path, count: int) -> None:
    upstream = make_repository(allowed / f"branches-{count}")
    tip = head(upstream)
    lines = "".join(f"{tip} refs/heads/b{number:06}\n" for number in range(count))
    (upstream / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")
    task_id = submit_clone(api, {"url": upstream.as_uri(), "branch": f"b{count - 1:06}"})
    assert task_id
    task = ended(api, task_id, 180)
    assert (task["state"], task["attempts"][0]["commit"]) == ("completed", tip), task["outcome"]
