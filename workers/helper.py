"""Runs one command of ours (git) in a sandbox of the task's hardened profile, to its end."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from types import MappingProxyType

from workers.demux import Demultiplexer
from workers.egress import EgressReport
from workers.sandbox import launcher
from workers.sandbox.port import SandboxBackend, SandboxError, SandboxSpec

OUTPUT_BYTES = 256 << 10
TICK_SECONDS = 0.2


class HelperStopped(Exception):
    """The helper was stopped before its end: interrupted, or over its deadline."""


@dataclass(frozen=True, slots=True)
class HelperResult:
    """`stdout` and `stderr` are the last `OUTPUT_BYTES` of each; `egress` says what did not get out."""

    exit_code: int
    stdout: str
    stderr: str
    egress: EgressReport | None = None


def run_helper(
    backend: SandboxBackend,
    spec: SandboxSpec,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    directory: str,
    interrupted: Callable[[], bool],
    deadline: float,
    network: Callable[[str], AbstractContextManager[EgressReport]] | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> HelperResult:
    """Run `command`; return how it ended. The sandbox is gone when this returns, and `files` on its tmpfs with it.

    `deadline` is monotonic. `network`, if given, opens what the helper may reach, for the sandbox of
    this id, before the gate opens. Raises `HelperStopped`, and what the backend raises.
    """
    sandbox = backend.create(spec)
    try:
        if faults := backend.inspect(sandbox, spec).mismatches:
            raise SandboxError(f"the engine did not apply: {'; '.join(faults)}")
        stream = backend.attach(sandbox)
        try:
            backend.start(sandbox)
            opened = network(sandbox) if network else nullcontext()
            with opened as egress:
                _send(stream, launcher.gate_script(command, environment, directory, files=files), interrupted, deadline)
                stdout, stderr = _read(stream, interrupted, deadline)
        finally:
            os.close(stream)
        return HelperResult(_exit_code(backend, sandbox), stdout, stderr, egress)
    finally:
        backend.destroy(sandbox)


def _send(stream: int, data: bytes, interrupted: Callable[[], bool], deadline: float) -> None:
    """Write all of it, never waiting for an engine that hangs. Raises `HelperStopped`.

    A sandbox that has ended already takes nothing: its exit code tells.
    """
    waiting = select.poll()
    waiting.register(stream, select.POLLOUT)
    os.set_blocking(stream, False)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            while data:
                _check(interrupted, deadline)
                if waiting.poll(TICK_SECONDS * 1000):
                    with suppress(BlockingIOError):
                        data = data[os.write(stream, data) :]
    finally:
        os.set_blocking(stream, True)


def _check(interrupted: Callable[[], bool], deadline: float) -> None:
    if interrupted() or time.monotonic() >= deadline:
        raise HelperStopped("its time is over, or the task was asked to end")


def _read(stream: int, interrupted: Callable[[], bool], deadline: float) -> tuple[str, str]:
    demultiplexer, kept = Demultiplexer(), {"stdout": b"", "stderr": b""}
    waiting = select.poll()  # `select` fails beyond descriptor 1023
    waiting.register(stream, select.POLLIN)
    while True:
        _check(interrupted, deadline)
        if not waiting.poll(TICK_SECONDS * 1000):
            continue
        received = b""
        with suppress(ConnectionResetError):
            received = os.read(stream, 1 << 16)
        if not received:
            return kept["stdout"].decode(errors="replace"), kept["stderr"].decode(errors="replace")
        for name, data in demultiplexer.feed(received):
            kept[name] = (kept[name] + data)[-OUTPUT_BYTES:]


def _exit_code(backend: SandboxBackend, sandbox: str) -> int:
    """The stream ends a moment before the engine has the exit code."""
    deadline = time.monotonic() + 10
    while (found := backend.inspect(sandbox)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return launcher.GATE_FAILED if found.exit_code is None else found.exit_code
