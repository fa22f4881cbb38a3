"""What is said and handed on about a repository, and what a clone decides by itself (no engine here)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.manifest import Repository
from orchestrator.models import Claim
from orchestrator.outcomes import Fault, Reason
from workers import git
from workers.egress import EgressReport
from workers.git import CloneFailed, Credentials, GitSandbox, PatchFailed, clone, last_words, make_patch
from workers.helper import HelperResult
from workers.sandbox.port import Mount
from workers.workspace import AttemptDirectory

COMMIT = "0123456789012345678901234567890123456789"


def result(stderr: str, code: int = 128, egress: EgressReport | None = None) -> HelperResult:
    return HelperResult(code, "", stderr, egress)


def test_git_s_own_words_are_its_errors_not_its_progress() -> None:
    stderr = "Cloning into '/workspace'...\nremote: not found\n\nfatal: repository 'x' not found\nhint: look\n"
    assert last_words(result(stderr)) == "remote: not found; fatal: repository 'x' not found"


def test_ssh_s_own_line_stands_before_git_s() -> None:
    stderr = "Cloning into '/workspace'...\n@@@ WARNING @@@\nHost key verification failed.\r\nfatal: Could not read\n"
    assert last_words(result(stderr)) == "Host key verification failed.; fatal: Could not read"
    assert last_words(result("fatal: a\nhint\nfatal: b\n")) == "fatal: a; fatal: b"


def test_without_an_error_the_last_lines_speak_and_without_any_the_exit_code() -> None:
    assert last_words(result("one\ntwo\nthree\nfour\n")) == "two; three; four"
    assert last_words(result("\n", 137)) == "git ended with exit code 137"


def test_what_the_proxy_refused_stands_beside_git_s_words() -> None:
    egress = EgressReport(["a leads to 10.0.0.1"], ["b cannot be reached"])
    words = last_words(result("fatal: CONNECT tunnel failed\n", egress=egress))
    assert words == "fatal: CONNECT tunnel failed; a leads to 10.0.0.1; b cannot be reached"


@dataclass
class ScriptedGit:
    """Stands for the helper sandbox: answers each run with the next result and keeps what it was given."""

    answers: list[HelperResult]
    runs: list[tuple[dict[str, str], tuple[Mount, ...]]] = field(default_factory=list)

    files: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, script: str, variables: dict[str, str], mounts: tuple[Mount, ...], cwd: str, files: Mapping[str, str]
    ) -> HelperResult:
        assert script == git.CLONE
        assert cwd == "/"
        self.runs.append((variables, mounts))
        self.files = files
        return self.answers.pop(0)

    deadline = float("inf")

    @staticmethod
    def interrupted() -> bool:
        return False


NONE = Credentials()
CHECKED_OUT = HelperResult(0, f"something\n{COMMIT}\n", "")


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    made = AttemptDirectory.of(tmp_path / "work", Claim("t", 1, 1))
    made.create()
    return made


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "BACKOFF_SECONDS", 0.0)


def repository(url: str, **given: object) -> Repository:
    values = {"branch": None, "commit": None, "depth": None, "submodules": False, "subpath": None, **given}
    return Repository(url=url, **values)  # type: ignore[arg-type]


Clone = Callable[..., str]


@pytest.fixture
def cloned(directory: AttemptDirectory, said: list[str]) -> Clone:
    def run(scripted: ScriptedGit, wanted: Repository, credentials: Credentials = NONE) -> str:
        return clone(scripted, wanted, directory, said.append, credentials)  # type: ignore[arg-type]

    return run


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_clone_returns_the_commit_and_says_what_it_does(cloned: Clone, said: list[str]) -> None:
    scripted = ScriptedGit([CHECKED_OUT])
    assert cloned(scripted, repository("https://u:secret@git.example/a")) == COMMIT
    assert said == ["cloning https://git.example/a", f"checked out {COMMIT}"]
    [(variables, mounts)] = scripted.runs
    assert [mount.target for mount in mounts] == ["/workspace"]
    assert variables["GIT_ALLOW_PROTOCOL"] == "https:http"
    assert "secret" not in variables["SOURCE"] + variables["URL"]


def test_a_local_repository_is_mounted_read_only_at_its_real_path_and_git_may_use_nothing_else(
    cloned: Clone, tmp_path: Path
) -> None:
    (tmp_path / "real #1 ?x").mkdir()
    (tmp_path / "link").symlink_to("real #1 ?x")
    for url in (f"file://{tmp_path}/link", f"file://{tmp_path}/real #1 ?x"):
        scripted = ScriptedGit([CHECKED_OUT])
        cloned(scripted, repository(url))
        [(variables, mounts)] = scripted.runs
        assert mounts[1] == Mount(tmp_path / "real #1 ?x", "/repository", read_only=True)
        assert (variables["SOURCE"], variables["PROXY"]) == ("file:///repository", "")
        assert variables["GIT_ALLOW_PROTOCOL"] == "file"


def test_a_question_mark_in_a_local_path_does_not_cut_it_to_another_repository(cloned: Clone, tmp_path: Path) -> None:
    # The operator's rule was checked with the whole path; what is cloned must be the same one.
    (tmp_path / "private").mkdir()
    with pytest.raises(CloneFailed, match="there is no directory"):
        cloned(ScriptedGit([]), repository(f"file://{tmp_path}/private?/../allowed"))


def test_a_local_repository_that_is_not_there_is_the_user_s_fault(cloned: Clone, tmp_path: Path) -> None:
    with pytest.raises(CloneFailed) as failed:
        cloned(ScriptedGit([]), repository(f"file://{tmp_path}/missing"))
    outcome = failed.value.outcome
    assert (outcome.reason, outcome.fault) == (Reason.CLONE_FAILED, Fault.USER)
    assert f"there is no directory {tmp_path}/missing on this worker" in outcome.message


@pytest.mark.parametrize("url", ["ssh://git:secret@git.example/a", "git@git.example:a"])
def test_ssh_without_a_key_is_refused_with_what_to_do(cloned: Clone, url: str) -> None:
    with pytest.raises(CloneFailed, match=r"name its entry of secrets in repository\.credential") as failed:
        cloned(ScriptedGit([]), repository(url))
    assert failed.value.outcome.fault is Fault.USER
    assert "secret@" not in failed.value.outcome.message


def test_a_key_and_the_known_hosts_go_through_the_gate_and_nowhere_else(cloned: Clone, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("git.example ssh-ed25519 AAAA\n")
    scripted = ScriptedGit([CHECKED_OUT])
    wanted = repository("ssh://git@Git.example:2222/a", credential="KEY")
    cloned(scripted, wanted, Credentials("-----BEGIN X\nkey\n-----END X", tmp_path / "hosts"))
    [(variables, mounts)] = scripted.runs
    assert scripted.files["/tmp/ssh-key"] == "-----BEGIN X\nkey\n-----END X\n"
    assert scripted.files["/tmp/known-hosts"] == "git.example ssh-ed25519 AAAA\n"
    assert (variables["SSH_HOST"], variables["GIT_ALLOW_PROTOCOL"]) == ("[git.example]:2222", "ssh")
    assert not [one for one in variables.values() if "BEGIN" in one]
    assert [mount.target for mount in mounts] == ["/workspace"]


def test_an_ssh_host_whose_key_nobody_added_is_told_with_how_to_add_it(cloned: Clone, tmp_path: Path) -> None:
    scripted = ScriptedGit([result("", git.NO_HOST_KEY)])
    credentials = Credentials("-----BEGIN X\n", tmp_path / "absent")
    with pytest.raises(CloneFailed, match=r"the key of git\.example is not among the known hosts") as failed:
        cloned(scripted, repository("git@git.example:a", credential="KEY"), credentials)
    assert "ssh-keyscan -p 22 git.example" in (failed.value.outcome.hint or "")
    assert scripted.files["/tmp/known-hosts"] == ""


def test_known_hosts_that_are_too_large_for_a_sandbox_are_refused(cloned: Clone, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"#" * (git.MAX_KNOWN_HOSTS_BYTES + 1))
    credentials = Credentials("-----BEGIN X\n", tmp_path / "hosts")
    with pytest.raises(CloneFailed, match="more than 1,048,576 bytes"):
        cloned(ScriptedGit([]), repository("git@git.example:a", credential="KEY"), credentials)


def test_a_failed_clone_is_tried_three_times_in_a_fresh_workspace(
    cloned: Clone, said: list[str], directory: AttemptDirectory
) -> None:
    (directory.workspace / "half").write_text("x")
    with pytest.raises(CloneFailed) as failed:
        cloned(ScriptedGit([result("fatal: early EOF\n", 21)] * 3), repository("https://u:secret@git.example/a"))
    outcome = failed.value.outcome
    assert (outcome.reason, outcome.fault) == (Reason.CLONE_FAILED, Fault.PLATFORM)
    assert outcome.message == "https://git.example/a could not be cloned in 3 tries: fatal: early EOF"
    assert said[1:] == [f"clone failed (fatal: early EOF); try {number} of 3 follows" for number in (2, 3)]
    assert list(directory.workspace.iterdir()) == []


def test_a_second_try_may_succeed(cloned: Clone) -> None:
    assert cloned(ScriptedGit([result("fatal: early EOF\n", 21), CHECKED_OUT]), repository("https://git.example/a"))


@pytest.mark.parametrize("code", [22, 23])
def test_what_no_second_try_mends_is_the_user_s_fault_at_once(cloned: Clone, code: int) -> None:
    with pytest.raises(CloneFailed) as failed:
        cloned(ScriptedGit([result("fatal: Remote branch x not found\n", code)]), repository("https://git.example/a"))
    assert failed.value.outcome.fault is Fault.USER
    assert "fatal: Remote branch x not found" in failed.value.outcome.message


def test_a_host_that_may_not_be_reached_is_not_tried_again(cloned: Clone) -> None:
    refused = result("fatal: unable to access\n", 21, EgressReport(["git.example leads to 10.0.0.1, …"]))
    with pytest.raises(CloneFailed, match=r"git\.example leads to 10\.0\.0\.1") as failed:
        cloned(ScriptedGit([refused]), repository("https://git.example/a"))
    assert failed.value.outcome.fault is Fault.USER


def test_a_pause_between_tries_ends_when_the_task_is_asked_to_end() -> None:
    asked = GitSandbox(None, None, lambda: True, time.monotonic() + 1e6)  # type: ignore[arg-type]
    git._pause(asked, 1e6)
    over = GitSandbox(None, None, lambda: False, time.monotonic() - 1)  # type: ignore[arg-type]
    git._pause(over, 1e6)


@dataclass
class PatchingGit:
    """Stands for the helper of a patch, in which a filter of the repository has done what it wanted."""

    filtered: Callable[[], object]

    def run(self, *_: object) -> HelperResult:
        self.filtered()
        return HelperResult(0, "", "")


def test_a_patch_that_a_filter_removed_is_a_patch_that_failed(directory: AttemptDirectory) -> None:
    with pytest.raises(PatchFailed, match=r"cannot be read \(No such file or directory\)"):
        make_patch(PatchingGit(lambda: None), directory, COMMIT)  # type: ignore[arg-type]
    link = directory.git_out / "patch"
    with pytest.raises(PatchFailed, match="something else"):
        make_patch(PatchingGit(lambda: link.symlink_to("/etc/passwd")), directory, COMMIT)  # type: ignore[arg-type]
