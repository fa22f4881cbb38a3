"""The gate script, run by real shells on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from workers.sandbox import launcher

SHELLS = [shell for shell in ("/bin/sh", "dash", "bash", "busybox") if shutil.which(shell)]
SHOW = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:], os.getcwd(), sys.stdin.read()]))"
NASTY = (
    "plain",
    "",
    'it\'s "quoted"',
    "two\nlines\n",
    "\n\n",
    "$(touch pwned) `touch pwned` $HOME ${PATH}",
    "back\\slash \\n",
    "a;b|c&d>e<f",
    " leading and trailing ",
    "ü 中 \u202e",
    "-n",
    "*",
    "\t\r",
    "'''",
)


def start(shell: str, home: Path) -> subprocess.Popen[bytes]:
    argv = [shell, "sh"] if shell == "busybox" else [shell]
    return subprocess.Popen(
        [*argv, *launcher.argv()[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        cwd="/",
    )


def through_the_gate(
    shell: str, home: Path, command: Sequence[str], environment: Mapping[str, str], directory: str
) -> tuple[int, bytes, bytes]:
    waiting = start(shell, home)
    out, err = waiting.communicate(launcher.gate_script(command, environment, directory), timeout=30)
    return waiting.returncode, out, err


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_sandbox_s_main_process_is_a_shell_of_the_image() -> None:
    assert launcher.argv()[:2] == ["/bin/sh", "-c"]


def test_the_command_gets_exactly_the_environment_arguments_and_directory(shell: str, tmp_path: Path) -> None:
    given = {f"VALUE_{number}": value for number, value in enumerate(NASTY)}
    directory = tmp_path / "it's a\ndirectory $(touch pwned)"
    directory.mkdir()
    command = [sys.executable, "-c", SHOW, *NASTY]
    code, out, err = through_the_gate(shell, tmp_path, command, given, str(directory))
    assert (code, err) == (0, b"")
    environment, arguments, cwd, stdin = json.loads(out)
    assert {name: environment[name] for name in given} == given
    assert arguments == list(NASTY)
    assert (cwd, stdin) == (str(directory), "")
    assert [path.name for path in directory.iterdir()] == []


def test_nothing_of_the_gate_is_left_in_the_environment(shell: str, tmp_path: Path) -> None:
    code, out, _ = through_the_gate(shell, tmp_path, [sys.executable, "-c", SHOW], {"GIVEN": "1"}, "/")
    assert code == 0
    environment, _, _, _ = json.loads(out)
    # PWD, OLDPWD, SHLVL and _ are the shell's own; LC_CTYPE comes from Python.
    assert set(environment) - {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"} == {"HOME", "PATH", "GIVEN"}


@pytest.mark.parametrize("name", ["script", "gate", "line", "open", "IFS", "ENV", "PS1"])
def test_a_task_may_have_a_variable_of_a_name_that_the_launcher_uses(shell: str, tmp_path: Path, name: str) -> None:
    code, out, _ = through_the_gate(shell, tmp_path, [sys.executable, "-c", SHOW], {name: "mine"}, "/")
    assert code == 0
    assert json.loads(out)[0][name] == "mine"


@pytest.mark.parametrize(
    ("command", "code"), [(["false"], 1), (["sh", "-c", "exit 42"], 42), (["no-such-program"], 127)]
)
def test_the_exit_code_is_the_command_s(shell: str, tmp_path: Path, command: list[str], code: int) -> None:
    assert through_the_gate(shell, tmp_path, command, {}, "/")[0] == code


def test_a_program_that_is_missing_is_named(shell: str, tmp_path: Path) -> None:
    _, out, err = through_the_gate(shell, tmp_path, ["no-such-program", "x"], {}, "/")
    assert (out, b"no-such-program" in err) == (b"", True)


def test_a_directory_that_is_missing_ends_the_sandbox_before_the_command(shell: str, tmp_path: Path) -> None:
    code, out, err = through_the_gate(shell, tmp_path, ["echo", "ran"], {}, str(tmp_path / "missing"))
    assert (code, out) == (launcher.GATE_FAILED, b"")
    assert b"missing" in err


@pytest.mark.parametrize("keep", ["nothing", "the first nonce", "all but the second nonce"])
def test_a_stream_that_ends_at_the_gate_ends_the_sandbox(shell: str, tmp_path: Path, keep: str) -> None:
    whole = launcher.gate_script(["touch", str(tmp_path / "ran")], {"A": "b"}, "/")
    lines = whole.splitlines(keepends=True)
    sent = {"nothing": b"", "the first nonce": lines[0], "all but the second nonce": b"".join(lines[:-1])}[keep]
    waiting = start(shell, tmp_path)
    out, _ = waiting.communicate(sent, timeout=30)
    assert (waiting.returncode, out) == (launcher.GATE_FAILED, b"")
    assert not (tmp_path / "ran").exists()


def test_a_value_that_looks_like_the_end_of_the_script_does_not_open_the_gate_early(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonces = {launcher.gate_script(["true"], {}, "/").split(b"\n")[0] for _ in range(10)}
    assert len(nonces) == 10
    other = nonces.pop().decode()
    given = {"A": f"\n{other}\nexit 3\n"}
    code, out, _ = through_the_gate(shell, tmp_path, [sys.executable, "-c", SHOW], given, "/")
    assert (code, json.loads(out)[0]["A"]) == (0, given["A"])


def test_the_marker_is_the_first_line_of_both_streams_and_the_command_cannot_see_it(shell: str, tmp_path: Path) -> None:
    look = "import os, pathlib; print(os.environ, pathlib.Path('/proc/self/cmdline').read_text()); os.write(2, b'x')"
    waiting = start(shell, tmp_path)
    script = launcher.gate_script([sys.executable, "-c", look], {"A": "b"}, "/", "marker123")
    out, err = waiting.communicate(script, timeout=30)
    assert (waiting.returncode, err) == (0, b"marker123\nx")
    assert out.startswith(b"marker123\nenviron(")
    assert out.count(b"marker123") == 1
    assert b"marker123" not in " ".join(launcher.argv()).encode()


def test_the_marker_comes_before_what_the_launcher_has_to_say(shell: str, tmp_path: Path) -> None:
    waiting = start(shell, tmp_path)
    script = launcher.gate_script(["echo", "ran"], {}, str(tmp_path / "missing"), "marker123")
    out, err = waiting.communicate(script, timeout=30)
    assert (waiting.returncode, out) == (launcher.GATE_FAILED, b"marker123\n")
    assert err.startswith(b"marker123\n")
    assert b"missing" in err


def test_a_large_environment_passes(shell: str, tmp_path: Path) -> None:
    given = {f"LARGE_{number}": "x" * 100_000 for number in range(5)}
    code, out, _ = through_the_gate(shell, tmp_path, [sys.executable, "-c", SHOW], given, "/")
    assert code == 0
    assert {name: json.loads(out)[0][name] for name in given} == given


READ_ALL = "import json, sys; print(json.dumps(sys.stdin.read()))"


def test_a_command_reads_what_is_put_into_its_stdin_and_others_cannot(shell: str, tmp_path: Path) -> None:
    prompt = tmp_path / "private" / "prompt"
    waiting = start(shell, tmp_path)
    script = launcher.gate_script(
        [sys.executable, "-c", READ_ALL], {}, str(tmp_path), files={str(prompt): NASTY[2]}, stdin=str(prompt)
    )
    out, err = waiting.communicate(script, timeout=30)
    assert (waiting.returncode, err) == (0, b"")
    assert json.loads(out) == NASTY[2]
    assert prompt.stat().st_mode & 0o777 == 0o600
    assert prompt.parent.stat().st_mode & 0o777 == 0o700


def test_what_appears_in_an_inbox_follows_in_order_each_once_up_to_its_end(shell: str, tmp_path: Path) -> None:
    prompt, inbox = tmp_path / "private" / "prompt", tmp_path / "inbox"
    inbox.mkdir()
    echo = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    script = launcher.gate_script(
        [sys.executable, "-c", echo],
        {},
        str(tmp_path),
        files={str(prompt): "prompt\n"},
        stdin=str(prompt),
        inbox=str(inbox),
    )
    with start(shell, tmp_path) as waiting:
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        waiting.stdin.write(script)
        waiting.stdin.close()
        assert waiting.stdout.readline() == b"prompt\n"
        (inbox / "2").write_text("second\n")  # out of order: it waits for the first
        (inbox / "end").write_text("3\n")
        (inbox / "1").write_text("first\n")
        assert waiting.stdout.readline() == b"first\n"
        assert waiting.stdout.readline() == b"second\n"
        (inbox / "3").write_text("third\n")
        assert waiting.stdout.read() == b"third\n"
        assert waiting.wait(30) == 0
