"""docs/systemd: systemd accepts the units, and they start commands that exist with settings that are read."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import installed_commands, make_root
from tests.conftest import missing
from workers import keeper
from workers.egress.listener import MAX_CONNECTIONS

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "docs/systemd").glob("*.service"))
READ = set(re.findall(r"SANDBOX_[A-Z_]+", (ROOT / "orchestrator/settings.py").read_text()))
OWN_NAMESPACE = re.compile(
    r"^(Private(Tmp|Devices|Mounts)|Protect\w+|Read(Only|Write)Paths|InaccessiblePaths|TemporaryFileSystem|Bind\w+)=",
    re.MULTILINE,
)


def value(unit: Path, key: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith(f"{key}=")]


def command(unit: Path) -> list[str]:
    [line] = value(unit, "ExecStart")
    return shlex.split(line)


def test_there_is_a_unit_for_each_process() -> None:
    assert [unit.stem for unit in UNITS] == ["sandbox-api", "sandbox-keeper", "sandbox-worker"]


@pytest.mark.parametrize("name", ["sandbox-api", "sandbox-worker"])
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    program, *arguments = command(ROOT / f"docs/systemd/{name}.service")
    assert program == "/opt/sandbox/bin/sandbox"
    assert CliRunner().invoke(make_root(installed_commands()), [*arguments, "--help"]).exit_code == 0


def test_the_keepers_unit_starts_one_that_never_ends_of_itself_where_the_worker_looks_for_it() -> None:
    program, *arguments = command(ROOT / "docs/systemd/sandbox-keeper.service")
    assert [program, *arguments[:2]] == ["/opt/sandbox/bin/python", "-m", keeper.__name__]
    options = keeper._parse(arguments[2:])
    assert str(options.directory) == "${SANDBOX_DATA_DIR}/run/keeper-${SANDBOX_WORKER_NAME}"
    assert options.idle_exit_seconds == float("inf")


def test_the_worker_leaves_the_keeper_to_its_unit_and_shares_the_hosts_mounts() -> None:
    worker = ROOT / "docs/systemd/sandbox-worker.service"
    assert "SANDBOX_KEEPER_SERVICE=1" in value(worker, "Environment")
    assert "sandbox-keeper.service" in value(worker, "Wants")[0]
    assert not value(worker, "Requires")
    assert not value(worker, "BindsTo")
    assert OWN_NAMESPACE.search(worker.read_text()) is None


def test_the_worker_may_have_descriptors_for_the_connections_of_a_large_host_s_tasks() -> None:
    [limit] = value(ROOT / "docs/systemd/sandbox-worker.service", "LimitNOFILE")
    assert int(limit) >= 2 * MAX_CONNECTIONS * 256


def test_only_settings_that_are_read_are_set() -> None:
    files = [*UNITS, ROOT / "docs/systemd/sandbox.env.example"]
    line = re.compile(r"^(?:Environment=)?(SANDBOX_\w+)=", re.MULTILINE)
    assigned = {name for file in files for name in line.findall(file.read_text())}
    assert len(assigned) >= 6
    assert assigned <= READ


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "run apt-get install systemd")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python", "sandbox"):
        (programs / name).symlink_to(sys.executable)
    copies = []
    for unit in UNITS:
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace("/opt/sandbox/bin", str(programs)))
    said = subprocess.run(["systemd-analyze", "verify", *map(str, copies)], capture_output=True, text=True, check=False)
    about_ours = [line for line in said.stderr.splitlines() if "sandbox-" in line]
    assert (said.returncode, about_ours) == (0, [])
