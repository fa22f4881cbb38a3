"""Clone and diff in helper sandboxes: what users ask for, what goes wrong, and what hostile repositories try."""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.manifest import Repository
from orchestrator.models import Claim
from orchestrator.outcomes import Fault, Reason
from tests.integration.sandbox import repositories
from tests.integration.sandbox.conftest import SpecOf
from tests.integration.sandbox.repositories import commit, head, make_repository, write
from workers import git as workers_git
from workers.git import CloneFailed, GitSandbox, PatchFailed, clone, make_patch
from workers.helper import HelperStopped
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.port import Mount, SandboxSpec
from workers.workspace import AttemptDirectory

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@dataclass
class Cloning:
    """A git sandbox over one attempt's directory. `changes` alter the spec of the helpers."""

    backend: DockerBackend
    spec_of: SpecOf
    directory: AttemptDirectory
    said: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 120
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.directory.workspace

    def sandbox(self) -> GitSandbox:
        def spec_with(mounts: tuple[Mount, ...]) -> SandboxSpec:
            return self.spec_of(mounts=mounts, **self.changes)

        return GitSandbox(self.backend, spec_with, lambda: self.interrupted, time.monotonic() + self.seconds)

    def clone(self, url: str | Path, **wanted: object) -> str:
        asked = {"branch": None, "commit": None, "depth": None, "submodules": False, "subpath": None, **wanted}
        where = f"file://{url}" if isinstance(url, Path) else url
        return clone(self.sandbox(), Repository(url=where, **asked), self.directory, self.said.append)  # type: ignore[arg-type]

    def patch(self, since: str) -> bytes | None:
        found = make_patch(self.sandbox(), self.directory, since)
        return None if found is None else found.read_bytes()


@pytest.fixture
def cloning(backend: DockerBackend, spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloning:
    monkeypatch.setattr(workers_git, "BACKOFF_SECONDS", 0.0)
    directory = AttemptDirectory.of(tmp_path / "work", Claim("t", 1, 1))
    directory.create()
    return Cloning(backend, spec_of, directory)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "upstream")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What an attack that runs on the host would make."""
    return tmp_path / "pwned"


def test_the_remote_s_own_branch_is_cloned_with_its_history(cloning: Cloning, upstream: Path) -> None:
    assert cloning.clone(upstream) == head(upstream)
    assert cloning.said == [f"cloning file://{upstream}", f"checked out {head(upstream)}"]
    assert (cloning.workspace / "README.md").read_text() == "two\n"
    assert repositories.git(cloning.workspace, "rev-list", "--count", "HEAD") == "2"
    assert repositories.git(cloning.workspace, "status", "--porcelain") == ""
    assert repositories.git(cloning.workspace, "remote", "get-url", "origin") == f"file://{upstream}"
    assert not (cloning.workspace / "side.txt").exists()


@pytest.mark.parametrize(
    ("wanted", "ref"),
    [
        ({"branch": "side/way"}, "side/way"),
        ({"branch": "v1"}, "v1"),
        ({"branch": "main", "commit": "v1"}, "v1"),
        ({"commit": "side/way"}, "side/way"),
        ({"commit": "v1", "depth": 1}, "v1"),
        ({"branch": "main", "depth": 1}, "main"),
        ({"branch": "main", "commit": "v1", "depth": 1}, "v1"),
    ],
)
def test_a_branch_a_tag_a_commit_and_a_depth_are_what_is_checked_out(
    cloning: Cloning, upstream: Path, wanted: dict[str, object], ref: str
) -> None:
    if "commit" in wanted:
        wanted = {**wanted, "commit": head(upstream, str(wanted["commit"]))}
    assert cloning.clone(upstream, **wanted) == head(upstream, ref)
    assert head(cloning.workspace) == head(upstream, ref)
    count = repositories.git(cloning.workspace, "rev-list", "--count", "HEAD")
    assert count == (
        "1" if "depth" in wanted or ref == "v1" else repositories.git(upstream, "rev-list", "--count", ref)
    )


def test_a_shortened_commit_is_enough_where_history_is_whole(cloning: Cloning, upstream: Path) -> None:
    assert cloning.clone(upstream, commit=head(upstream, "v1")[:7]) == head(upstream, "v1")


def test_a_subpath_is_looked_for(cloning: Cloning, upstream: Path) -> None:
    assert cloning.clone(upstream, subpath="src")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"branch": "no-such-branch"}, "Remote branch no-such-branch not found in upstream origin"),
        ({"commit": "f" * 40}, f"commit {'f' * 40} is not in what was cloned"),
        ({"commit": "f" * 40, "depth": 1}, "not our ref"),
        ({"commit": "fffffff", "depth": 1}, "write all its digits, or leave out depth"),
        ({"branch": "main", "commit": "side/way"}, "is not in what was cloned"),
        ({"subpath": "no/such"}, "there is no directory no/such in the repository"),
        ({"subpath": "README.md"}, "there is no directory README.md in the repository"),
        ({"subpath": "../etc"}, "../etc leads out of the repository"),
    ],
)
def test_what_is_not_in_the_repository_is_the_user_s_fault_in_git_s_words(
    cloning: Cloning, upstream: Path, wanted: dict[str, object], words: str
) -> None:
    if wanted.get("commit") == "side/way":
        wanted = {**wanted, "commit": head(upstream, "side/way")}
    with pytest.raises(CloneFailed) as failed:
        cloning.clone(upstream, **wanted)
    outcome = failed.value.outcome
    assert (outcome.reason, outcome.fault) == (Reason.CLONE_FAILED, Fault.USER)
    assert words in outcome.message
    assert f"file://{upstream} could not be checked out: " in outcome.message
    assert outcome.hint
    assert len(cloning.said) == 1


def test_a_link_in_the_repository_does_not_lead_the_working_directory_out(cloning: Cloning, upstream: Path) -> None:
    (upstream / "link").symlink_to("/etc")
    commit(upstream, {})
    with pytest.raises(CloneFailed, match="link leads out of the repository"):
        cloning.clone(upstream, subpath="link")


def test_a_directory_that_is_no_repository_is_told_at_once_by_its_own_name(cloning: Cloning, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CloneFailed, match="does not appear to be a git repository") as failed:
        cloning.clone(tmp_path / "empty")
    assert failed.value.outcome.fault is Fault.USER
    assert len(cloning.said) == 1


def test_a_repository_without_commits_is_told_as_such(cloning: Cloning, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    repositories.git(tmp_path / "bare", "init", "--quiet", "--bare")
    with pytest.raises(CloneFailed, match="the repository is empty, or its HEAD names no branch") as failed:
        cloning.clone(tmp_path / "bare")
    assert failed.value.outcome.fault is Fault.USER


def test_a_repository_that_the_sandbox_s_user_cannot_read_is_refused_with_a_hint(
    cloning: Cloning, upstream: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a worker that is not root reads as its own user")
    upstream.chmod(0o700)
    with pytest.raises(CloneFailed) as failed:
        cloning.clone(upstream)
    assert failed.value.outcome.fault is Fault.USER


def test_a_cancellation_ends_a_clone_and_the_sandbox_is_gone(cloning: Cloning, upstream: Path) -> None:
    cloning.interrupted = True
    with pytest.raises(HelperStopped):
        cloning.clone(upstream)
    assert cloning.backend.find() == []


def test_a_clone_that_is_out_of_time_is_stopped(cloning: Cloning, upstream: Path) -> None:
    cloning.seconds = -1
    with pytest.raises(HelperStopped):
        cloning.clone(upstream)


# What strangers may write. The manifest's rules refuse most of these; a clone must not depend on that.


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch PWNED",
        "-u",
        "ext::sh -c touch% PWNED",
        "fd::17",
        "ssh://-oProxyCommand=touch PWNED/x",
        "git@-oProxyCommand=touch PWNED:x",
        "git://127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "/etc",
        "--config=core.sshCommand=touch PWNED",
        "https",
        "",
    ],
)
def test_a_url_of_another_transport_starts_nothing(cloning: Cloning, canary: Path, url: str) -> None:
    with pytest.raises(CloneFailed) as failed:
        cloning.clone(url.replace("PWNED", str(canary)))
    assert failed.value.outcome.fault is Fault.USER
    assert cloning.said == []
    assert not canary.exists()


@pytest.mark.parametrize(
    "wanted",
    [
        {"branch": "--upload-pack=touch /workspace/pwned"},
        {"branch": "$(touch /workspace/pwned)"},
        {"branch": "`touch /workspace/pwned`"},
        {"branch": "'; touch /workspace/pwned; '"},
        {"branch": "main\ntouch /workspace/pwned"},
        {"commit": "--orphan=zz"},
        {"commit": "--upload-pack=touch /workspace/pwned", "depth": 1},
        {"commit": "$(touch /workspace/pwned)"},
        {"subpath": "-"},
        {"subpath": "$(touch /workspace/pwned)"},
        {"subpath": '"; touch /workspace/pwned; "'},
    ],
)
def test_a_name_that_looks_like_an_option_or_a_command_is_only_a_name(
    cloning: Cloning, upstream: Path, wanted: dict[str, object]
) -> None:
    with pytest.raises(CloneFailed) as failed:
        cloning.clone(upstream, **wanted)
    assert failed.value.outcome.fault is Fault.USER
    assert not (cloning.workspace / "pwned").exists()


def add_submodule(repository: Path, url: str, gitlink: str, more: str = "") -> None:
    """Add a submodule `sub` as a stranger may write it: by hand."""
    write(repository, {".gitmodules": f'[submodule "sub"]\n\tpath = sub\n\turl = {url}\n{more}'})
    repositories.git(repository, "update-index", "--add", "--cacheinfo", f"160000,{gitlink},sub")
    repositories.git(repository, "add", ".gitmodules")
    repositories.git(repository, "commit", "--quiet", "--message=add a submodule")


def hostile(upstream: Path, canary: Path) -> None:
    """Everything in a repository that starts a program somewhere, pointed at the canary."""
    touch = f"touch {canary} /workspace/pwned /git-out/pwned"
    for hook in ("post-checkout", "pre-commit", "post-index-change", "fsmonitor-watchman", "reference-transaction"):
        path = upstream / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{touch}\n")
        path.chmod(0o755)
    for key, value in {
        "core.fsmonitor": touch,
        "core.sshCommand": touch,
        "core.hooksPath": str(upstream / ".git" / "hooks"),
        "core.pager": touch,
        "core.editor": touch,
        "diff.external": touch,
        "diff.evil.textconv": touch,
        "diff.evil.command": touch,
        "filter.evil.smudge": touch,
        "uploadpack.packObjectsHook": touch,
        "alias.clone": f"!{touch}",
        "gpg.program": touch,
    }.items():
        repositories.git(upstream, "config", key, value)
    write(upstream, {".gitattributes": "* diff=evil\n"})


def test_a_hostile_repository_runs_nothing_when_it_is_cloned(cloning: Cloning, upstream: Path, canary: Path) -> None:
    commit(upstream, {".gitattributes": "* filter=evil diff=evil\n"})
    hostile(upstream, canary)
    assert cloning.clone(upstream) == head(upstream)
    assert not canary.exists()
    assert not (cloning.workspace / "pwned").exists()
    assert not any((cloning.workspace / ".git" / "hooks").glob("[!.]*[!e]"))


@pytest.mark.parametrize("url", ["ext::sh -c touch% /workspace/pwned", "file:///etc", "-u./x", "../../../../etc"])
def test_a_hostile_submodule_is_not_fetched_even_when_submodules_are_asked_for(
    cloning: Cloning, upstream: Path, canary: Path, url: str
) -> None:
    add_submodule(upstream, url, head(upstream), "\tupdate = !touch /workspace/pwned\n")
    assert cloning.clone(upstream) == head(upstream)
    cloning.directory.create()
    with pytest.raises(CloneFailed):
        cloning.clone(upstream, submodules=True)
    assert not canary.exists()
    assert not (cloning.workspace / "pwned").exists()


def test_submodules_are_checked_out_only_when_they_are_asked_for(cloning: Cloning, tmp_path: Path) -> None:
    outer = make_repository(tmp_path / "outer")
    inner = make_repository(tmp_path / "inner")
    add_submodule(outer, "./inner.git", head(inner))
    shutil.copytree(inner / ".git", outer / "inner.git")
    cloning.clone(outer)
    assert list((cloning.workspace / "sub").iterdir()) == []
    cloning.directory.create()
    cloning.clone(outer, submodules=True)
    assert (cloning.workspace / "sub" / "README.md").read_text() == "two\n"


@pytest.mark.parametrize("name", [".git", ".GIT", "..", "git~1"])
def test_a_tree_that_would_write_into_git_s_own_directory_is_refused_or_harmless(
    cloning: Cloning, upstream: Path, name: str
) -> None:
    blob = repositories.git(upstream, "hash-object", "-w", "--stdin", stdin=b"#!/bin/sh\ntouch /workspace/pwned\n")
    tree = blob
    for mode, part in (("100755 blob", "post-checkout"), ("040000 tree", "hooks"), ("040000 tree", name)):
        tree = repositories.git(upstream, "mktree", stdin=f"{mode} {tree}\t{part}\n".encode())
    made = repositories.git(upstream, "commit-tree", "-m", "evil", tree)
    repositories.git(upstream, "update-ref", "refs/heads/evil", made)
    with pytest.raises(CloneFailed, match=r"invalid path|could not be cloned"):
        cloning.clone(upstream, branch="evil")
    assert not (cloning.workspace / "pwned").exists()


def test_a_hundred_thousand_branches_are_no_hindrance(cloning: Cloning, upstream: Path) -> None:
    tip = head(upstream)
    lines = "".join(f"{tip} refs/heads/b{number:06}\n" for number in range(100_000))
    (upstream / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")
    assert cloning.clone(upstream, branch="b099999") == tip


# The patch.


@pytest.fixture
def cloned(cloning: Cloning, upstream: Path) -> str:
    return cloning.clone(upstream)


def applied(upstream: Path, patch: bytes, directory: Path) -> dict[str, bytes]:
    """The files of a fresh clone after the patch."""
    repositories.git(upstream, "clone", "--quiet", "--", str(upstream), str(directory))
    repositories.git(directory, "apply", "--whitespace=nowarn", "-", stdin=patch)
    found = (
        path for path in directory.rglob("*") if path.is_file() and ".git" not in path.relative_to(directory).parts
    )
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def test_without_a_change_there_is_no_patch(cloning: Cloning, cloned: str) -> None:
    assert cloning.patch(cloned) is None


def test_a_patch_holds_what_was_changed_added_deleted_and_committed_and_not_what_is_ignored(
    cloning: Cloning, upstream: Path, cloned: str, tmp_path: Path
) -> None:
    workspace = cloning.workspace
    commit(workspace, {"committed.txt": "by the task\n"}, "the task's own")
    (workspace / "src" / "app.py").unlink()
    files = {
        "README.md": "three",
        "new dir/ü.txt": "new\n",
        "bin": bytes(range(256)) * 9,
        "skip.log": "x",
        "crlf": "a\r\n",
    }
    write(workspace, files)
    (workspace / "run.sh").write_text("#!/bin/sh\n")
    (workspace / "run.sh").chmod(0o755)
    (workspace / "link").symlink_to("README.md")
    before = sorted(path.name for path in (workspace / ".git").iterdir())
    patch = cloning.patch(cloned)
    assert patch is not None
    found = applied(upstream, patch, tmp_path / "fresh")
    expected: dict[str, bytes] = {
        name: data.encode() if isinstance(data, str) else data for name, data in files.items() if name != "skip.log"
    }
    expected |= {
        "committed.txt": b"by the task\n",
        ".gitignore": b"*.log\n",
        "run.sh": b"#!/bin/sh\n",
        "link": b"three",
    }
    assert found == expected
    assert (tmp_path / "fresh" / "link").is_symlink()
    assert (tmp_path / "fresh" / "run.sh").stat().st_mode & stat.S_IXUSR
    assert sorted(path.name for path in (workspace / ".git").iterdir()) == before
    assert sorted(path.name for path in cloning.directory.git_out.iterdir()) == ["patch"]


def test_a_patch_made_again_is_the_same(cloning: Cloning, cloned: str) -> None:
    write(cloning.workspace, {"a": "1"})
    assert cloning.patch(cloned) == cloning.patch(cloned)


def test_what_the_task_configured_changes_neither_the_patch_nor_anything_else(
    cloning: Cloning, upstream: Path, cloned: str, canary: Path, tmp_path: Path
) -> None:
    for key, value in {
        "color.ui": "always", "color.diff": "always", "diff.noprefix": "true", "diff.mnemonicPrefix": "true",
        "diff.context": "0", "diff.srcPrefix": "x/", "core.fileMode": "false", "core.splitIndex": "true",
        "core.worktree": "/tmp", "core.quotePath": "false", "diff.renames": "copies", "diff.algorithm": "patience",
    }.items():  # fmt: skip
        repositories.git(cloning.workspace, "config", key, value)
    hostile(cloning.workspace, canary)
    write(cloning.workspace, {"README.md": "three\n", ".gitattributes": "* diff=evil\n"})
    patch = cloning.patch(cloned)
    assert patch is not None
    found = applied(upstream, patch, tmp_path / "fresh")
    assert found["README.md"] == b"three\n"
    assert not canary.exists()
    assert not (cloning.workspace / "pwned").exists()
    assert not (cloning.directory.git_out / "pwned").exists()


def test_a_filter_that_puts_a_link_where_the_patch_is_gets_no_foreign_file(cloning: Cloning, cloned: str) -> None:
    # Git runs the filter that the task configured, in the helper, beside the file that the host reads afterwards.
    wait = "while ! [ -e /git-out/patch ]; do :; done; ln -sfn /etc/passwd /git-out/patch"
    (cloning.workspace / "evil.sh").write_text(f"cat; ({wait}) >/dev/null 2>&1 </dev/null &")
    repositories.git(cloning.workspace, "config", "filter.evil.clean", "sh /workspace/evil.sh")
    large = os.urandom(1 << 20) * 8  # git is at work for a while
    write(cloning.workspace, {".gitattributes": "a filter=evil\n", "a": "x", "b": large})
    with pytest.raises(PatchFailed, match="a filter of the repository replaced it"):
        cloning.patch(cloned)
    assert (cloning.directory.git_out / "patch").is_symlink()


def test_a_destroyed_repository_gives_no_patch_but_words(cloning: Cloning, cloned: str) -> None:
    shutil.rmtree(cloning.workspace / ".git")
    with pytest.raises(PatchFailed, match="no patch could be made: fatal: not a git repository"):
        cloning.patch(cloned)
    (cloning.workspace / ".git").symlink_to("/etc")
    with pytest.raises(PatchFailed, match="no patch could be made: fatal: not a git repository"):
        cloning.patch(cloned)


def test_a_repository_without_the_first_commit_gives_no_patch_but_words(cloning: Cloning, cloned: str) -> None:
    shutil.rmtree(cloning.workspace / ".git")
    repositories.git(cloning.workspace, "init", "--quiet")
    commit(cloning.workspace, {})
    with pytest.raises(PatchFailed, match="no patch could be made: fatal:"):
        cloning.patch(cloned)


def test_what_git_cannot_read_is_named_and_does_not_cost_the_rest(
    cloning: Cloning, upstream: Path, cloned: str, tmp_path: Path
) -> None:
    write(cloning.workspace, {"a": "kept\n", "closed": "x"})
    (cloning.workspace / "closed").chmod(0)
    (cloning.workspace / "nested").mkdir()
    repositories.git(cloning.workspace / "nested", "init", "--quiet")
    os.mkfifo(cloning.workspace / "pipe")
    patch = cloning.patch(cloned)
    assert patch is not None
    comments = [line for line in patch.decode().splitlines() if line.startswith("# not in this patch: ")]
    assert any("closed" in line for line in comments)
    assert any("nested" in line for line in comments)
    assert applied(upstream, patch, tmp_path / "fresh")["a"] == b"kept\n"


def test_when_nothing_but_the_unreadable_changed_there_are_only_words(cloning: Cloning, cloned: str) -> None:
    write(cloning.workspace, {"closed": "x"})
    (cloning.workspace / "closed").chmod(0)
    with pytest.raises(PatchFailed, match="closed"):
        cloning.patch(cloned)


def test_a_file_that_is_too_large_for_git_fails_the_patch_and_nothing_else(cloning: Cloning, cloned: str) -> None:
    (cloning.workspace / "huge").write_bytes(os.urandom(1 << 20) * 64)
    cloning.changes = {"memory_bytes": 32 << 20}
    with pytest.raises(PatchFailed, match="no patch could be made: "):
        cloning.patch(cloned)
    assert cloning.backend.find() == []


def test_the_patch_helper_cannot_write_the_workspace(cloning: Cloning, cloned: str) -> None:
    write(cloning.workspace, {"a": "1"})
    repositories.git(cloning.workspace, "config", "filter.evil.clean", "touch /workspace/pwned; cat")
    write(cloning.workspace, {".gitattributes": "a filter=evil\n"})
    assert cloning.patch(cloned)
    assert not (cloning.workspace / "pwned").exists()
