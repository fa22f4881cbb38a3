"""What the product is measured against: the Docker command and the Docker SDK, alone."""

import subprocess
import time
from collections.abc import Callable

import docker


def docker_run_command(image: str, *command: str) -> list[str]:
    """The command line every baseline uses."""
    return ["docker", "run", "--rm", "--network", "none", image, *command]


def docker_run_ms(image: str) -> float:
    """Duration of one ``docker run … true``."""
    began = time.perf_counter()
    subprocess.run(docker_run_command(image, "true"), check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def docker_read(image: str, script: str, take: Callable[[bytes], None]) -> float:
    """Run `script` with its output in a pipe and hand each piece read to `take`. Answers the seconds."""
    began = time.perf_counter()
    with subprocess.Popen(docker_run_command(image, "bash", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := process.stdout.read1(1 << 20):  # type: ignore[attr-defined]
            take(piece)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "docker run")
    return time.perf_counter() - began


def kill_and_remove_ms(client: docker.DockerClient, image: str) -> float:
    """Duration of kill + remove of a sleeping container through the SDK."""
    container = client.containers.run(image, ["sleep", "600"], detach=True, network_mode="none", init=True)
    try:
        time.sleep(0.3)
        began = time.perf_counter()
        container.kill()
        container.remove(force=True)
        return (time.perf_counter() - began) * 1000
    except BaseException:
        container.remove(force=True)
        raise
