"""Listening sockets inside a sandbox's network namespace, made from outside (isolation-and-faults.md §1.1).

A throw-away thread makes them (`setns` is per thread); a socket stays in the namespace it was made in, and belongs
to this process: when the worker dies, it closes. Dials are made from the host's namespace.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from workers.egress.listener import MAX_CONNECTIONS

LOOPBACK = "127.0.0.1"
PROXY_PORT = 3128
ADDRESS = (LOOPBACK, PROXY_PORT)
"""Where the proxy listens inside the sandbox."""
CLONE_NEWNET = 0x40000000
Made = TypeVar("Made")


class EgressUnavailable(Exception):
    """This worker cannot open a way out: it needs root on the engine's host."""


def listen_inside(
    process_id: int, is_still: Callable[[], bool] = lambda: True, ports: Sequence[int] = (PROXY_PORT,)
) -> list[socket.socket]:
    """Return sockets that listen on these ports of the loopback in the network namespace of `process_id`.

    `is_still` tells whether the process is still the sandbox's, asked once its namespace is held: ids are used
    again. Raises `EgressUnavailable`.
    """

    def make() -> list[socket.socket]:
        namespace = os.open(f"/proc/{process_id}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(namespace, process_id, is_still)
            _enter(namespace)
        finally:
            os.close(namespace)
        return listening(ports)

    try:
        return _in_a_thread_of_its_own(make)
    except OSError as error:
        raise EgressUnavailable(
            f"the sandbox's way to the network cannot be opened: {error}; run the worker as root on the engine's host"
        ) from error


def listening(ports: Sequence[int]) -> list[socket.socket]:
    """Return a listening socket on each port of this thread's loopback, or none at all. Raises `OSError`."""
    with ExitStack() as undo:
        made = [undo.enter_context(socket.create_server((LOOPBACK, one), backlog=MAX_CONNECTIONS)) for one in ports]
        undo.pop_all()
    return made


def why_not(engine_process: int | None) -> str | None:
    """Say why this process could not enter its sandboxes' namespaces; None when it can.

    `engine_process` is the engine's process id as this process sees it; None when it is not known, 0 when it lives
    elsewhere.
    """
    if engine_process == 0:
        return "the engine's processes cannot be seen from here: it runs on another host, or outside of this container"

    def enter_own() -> None:
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(namespace)
        finally:
            os.close(namespace)

    try:
        _in_a_thread_of_its_own(enter_own)
    except OSError as error:
        return f"it may not enter a network namespace ({error.strerror or error}): run the worker as root"
    return None


def _check(namespace: int, process_id: int, is_still: Callable[[], bool]) -> None:
    """The host's own namespace must never get a proxy; nor may that of a stranger with a used id."""
    held = os.fstat(namespace)
    for host in ("/proc/thread-self/ns/net", "/proc/1/ns/net"):
        # An engine in another process-id namespace names other processes than this worker sees. The first process of
        # a confined host may be hidden even from root.
        with suppress(PermissionError):
            if os.path.samestat(held, Path(host).stat()):
                raise OSError(f"process {process_id} is not in a sandbox's network namespace")
    if not is_still() or not os.path.samestat(held, Path(f"/proc/{process_id}/ns/net").stat()):
        raise OSError(f"process {process_id} is not the sandbox's any more")


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_a_thread_of_its_own(work: Callable[[], Made]) -> Made:
    """A thread that entered a namespace must never be used for anything else."""
    made: list[Made] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="setns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
