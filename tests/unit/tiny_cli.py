"""A stand-in for the agent's program of a few bytes, and the packages that carry it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from workers.images.agent_cli import AgentCli, NpmPackage, Wheel

VERSION = "9.9.9"
PLATFORM = "manylinux_2_17_x86_64"
MEMBER = "tiny_agent/_bundled/claude"
WHEEL_NAME = f"tiny_agent-1.0-py3-none-{PLATFORM}.whl"
METADATA = "Metadata-Version: 2.1\nName: tiny-agent\nVersion: 1.0\n"
TAGS = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{PLATFORM}\n"


def cli_of(program: bytes, wheel_sha256: str = "0" * 64) -> AgentCli:
    """What a lock file would say of `program`, in a wheel of this digest."""
    return AgentCli(
        VERSION,
        hashlib.sha256(program).hexdigest(),
        Wheel("tiny-agent", "1.0", PLATFORM, wheel_sha256, MEMBER),
        NpmPackage("@tiny/agent-linux-x64", VERSION, "package/claude"),
    )


def make_wheel(directory: Path, program: bytes, member: str = MEMBER) -> tuple[Path, str]:
    """Make the wheel; return its path and its digest."""
    path = directory / WHEEL_NAME
    files = {
        member: program,
        "tiny_agent-1.0.dist-info/METADATA": METADATA.encode(),
        "tiny_agent-1.0.dist-info/WHEEL": TAGS.encode(),
        "tiny_agent-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def make_npm_package(path: Path, program: bytes) -> Path:
    with tarfile.open(path, "w:gz") as package:
        member = tarfile.TarInfo("package/claude")
        member.size = len(program)
        package.addfile(member, io.BytesIO(program))
    return path
