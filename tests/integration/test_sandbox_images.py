"""The sandbox images as a task sees them: read-only root, uid 1000, empty HOME, no network, own seccomp."""

import os
import shutil
import subprocess
import textwrap
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from workers.images import IMAGES
from workers.images.agent_cli import AGENT_LABEL, locked

pytestmark = pytest.mark.docker

SECCOMP = resources.files("workers.sandbox.docker") / "seccomp.json"
Run = Callable[[str, str], str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function (image name, bash script) -> output; one that fails, fails the test."""
    inspect = ["docker", "image", "inspect", *(image.tag for image in IMAGES.values())]
    if shutil.which("docker") is None or subprocess.run(inspect, capture_output=True, check=False).returncode != 0:
        reason = "no Docker Engine with the sandbox images; run `sandbox image build`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    share = tmp_path_factory.mktemp("share")
    make_wheel(share)
    make_npm_package(share)
    share.chmod(0o755)

    def run_script(name: str, script: str) -> str:
        command = [
            "docker",
            "run",
            "--rm",
            "--init",
            "--read-only",
            "--user=1000:1000",
            "--network=none",
            "--cap-drop=ALL",
        ]
        command += [
            "--security-opt=no-new-privileges",
            f"--security-opt=seccomp={SECCOMP}",
            f"--volume={share}:/share:ro",
        ]
        command += [f"--tmpfs={path}:uid=1000,exec" for path in ("/home/agent", "/tmp", "/workspace")]
        script = f"set -euo pipefail; cp -a /opt/home-skeleton/. ~/\n{textwrap.dedent(script)}"
        done = subprocess.run(
            [*command, IMAGES[name].tag, "bash", "-c", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_script


def make_wheel(share: Path) -> None:
    """A wheel is a zip archive with three known files; made by hand it needs no build backend."""
    with zipfile.ZipFile(share / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "def main():\n    print('hello from the wheel')\n")
        wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greeting-1.0.dist-info/entry_points.txt", "[console_scripts]\ngreeting = greeting:main\n")
        wheel.writestr("greeting-1.0.dist-info/RECORD", "")


def make_npm_package(share: Path) -> None:
    package = share / "salute"
    package.mkdir()
    (package / "package.json").write_text('{"name": "salute", "version": "1.0.0", "bin": {"salute": "cli.js"}}')
    (package / "cli.js").write_text("#!/usr/bin/env node\nconsole.log('hello from npm')\n")
    (package / "cli.js").chmod(0o755)


@pytest.mark.parametrize("name", IMAGES)
def test_python_git_and_perl_run_as_the_agent(run: Run, name: str) -> None:
    output = run(
        name,
        """
        id -u; pwd; python -c 'import ssl, sqlite3, sys; print(sys.prefix)'
        git init --quiet r; cd r; git -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m one
        git rev-list --count HEAD; perl -e 'print "perl\n"'
        """,
    )
    assert output.split() == ["1000", "/workspace", "/home/agent/.venv", "1", "perl"]


@pytest.mark.parametrize("name", IMAGES)
def test_pip_installs_into_home_without_root(run: Run, name: str) -> None:
    output = run(name, "pip install --quiet --no-index /share/*.whl; greeting; command -v greeting pip")
    assert output.split("\n")[:3] == [
        "hello from the wheel",
        "/home/agent/.venv/bin/greeting",
        "/home/agent/.venv/bin/pip",
    ]


def test_npm_installs_globally_into_home_without_root(run: Run) -> None:
    output = run(
        "agentic-dev",
        "cp -r /share/salute .; npm install --global --silent ./salute >&2; salute; command -v salute",
    )
    assert output.split("\n")[:2] == ["hello from npm", "/home/agent/.npm-global/bin/salute"]


def test_the_agent_image_compiles_and_has_its_tools(run: Run) -> None:
    output = run(
        "agentic-dev",
        """
        echo 'int main(void) { return 0; }' > a.c; gcc a.c -o a; ./a; echo compiled
        for tool in make node npm curl jq rg less ssh; do
            command -v $tool > /dev/null || echo missing $tool
        done
        """,
    )
    assert output == "compiled\n"


def test_the_agent_starts_as_the_task_s_user_without_network_and_is_the_locked_one(run: Run) -> None:
    output = run(
        "agentic-dev", "claude --version; sha256sum < $(command -v claude); stat -c '%U %a' $(command -v claude)"
    )
    amd64 = locked()["amd64"]
    assert output.splitlines() == [f"{amd64.version} (Claude Code)", f"{amd64.sha256}  -", "root 755"]


def test_the_label_says_which_agent_an_image_holds(run: Run) -> None:
    labels = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{AGENT_LABEL}"}}}}']
    tags = [IMAGES[name].tag for name in ("agentic-dev", "basic")]
    found = subprocess.run([*labels, *tags], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n") == [locked()["amd64"].version, "", ""]
    assert run("basic", "command -v claude || echo none") == "none\n"


@pytest.mark.parametrize("name", IMAGES)
def test_the_skeleton_of_home_stays_small(run: Run, name: str) -> None:
    files, kilobytes = run(name, "find ~ | wc -l; du -sk ~ | cut -f1").split()
    assert int(files) <= 30
    assert int(kilobytes) <= 256


def test_a_virtual_socket_io_uring_and_a_user_namespace_are_refused(run: Run) -> None:
    # AF_VSOCK also with a bit above 32 set: the kernel cuts it off, "not equal 40" in a filter does not.
    output = run(
        "basic",
        """
        case $(uname -m) in x86_64) socket=41 unshare=272 ;; aarch64) socket=198 unshare=97 ;; esac
        python - $socket $unshare <<'EOF'
        import ctypes, errno, sys
        libc = ctypes.CDLL(None, use_errno=True)
        socket, unshare = map(int, sys.argv[1:])
        vsock, high = (socket, 40, 1, 0), (socket, 1 << 32 | 40, 1, 0)
        for call in [vsock, high, (425, 8, 0), (unshare, 0x10000000), (socket, 1, 1, 0)]:
            result = libc.syscall(*map(ctypes.c_long, call))
            print('open' if result >= 0 else errno.errorcode[ctypes.get_errno()])
        EOF
        """,
    )
    assert output.split() == ["EPERM", "EPERM", "EPERM", "EPERM", "open"]
