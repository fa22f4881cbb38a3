"""A real keeper process; socket pairs stand for the engine's attach streams."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from workers.keeper_client import Doorbell, KeeperClient, KeeperRefused, KeeperUnavailable
from workers.spool import LIMIT_MIN_BYTES, SpoolReader

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 30.0
NO_STOP = ["true"]

WORKER = """
import os, sys, time
from pathlib import Path
from workers.keeper_client import KeeperClient
client = KeeperClient(Path(sys.argv[1]), idle_exit_seconds=1)
client.hold("task", int(sys.argv[3]), Path(sys.argv[2]), ["true"])
client.renew(600)
print("held", flush=True)
time.sleep(600)
"""


def wait_until(condition: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {WAIT_SECONDS} s in vain: {what}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """True when the process has ended (a zombie, not yet reaped by whoever it belongs to, has)."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def received(spool: Path) -> bytes:
    with SpoolReader(spool) as reader:
        return b"".join(chunk.data for chunk in reader.read(1 << 30))


def follow(reader: SpoolReader, bell: Doorbell) -> bytes:
    """Read to the end as a worker does, deleting what was read."""
    data = bytearray()
    while not reader.at_end():
        ring = bell.wait(WAIT_SECONDS)
        assert ring in {"data", "eof"}, ring
        while chunks := reader.read(50_000):
            data += b"".join(chunk.data for chunk in chunks)
            reader.delete_before(reader.offset)
    return bytes(data)


class Bench:
    """One keeper, and the engine's ends of what it holds."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "keeper"
        self.spools = root / "spools"
        self.client = KeeperClient(self.directory, idle_exit_seconds=1)
        self.engine: dict[str, socket.socket] = {}
        self.sockets: list[socket.socket] = []

    def hold(
        self, name: str, *, stop: list[str] = NO_STOP, limit_bytes: int = 1 << 24, keepsake: str | None = None
    ) -> tuple[socket.socket, Path]:
        engine, attach = socket.socketpair()
        self.sockets.append(engine)
        with attach:
            self.client.hold(name, attach.fileno(), self.spools / name, stop, limit_bytes, keepsake=keepsake)
        self.engine[name] = engine
        engine.settimeout(WAIT_SECONDS)
        return engine, self.spools / name

    def end(self) -> None:
        for engine in self.sockets:
            engine.close()
        pid = self.client.ensure_running()
        self.client.quit(force=True)
        wait_until(lambda: gone(pid), "the keeper ends")

    def fill(self, name: str) -> bytes:
        """Say as much as is taken, until the keeper has stopped reading; what was said."""
        engine = self.engine[name]
        engine.setblocking(False)
        said = bytearray()
        line = 0
        while not (self.client.held()[name].paused and len(said) == line):
            line = len(said)
            with suppress(BlockingIOError):
                while True:
                    part = b"%011d\n" % len(said) * 100
                    said += part[: engine.send(part)]
        engine.settimeout(WAIT_SECONDS)
        return bytes(said)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.end()


def test_what_a_sandbox_says_is_in_the_spool_and_rings(bench: Bench) -> None:
    engine, spool = bench.hold("task")
    with bench.client.watch("task") as bell:
        assert bell.wait(WAIT_SECONDS) == "data"
        assert bell.wait(0) is None
        before = time.time()
        engine.sendall(b"hello")
        assert bell.wait(WAIT_SECONDS) == "data"
        with SpoolReader(spool) as reader:
            (chunk,) = reader.read()
            assert chunk.data == b"hello"
            assert before <= chunk.arrived_at <= time.time()
            engine.close()
            assert bell.wait(WAIT_SECONDS) == "eof"
            assert bell.wait(None) == "eof"
            assert reader.at_end()
            assert reader.end_reason() == "ended"
    held = bench.client.held()["task"]
    assert (held.eof, held.bytes_written, held.spool_dir, held.paused) == ("ended", 5, spool, False)


def test_two_streams_are_kept_apart(bench: Bench) -> None:
    said = {name: (name * 70_000).encode() for name in ("left", "right")}
    for name in said:
        bench.hold(name)
    writers = [threading.Thread(target=bench.engine[name].sendall, args=(data,)) for name, data in said.items()]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for name, data in said.items():
        bench.engine[name].close()
        with bench.client.watch(name) as bell, SpoolReader(bench.spools / name) as reader:
            assert follow(reader, bell) == data


def test_killing_the_workers_process_group_costs_no_byte(bench: Bench) -> None:
    engine, attach = socket.socketpair()
    bench.sockets.append(engine)
    spool = bench.spools / "task"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(bench.directory), str(spool), str(attach.fileno())],
        pass_fds=[attach.fileno()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    attach.close()
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"held\n"
        engine.sendall(b"before, ")
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        engine.sendall(b"after")
        engine.close()
    with bench.client.watch("task") as bell, SpoolReader(spool) as reader:
        assert follow(reader, bell) == b"before, after"


def test_a_full_spool_stops_the_sandbox_and_deleting_lets_it_go_on(bench: Bench) -> None:
    engine, spool = bench.hold("task", limit_bytes=LIMIT_MIN_BYTES)
    said = bench.fill("task")
    assert sum(path.stat().st_size for path in spool.iterdir()) <= LIMIT_MIN_BYTES
    assert len(said) > bench.client.held()["task"].bytes_written
    engine.shutdown(socket.SHUT_WR)
    with bench.client.watch("task") as bell, SpoolReader(spool) as reader:
        assert follow(reader, bell) == said


def test_shutting_frees_a_blocked_engine_and_keeps_what_had_arrived(bench: Bench) -> None:
    engine, spool = bench.hold("task", limit_bytes=LIMIT_MIN_BYTES)
    said = bench.fill("task")
    ends: list[OSError] = []

    def block() -> None:
        try:
            engine.sendall(b"x" * 1_000_000)
        except OSError as error:
            ends.append(error)

    blocked = threading.Thread(target=block)
    blocked.start()
    assert bench.client.shut("task")
    blocked.join(WAIT_SECONDS)
    assert [type(error) for error in ends] == [BrokenPipeError]
    assert received(spool).startswith(said)
    assert bench.client.held()["task"].eof == "shut"
    assert bench.client.shut("task")
    assert not bench.client.shut("nobody")


def test_releasing_forgets_and_ends_the_doorbell(bench: Bench) -> None:
    bench.hold("task")
    with bench.client.watch("task") as bell:
        assert bench.client.release("task")
        wait_until(lambda: bell.wait(WAIT_SECONDS) == "eof", "the last ring")
    assert bench.client.held() == {}
    assert not bench.client.release("task")
    with pytest.raises(KeeperRefused, match="holds no sandbox 'task'"):
        bench.client.watch("task")


def test_the_gate_gets_more_than_a_pipe_takes_and_then_the_end_of_input(bench: Bench) -> None:
    engine, _spool = bench.hold("task")
    prompt = bytes(range(256)) * 4 * 3_000
    bench.client.write("task", prompt, half_close=True)
    got = bytearray()
    while part := engine.recv(1 << 20):
        got += part
    assert bytes(got) == prompt
    with pytest.raises(KeeperRefused, match="stdin is closed"):
        bench.client.write("task", b"more")
    engine.sendall(b"still speaking")
    wait_until(lambda: bench.client.held()["task"].bytes_written, "output after the half-close")


def test_a_stream_held_for_its_output_only_takes_no_input_and_counts_as_having_got_it(
    bench: Bench, tmp_path: Path
) -> None:
    attach, engine = socket.socketpair()
    with attach, engine:
        bench.client.hold("task", attach.fileno(), tmp_path / "spool", NO_STOP, output_only=True)
        assert bench.client.held()["task"].stdin_closed
        with pytest.raises(KeeperRefused, match="stdin is closed"):
            bench.client.write("task", b"x", half_close=True)
        engine.sendall(b"output")
        wait_until(lambda: received(tmp_path / "spool") == b"output", "its output")
        engine.setblocking(False)
        with pytest.raises(BlockingIOError):  # not half-closed either: an engine would take that for a hang-up
            engine.recv(1)
        bench.client.release("task")


def test_a_gate_that_nobody_reads_takes_a_bounded_amount(bench: Bench) -> None:
    bench.hold("task")
    with pytest.raises(KeeperRefused) as refusal:
        bench.client.write("task", b"x" * 8_000_000, timeout_seconds=0.1)
    assert refusal.value.code == "full"


def test_sandboxes_are_stopped_when_renewals_end_and_their_last_words_are_kept(bench: Bench, tmp_path: Path) -> None:
    engine, spool = bench.hold("task", stop=["touch", str(tmp_path / "stopped")])
    bench.client.write("task", b"begin\n", half_close=True)
    bench.client.renew(600)
    bench.client.renew(0.2)
    wait_until((tmp_path / "stopped").exists, "the stop program runs")
    wait_until(lambda: bench.client.held()["task"].stopped, "its success is seen")
    assert bench.client.held()["task"].eof is None
    engine.sendall(b"last words")
    engine.close()
    wait_until(lambda: bench.client.held()["task"].eof, "the stream ends")
    assert received(spool) == b"last words"


def test_a_sandbox_that_was_stopped_before_its_gate_was_opened_is_held_no_longer(bench: Bench) -> None:
    """Its container may never have been started, and was removed: then the engine keeps the stream open for ever."""
    pid = bench.client.ensure_running()
    bench.hold("task", stop=["sh", "-c", "exit 1"])
    bench.hold("other")
    bench.client.renew(0)
    wait_until(lambda: bench.client.held()["other"].eof == "ended", "the stream is ended")
    assert bench.client.held()["task"].eof is None
    bench.client.release("task")
    bench.client.close()
    wait_until(lambda: gone(pid), "the keeper ends by itself")


def test_a_sandbox_whose_stream_ended_is_still_stopped(bench: Bench, tmp_path: Path) -> None:
    engine, _spool = bench.hold("task", stop=["touch", str(tmp_path / "stopped")])
    engine.close()
    wait_until(lambda: bench.client.held()["task"].eof, "the stream ends")
    bench.client.renew(0)
    wait_until((tmp_path / "stopped").exists, "the stop program runs")


def test_a_full_stream_is_shut_before_its_sandbox_is_stopped(bench: Bench, tmp_path: Path) -> None:
    order = tmp_path / "order"
    marker = bench.spools / "task" / "eof"
    _engine, spool = bench.hold(
        "task",
        limit_bytes=LIMIT_MIN_BYTES,
        stop=["sh", "-c", f"cat {marker} > {order}.tmp; mv {order}.tmp {order}"],
    )
    said = bench.fill("task")
    bench.client.renew(0)
    wait_until(order.exists, "the stop program runs")
    assert order.read_text() == "cut"
    assert received(spool) == said


def test_a_paused_lease_ends_after_its_own_time_and_a_renewal_ends_the_pause(bench: Bench, tmp_path: Path) -> None:
    bench.hold("task", stop=["touch", str(tmp_path / "stopped")])
    bench.client.renew(600)
    bench.client.pause_lease(0.2)
    wait_until((tmp_path / "stopped").exists, "the pause ends")
    bench.client.renew(600)
    assert not bench.client.held()["task"].stopped


def test_a_lease_paused_in_time_does_not_stop_the_sandbox_when_it_would_have_ended(
    bench: Bench, tmp_path: Path
) -> None:
    bench.hold("task", stop=["touch", str(tmp_path / "stopped")])
    bench.client.renew(1.0)
    bench.client.pause_lease(600)
    ended_at = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > ended_at, "the lease's end passes")
    assert not (tmp_path / "stopped").exists()


def test_a_watcher_that_never_reads_harms_nobody(bench: Bench) -> None:
    engine, spool = bench.hold("task")
    with bench.client.watch("task") as slow, bench.client.watch("task") as quick:
        said = b""
        with SpoolReader(spool) as reader:
            got = b""
            for number in range(3_000):
                part = b"%d\n" % number
                said += part
                engine.sendall(part)
                while len(got) < len(said):
                    assert quick.wait(WAIT_SECONDS) == "data"
                    got += b"".join(chunk.data for chunk in reader.read())
        engine.close()
        wait_until(lambda: quick.wait(WAIT_SECONDS) == "eof", "the end rings")
        wait_until(lambda: slow.wait(WAIT_SECONDS) == "eof", "the end rings late")
    assert got == said


def test_watchers_that_disconnect_are_forgotten(bench: Bench) -> None:
    engine, spool = bench.hold("task")
    for _round in range(20):
        bench.client.watch("task").close()
    engine.sendall(b"on it goes")
    wait_until(lambda: received(spool) == b"on it goes", "output")


def test_a_keeper_that_holds_something_ignores_being_terminated(bench: Bench) -> None:
    pid = bench.client.ensure_running()
    engine, spool = bench.hold("task")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    log = bench.directory / "keeper.log"
    wait_until(lambda: log.read_text().count("signal received") == 3, "the signals arrive")
    engine.sendall(b"alive")
    wait_until(lambda: received(spool) == b"alive", "output after the signals")
    assert bench.client.ensure_running() == pid


def test_an_empty_keeper_ends_when_terminated(bench: Bench) -> None:
    pid = bench.client.ensure_running()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: gone(pid), "the keeper ends")
    assert not (bench.directory / "keeper.sock").exists()
    assert bench.client.ensure_running() != pid


def test_an_unused_keeper_ends_by_itself(bench: Bench) -> None:
    pid = bench.client.ensure_running()
    bench.client.close()
    wait_until(lambda: gone(pid), "the keeper ends")


def test_a_second_keeper_on_the_same_directory_refuses(bench: Bench) -> None:
    pid = bench.client.ensure_running()
    second = subprocess.run(
        [sys.executable, "-m", "workers.keeper", "--directory", str(bench.directory)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert second.returncode == 3
    assert b"another keeper serves this directory" in second.stderr
    assert bench.client.ensure_running() == pid


def test_a_killed_keeper_is_replaced_and_the_spool_is_continued(bench: Bench) -> None:
    engine, spool = bench.hold("task")
    engine.sendall(b"first, ")
    wait_until(lambda: received(spool) == b"first, ", "output")
    with bench.client.watch("task") as bell:
        pid = bench.client.ensure_running()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bell.wait(WAIT_SECONDS) == "lost", "the doorbell says so")
    assert bench.client.held() == {}
    engine, spool = bench.hold("task")
    engine.sendall(b"second")
    wait_until(lambda: received(spool) == b"first, second", "output")


def test_a_name_is_held_once_until_its_stream_has_ended(bench: Bench) -> None:
    engine, spool = bench.hold("task")
    with pytest.raises(KeeperRefused, match="still open"):
        bench.hold("task")
    engine.sendall(b"one")
    engine.close()
    wait_until(lambda: bench.client.held()["task"].eof, "the stream ends")
    engine, spool = bench.hold("task")
    engine.sendall(b"two")
    wait_until(lambda: received(spool) == b"onetwo", "output of both")
    assert bench.client.held()["task"].eof is None


def test_a_keepsake_is_given_back_until_its_sandbox_is_released_and_lies_on_no_disk(bench: Bench) -> None:
    kept = "value-" * 150_000
    bench.hold("task", keepsake=kept)
    bench.hold("other")
    successor = KeeperClient(bench.directory)
    assert successor.keepsake("task") == kept
    successor.close()
    assert bench.client.keepsake("other") is None
    files = [path for path in bench.directory.parent.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"value-value-" in path.read_bytes()]
    bench.client.release("task")
    with pytest.raises(KeeperRefused) as refused:
        bench.client.keepsake("task")
    assert refused.value.code == "unknown"
    bench.hold("task")
    assert bench.client.keepsake("task") is None


def test_a_keepsake_outlives_the_stream_it_came_with(bench: Bench) -> None:
    bench.hold("task", keepsake="kept")
    bench.engine["task"].close()
    wait_until(lambda: bench.client.held()["task"].eof, "the stream has ended")
    bench.hold("task")
    assert bench.client.keepsake("task") == "kept"
    bench.hold("again", keepsake="first")
    bench.engine["again"].close()
    wait_until(lambda: bench.client.held()["again"].eof, "the stream has ended")
    bench.hold("again", keepsake="second")
    assert bench.client.keepsake("again") == "second"


def test_a_keeper_that_holds_something_does_not_quit_unless_forced(bench: Bench) -> None:
    _engine, spool = bench.hold("task")
    pid = bench.client.ensure_running()
    with pytest.raises(KeeperRefused, match="still holds task"):
        bench.client.quit()
    bench.client.quit(force=True)
    wait_until(lambda: gone(pid), "the keeper ends")
    assert (spool / "eof").read_text() == "cut"
    bench.client.quit()


def test_requests_that_make_no_sense_are_answered(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(KeeperRefused) as no_socket, (tmp_path / "file").open("wb") as file:
        bench.client.hold("task", file.fileno(), tmp_path / "spool", NO_STOP)
    assert no_socket.value.code == "no_socket"
    engine, attach = socket.socketpair()
    with engine, attach:
        for stop, limit_bytes in (([], 1 << 20), (NO_STOP, 1)):
            with pytest.raises(KeeperRefused) as bad:
                bench.client.hold("task", attach.fileno(), tmp_path / "spool", stop, limit_bytes)
            assert bad.value.code == "bad_request"
    with pytest.raises(KeeperRefused):
        bench.client.renew(float("nan"))
    assert bench.client.held() == {}


def test_clients_that_break_the_protocol_harm_nobody(bench: Bench) -> None:
    pid = bench.client.ensure_running()
    for line in (
        b"\xff\n",
        b"[]\n",
        b'{"op": "dance"}\n',
        b'{"op": "hold", "name": "x"}\n',
        b'{"op": "shut"}\n',
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(os.path.relpath(bench.directory / "keeper.sock"))
            raw.sendall(line)
            assert json.loads(raw.recv(4096))["ok"] is False
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(os.path.relpath(bench.directory / "keeper.sock"))
        raw.settimeout(WAIT_SECONDS)
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                raw.sendall(b"x" * 1_000_000)
    assert bench.client.ensure_running() == pid


def test_a_long_data_directory_works(tmp_path: Path) -> None:
    long = Bench(tmp_path / ("d" * 100) / ("e" * 100))
    engine, spool = long.hold("task")
    engine.sendall(b"far down")
    wait_until(lambda: received(spool) == b"far down", "output")
    long.end()


def test_a_directory_that_cannot_be_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = KeeperClient(tmp_path / "file")
    with pytest.raises(KeeperUnavailable, match="Not a directory"):
        client.ensure_running()
    with pytest.raises(KeeperUnavailable, match="Not a directory"):
        client.watch("task")


def test_many_threads_share_one_client(bench: Bench) -> None:
    faults: list[BaseException] = []

    def use(number: int) -> None:
        try:
            for turn in range(10):
                name = f"task-{number}-{turn}"
                engine, spool = bench.hold(name)
                engine.sendall(name.encode())
                engine.close()
                with bench.client.watch(name) as bell, SpoolReader(spool) as reader:
                    assert follow(reader, bell) == name.encode()
                assert bench.client.release(name)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            faults.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert bench.client.held() == {}


def test_the_directory_and_the_socket_are_the_owners_alone(bench: Bench) -> None:
    bench.client.ensure_running()
    assert bench.directory.stat().st_mode & 0o777 == 0o700
    assert (bench.directory / "keeper.sock").stat().st_mode & 0o777 == 0o600


def test_the_keeper_lives_in_a_session_of_its_own_and_stays_small(bench: Bench) -> None:
    bench.hold("task")
    pid = bench.client.ensure_running()
    assert os.getsid(pid) == pid
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(status["PPid"]) != os.getpid()
    assert int(status["VmRSS"].split()[0]) < 16 * 1024  # 12.3 MiB here; other builds of Python differ


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a small disk needs root to mount")
def test_a_full_disk_stops_the_sandbox_and_loses_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs "{disk}" && exec "$@"'
    command = [sys.executable, "-m", "workers.keeper", "--directory", str(bench.directory)]
    keeper = subprocess.Popen(["unshare", "-m", "sh", "-c", script, "sh", *command], cwd=ROOT)
    try:
        wait_until((bench.directory / "keeper.sock").exists, "the keeper listens")
        seen = Path(f"/proc/{keeper.pid}/root") / disk.relative_to("/")
        bench.spools = disk
        engine, _spool = bench.hold("task")
        (seen / "ballast").write_bytes(bytes(700_000))
        said = os.urandom(600_000)
        speaker = threading.Thread(target=engine.sendall, args=(said,))
        speaker.start()
        wait_until(lambda: bench.client.held()["task"].stalled, "the disk is full")
        assert "No space left" in str(bench.client.held()["task"].stalled)
        assert bench.client.held()["task"].paused
        (seen / "ballast").unlink()
        speaker.join(WAIT_SECONDS)
        engine.close()
        wait_until(lambda: bench.client.held()["task"].eof, "the stream ends")
        assert received(seen / "task") == said
        bench.end()
        keeper.wait(WAIT_SECONDS)
    finally:
        keeper.kill()
        keeper.wait()
