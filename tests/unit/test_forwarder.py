"""A sidecar's forwarder: bytes both ways, ends passed on, and closed when nobody stands behind it."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.network import forwarder
from workers.network.sidecar import program


def answered(port: int, behind: socket.socket) -> bool:
    """Tell whether a connection gets through to the socket behind."""
    with connected(port) as client:
        with selectors.DefaultSelector() as ready:  # select() takes no descriptor above 1023
            ready.register(client, selectors.EVENT_READ)
            ready.register(behind, selectors.EVENT_READ)
            found = {key.fileobj for key, _ in ready.select(60)}
        if behind in found:
            behind.accept()[0].close()
        return behind in found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def port(path: Path) -> Iterator[int]:
    server = socket.create_server(("127.0.0.1", 0))
    slots = threading.BoundedSemaphore(forwarder.MAX_CONNECTIONS)
    thread = threading.Thread(target=forwarder.serve, args=(server, str(path), slots), daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def behind(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(128)
        listening.settimeout(60)
        yield listening


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 60)


def read_all(one: socket.socket) -> bytes:
    found = b""
    while more := one.recv(1 << 16):
        found += more
    return found


def test_bytes_go_both_ways_and_an_end_of_one_direction_leaves_the_other_open(port: int, behind: socket.socket) -> None:
    with connected(port) as client:
        worker, _ = behind.accept()
        with worker:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert read_all(worker) == b"question"
            answer = b"x" * (3 << 20)
            sending = threading.Thread(target=worker.sendall, args=(answer,))
            sending.start()
            assert len(client.recv(1)) == 1
            rest = bytearray()
            while len(rest) < len(answer) - 1:
                rest += client.recv(1 << 20)
            sending.join()
            worker.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""


def test_who_sends_much_before_reading_holds_up_neither_way(port: int, behind: socket.socket) -> None:
    much = b"x" * (16 << 20)
    with connected(port) as client:
        worker, _ = behind.accept()
        with worker:
            worker.settimeout(60)
            answering = threading.Thread(target=worker.sendall, args=(much,))
            taken: list[int] = []
            taking = threading.Thread(target=lambda: taken.append(len(read_all(worker))))
            answering.start()
            taking.start()
            client.sendall(much)  # nothing of the answer is read until all of this is taken
            client.shutdown(socket.SHUT_WR)
            answer = 0
            while answer < len(much):
                answer += len(client.recv(1 << 20))
            answering.join()
            taking.join()
            assert taken == [len(much)]


def test_the_program_of_a_sidecar_needs_nothing_but_python(behind: socket.socket, path: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    argv = [sys.executable, "-I", "-S", "-c", program(), str(number), str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=tmp_path) as sidecar:
        try:
            assert sidecar.stdout is not None
            assert sidecar.stdout.readline() == f"{forwarder.READY}\n".encode()
            with connected(number) as client:
                worker, _ = behind.accept()
                with worker:
                    client.sendall(b"question")
                    assert worker.recv(8) == b"question"
                    worker.sendall(b"answer")
                    assert client.recv(6) == b"answer"
        finally:
            sidecar.kill()


def test_without_a_worker_a_connection_is_closed_and_with_one_again_it_stands(port: int, path: Path) -> None:
    with connected(port) as client:
        assert client.recv(1) == b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        with connected(port) as client:
            worker, _ = listening.accept()
            with worker:
                worker.sendall(b"back")
                assert client.recv(4) == b"back"


def test_an_end_of_the_worker_s_cuts_the_tunnel(port: int, behind: socket.socket) -> None:
    with connected(port) as client:
        worker, _ = behind.accept()
        worker.close()
        assert client.recv(1) == b""


def test_one_connection_more_than_it_takes_is_closed_and_a_free_place_is_used_again(
    port: int, behind: socket.socket
) -> None:
    clients, workers = [], []
    try:
        for _ in range(forwarder.MAX_CONNECTIONS):
            clients.append(connected(port))
            workers.append(behind.accept()[0])
        with connected(port) as more:
            assert more.recv(1) == b""
        workers.pop().close()
        with clients.pop() as freed:
            assert freed.recv(1) == b""
        deadline = time.monotonic() + 60
        while not answered(port, behind):  # the place is free a moment after the end
            assert time.monotonic() < deadline
    finally:
        for one in (*clients, *workers):
            one.close()
