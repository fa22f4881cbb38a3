"""What each part of the isolation costs a no-op task, beside the same without it, in one run.

The file system of a task is the topic `disk`; it is always there, as is the seccomp profile.
"""

import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.egress import NAME
from tests.benchmarks.engine import docker_run_command, docker_run_ms
from tests.benchmarks.stack import SECRET_KEY, Stack, StateWatch, noop_manifest
from tests.benchmarks.table import Row, from_samples
from workers.sandbox.docker.spec import seccomp_profile

_WARM_UP = 2
_SECRET = [{"name": "TOKEN", "source": "env", "key": SECRET_KEY}]
_WAY_OUT = {"network_mode": "outbound", "allowed_hosts": [NAME]}
_KINDS: dict[str, dict[str, Any]] = {
    "neither": {},
    "a way out": {"vm": _WAY_OUT},
    "a secret": {"secrets": _SECRET},
    "a way out and a secret": {"vm": _WAY_OUT, "secrets": _SECRET},
}


def no_op_tasks(stack: Stack, samples: int = 30) -> list[Row]:
    """No-op tasks of each kind in turn, from before the POST until `completed`."""
    took: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    with StateWatch(stack) as watch:
        for _ in range(_WARM_UP + samples):
            for kind, sections in _KINDS.items():
                manifest = noop_manifest(stack.image)
                manifest["vm"] |= sections.get("vm", {})
                manifest |= {"secrets": sections.get("secrets", [])}
                began = time.perf_counter()
                took[kind].append((watch.wait(stack.submit(manifest), "completed") - began) * 1000)
    plain = took.pop("neither")[_WARM_UP:]
    return [
        from_samples(f"no-op task with {kind}", milliseconds[_WARM_UP:], beside="with neither", limits=plain)
        for kind, milliseconds in took.items()
    ]


def seccomp(image: str, samples: int = 30) -> Row:
    """`docker run` with our profile and with the engine's own, in turn."""
    ours, theirs = [], []
    with TemporaryDirectory() as directory:
        profile = Path(directory) / "seccomp.json"
        profile.write_text(seccomp_profile())
        command = docker_run_command(image, "true")
        command[3:3] = ["--security-opt", f"seccomp={profile}"]
        for _ in range(_WARM_UP + samples):
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            ours.append((time.perf_counter() - began) * 1000)
            theirs.append(docker_run_ms(image))
    return from_samples(
        "docker run with our seccomp profile", ours[_WARM_UP:], beside="the engine's", limits=theirs[_WARM_UP:]
    )
