"""The contract of `SandboxBackend`, kept by the Docker Engine; and what is the Docker backend's own."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import docker
import pytest

from tests.integration.sandbox.conftest import WORKER_NAME, RunInside, SpecOf
from tests.integration.sandbox.engine_proxy import EngineProxy
from workers.demux import Demultiplexer
from workers.sandbox.docker import stop
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.docker.log_stream import follow_log
from workers.sandbox.labels import INSTALLATION, WORKER
from workers.sandbox.launcher import gate_script
from workers.sandbox.port import (
    EngineUnavailable,
    ImageUnavailable,
    Inspection,
    LogUnavailable,
    Mount,
    SandboxBackend,
    SandboxError,
    SandboxGone,
)
from workers.use_gauge import UseGauge

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

WAIT_SECONDS = 60.0
UNKNOWN = "0" * 64


def eventually(check: Callable[[], object], what: str) -> object:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up_at:
        if found := check():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {WAIT_SECONDS} s: {what}")


@contextmanager
def sandbox(backend: SandboxBackend, spec_of: SpecOf, *, started: bool = True, **changes: object) -> Iterator[str]:
    """A sandbox; with `started`, its stream is closed at the gate, so it ends by itself."""
    made = backend.create(spec_of(**changes))
    try:
        if started:
            stream = backend.attach(made)
            backend.start(made)
            os.close(stream)
        yield made
    finally:
        backend.destroy(made)


@contextmanager
def at_its_gate(backend: SandboxBackend, spec_of: SpecOf, **changes: object) -> Iterator[tuple[str, int]]:
    with sandbox(backend, spec_of, started=False, **changes) as made:
        stream = backend.attach(made)
        try:
            backend.start(made)
            yield made, stream
        finally:
            os.close(stream)


def ended(backend: SandboxBackend, made: str) -> Inspection:
    eventually(lambda: not backend.inspect(made).running, "the sandbox ends")
    return backend.inspect(made)


def read_to_end(stream: int) -> dict[str, bytes]:
    demultiplexer, found = Demultiplexer(), {"stdout": b"", "stderr": b""}
    while received := os.read(stream, 1 << 16):
        for name, data in demultiplexer.feed(received):
            found[name] += data
    return found


def _answers(backend: SandboxBackend, made: str) -> bool:
    try:
        backend.inspect(made)
    except EngineUnavailable:
        return False
    return True


class TestDockerBackend:
    """What any backend must show. Another implementation runs this class with its own `backend` fixture."""

    def test_a_sandbox_waits_at_its_gate_and_becomes_the_command(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        image = backend.pull("sandbox/basic:latest", interrupted=lambda: False, say=pytest.fail)
        assert image.name == "sandbox/basic:latest"
        assert "sha256:" in image.digest
        assert image.id.startswith("sha256:")
        spec = spec_of(image=image.id)
        made = backend.create(spec)
        try:
            before = backend.inspect(made)
            assert before == Inspection(
                running=False, started=False, exit_code=None, oom_killed=False, process_id=None, runtime=before.runtime
            )
            assert before.runtime in backend.facts().runtimes
            stream = backend.attach(made)
            try:
                backend.start(made)
                found = backend.inspect(made, spec)
                assert (found.running, found.started, found.exit_code, found.mismatches) == (True, True, None, ())
                assert found.process_id
                assert Path(f"/proc/{found.process_id}").exists()
                command = ["sh", "-c", "pwd; echo $A >&2; cat; exit 3"]
                os.write(stream, gate_script(command, {"A": "b c"}, "/tmp"))
                assert read_to_end(stream) == {"stdout": b"/tmp\n", "stderr": b"b c\n"}
            finally:
                os.close(stream)
            last = ended(backend, made)
            assert (last.running, last.started, last.exit_code, last.oom_killed) == (False, True, 3, False)
            assert last.process_id is None
        finally:
            backend.destroy(made)

    def test_a_sandbox_whose_worker_dies_at_the_gate_ends_by_itself(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        with sandbox(backend, spec_of) as made:
            assert ended(backend, made).exit_code == 125

    def test_the_answer_is_read_with_a_descriptor_that_blocks(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        with at_its_gate(backend, spec_of) as (_, stream):
            assert os.get_blocking(stream)
            os.write(stream, gate_script(["true"], {f"A{n}": "x" * 60_000 for n in range(10)}, "/"))
            assert read_to_end(stream) == {"stdout": b"", "stderr": b""}

    def test_no_descriptor_but_the_returned_one_stays_open(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        descriptors = Path("/proc/self/fd")
        with sandbox(backend, spec_of, started=False) as made:
            before = len(list(descriptors.iterdir()))
            for _ in range(5):
                os.close(backend.attach(made))
            assert len(list(descriptors.iterdir())) <= before

    def test_destroy_is_harmless_in_every_state_and_again(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        created = backend.create(spec_of())
        backend.destroy(created)
        with at_its_gate(backend, spec_of) as (running, _):
            backend.destroy(running)
            with pytest.raises(SandboxGone):
                backend.inspect(running)
        with sandbox(backend, spec_of) as over:
            ended(backend, over)
            backend.destroy(over)
        for gone in (created, running, over, UNKNOWN):
            backend.destroy(gone)

    def test_destroy_by_many_at_once_returns_to_all_when_it_is_gone(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        with at_its_gate(backend, spec_of) as (made, _):
            seen: list[object] = []

            def destroy() -> None:
                try:
                    backend.destroy(made)
                    backend.inspect(made)
                except SandboxGone:
                    seen.append("gone")
                except BaseException as error:  # noqa: BLE001 - reported by the assertion
                    seen.append(error)

            threads = [threading.Thread(target=destroy) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_SECONDS)
            assert seen == ["gone"] * 6

    def test_what_is_asked_of_a_sandbox_that_is_gone_is_refused_as_such(self, backend: SandboxBackend) -> None:
        for ask in (
            backend.inspect,
            backend.start,
            backend.attach,
            backend.follow_log,
            lambda sandbox: backend.kill(sandbox, "TERM"),
        ):
            with pytest.raises(SandboxGone):
                ask(UNKNOWN)

    def test_the_log_is_followed_from_its_first_byte_to_the_end_of_the_sandbox(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        with at_its_gate(backend, spec_of) as (made, stream):
            script = "echo one; echo bad >&2; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; printf three"
            os.write(stream, gate_script(["sh", "-c", f"(sleep 1; touch /tmp/go)& {script}"], {}, "/", "marker"))
            assert os.read(stream, 1000)
            following = backend.follow_log(made)
            try:
                assert os.get_blocking(following)
                followed = read_to_end(following)
            finally:
                os.close(following)
            assert followed["stdout"].startswith(b"marker\none\ntwo\n")
            assert followed["stderr"] == b"marker\nbad\n"
            finished_at = ended(backend, made).finished_at
            assert finished_at is not None
            assert abs(finished_at.timestamp() - time.time()) < WAIT_SECONDS
            again = backend.follow_log(made)
            try:
                assert read_to_end(again) == {"stdout": b"marker\none\ntwo\nthree", "stderr": b"marker\nbad\n"}
            finally:
                os.close(again)

    def test_a_sandbox_without_a_log_says_so(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        with (
            at_its_gate(backend, spec_of, log_driver="none") as (made, _),
            pytest.raises(LogUnavailable, match=f"no log of sandbox {made}"),
        ):
            backend.follow_log(made)

    def test_a_signal_reaches_the_command_and_one_to_an_ended_sandbox_is_harmless(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        with at_its_gate(backend, spec_of) as (made, stream):
            os.write(stream, gate_script(["sh", "-c", "echo up; exec sleep 1000"], {}, "/"))
            assert b"up" in os.read(stream, 100)
            backend.kill(made, "TERM")
            assert ended(backend, made).exit_code == 143
            backend.kill(made, "TERM")
            backend.kill(made, "KILL")

    def test_a_directory_is_seen_where_it_is_and_nowhere_else(self, backend: SandboxBackend, tmp_path: Path) -> None:
        assert backend.sees(tmp_path)
        assert not backend.sees(tmp_path / "none")

    def test_what_is_written_into_the_root_is_counted_and_what_is_mounted_is_not(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        with sandbox(backend, spec_of) as made:
            assert backend.written_bytes(made) < 1 << 20
        with pytest.raises(SandboxGone):
            backend.written_bytes(made)

    def test_what_a_sandbox_uses_is_counted_from_its_start_and_nothing_of_one_that_has_ended(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        program = "import time; kept = b'x' * (60 << 20); sum(range(10**6)); print('up', flush=True); time.sleep(600)"
        with at_its_gate(backend, spec_of) as (made, stream):
            before = backend.used(made)
            assert before is not None
            assert before.memory_bytes < 60 << 20
            os.write(stream, gate_script(["python3", "-c", program], {}, "/"))
            assert b"up" in os.read(stream, 100)
            after = backend.used(made)
            assert after is not None
            assert 60 << 20 < after.memory_bytes <= 256 << 20
            assert after.cpu_seconds > before.cpu_seconds > 0
            backend.kill(made, "KILL")
            ended(backend, made)
            assert backend.used(made) is None
        with pytest.raises(SandboxGone):
            backend.used(made)

    def test_a_command_that_ignores_the_signal_is_killed(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        with at_its_gate(backend, spec_of) as (made, stream):
            os.write(stream, gate_script(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], {}, "/"))
            assert b"up" in os.read(stream, 100)
            backend.kill(made, "TERM")
            assert backend.inspect(made).running
            backend.kill(made, "KILL")
            assert ended(backend, made).exit_code == 137

    def test_a_missing_image_is_named_with_how_to_get_it(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        said: list[str] = []
        # Port 9 of this machine: nobody listens there.
        with pytest.raises(ImageUnavailable, match=r"127\.0\.0\.1:9/none:1 cannot be had: .*docker load"):
            backend.pull("127.0.0.1:9/none:1", interrupted=lambda: False, say=said.append)
        assert said == ["pulling image 127.0.0.1:9/none:1"]
        with pytest.raises(ImageUnavailable, match=r"127\.0\.0\.1:9/none:1 cannot be had: it is not on this host"):
            backend.create(spec_of(image="127.0.0.1:9/none:1"))
        with pytest.raises(ImageUnavailable, match="docker pull"):
            backend.create(spec_of(image="sandbox/basic:no-such-tag"))
        with pytest.raises(ImageUnavailable, match="NOT/An::Image"):
            backend.pull("NOT/An::Image", interrupted=lambda: False, say=said.append)

    def test_a_pull_from_a_registry_that_does_not_answer_can_be_stopped(self, backend: SandboxBackend) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            asked: list[socket.socket] = []
            thread = threading.Thread(target=lambda: asked.append(silent.accept()[0]))
            thread.start()
            image = f"127.0.0.1:{silent.getsockname()[1]}/silent:1"
            with pytest.raises(ImageUnavailable, match=f"the pull of image {image} was stopped"):
                backend.pull(image, interrupted=lambda: bool(asked), say=lambda _: None)
            thread.join(WAIT_SECONDS)
            asked[0].close()

    def test_only_sandboxes_of_this_installation_and_worker_are_found(
        self, backend: SandboxBackend, spec_of: SpecOf, installation: str
    ) -> None:
        foreign = {INSTALLATION: f"{installation}-other", WORKER: WORKER_NAME}
        neighbour = {INSTALLATION: installation, WORKER: f"{WORKER_NAME}-2"}
        mine = {INSTALLATION: installation, WORKER: WORKER_NAME, "sandbox.task": "t"}
        with (
            sandbox(backend, spec_of, started=False, labels=foreign),
            sandbox(backend, spec_of, started=False, labels=neighbour),
            sandbox(backend, spec_of, started=False, name=f"{installation}-a", labels=mine) as created,
            at_its_gate(backend, spec_of, name=f"{installation}-b") as (running, _),
        ):
            found = {one.id: one for one in backend.find()}
            assert set(found) == {created, running}
            assert (found[created].name, found[created].running) == (f"{installation}-a", False)
            assert found[created].labels["sandbox.task"] == "t"
            assert found[running].running

    def test_endings_of_this_worker_s_sandboxes_are_told_from_the_subscription_on(
        self, backend: SandboxBackend, engine_proxy: EngineProxy, spec_of: SpecOf, installation: str
    ) -> None:
        told: SimpleQueue[str] = SimpleQueue()

        def listen() -> None:
            with closing(DockerBackend(installation, WORKER_NAME)) as listening, suppress(EngineUnavailable):
                for one in listening.endings():
                    told.put(one)
            told.put("over")

        thread = threading.Thread(target=listen)
        thread.start()
        assert told.get(timeout=WAIT_SECONDS) == ""
        foreign = {INSTALLATION: f"{installation}-other", WORKER: WORKER_NAME}
        with sandbox(backend, spec_of, labels=foreign), sandbox(backend, spec_of) as made:
            assert told.get(timeout=WAIT_SECONDS) == made
        assert told.get(timeout=WAIT_SECONDS) == made  # destroyed
        engine_proxy.cut()
        thread.join(WAIT_SECONDS)
        assert told.get(timeout=WAIT_SECONDS) == "over"

    def test_an_engine_that_breaks_off_is_told_apart_from_one_that_refuses(
        self, engine_proxy: EngineProxy, spec_of: SpecOf, installation: str
    ) -> None:
        proxied = DockerBackend(installation, WORKER_NAME)
        with closing(proxied), at_its_gate(proxied, spec_of) as (made, _):
            engine_proxy.cut()
            eventually(lambda: _answers(proxied, made), "a new connection is made by itself")

    def test_the_stop_command_needs_no_worker(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        with at_its_gate(backend, spec_of) as (made, _):
            for _ in range(2):
                done = subprocess.run(backend.stop_argv(made), capture_output=True, text=True, check=False)
                assert (done.returncode, done.stderr) == (0, "")
                assert not backend.inspect(made).running
        assert stop.main(made) == 0

    def test_what_was_stopped_before_its_start_cannot_be_started(
        self, backend: SandboxBackend, spec_of: SpecOf
    ) -> None:
        """Whoever was about to start it may have slept meanwhile."""
        with sandbox(backend, spec_of, started=False) as made:
            for _ in range(2):
                done = subprocess.run(backend.stop_argv(made), capture_output=True, text=True, check=False)
                assert (done.returncode, done.stderr) == (0, "")
            with pytest.raises(SandboxGone):
                backend.start(made)

    def test_one_backend_serves_many_threads(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        with at_its_gate(backend, spec_of) as (made, _):
            seen: list[bool] = []
            threads = [
                threading.Thread(target=lambda: seen.extend(backend.inspect(made).running for _ in range(20)))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_SECONDS)
            assert seen == [True] * 160

    def test_the_size_of_the_engine_s_host_is_known(self, backend: SandboxBackend) -> None:
        backend.ping()
        size = backend.host_size()
        assert size.cpus >= 1
        assert size.memory_bytes > 1 << 28

    def test_a_mount_that_is_not_there_is_refused_with_its_path(self, backend: SandboxBackend, spec_of: SpecOf) -> None:
        with pytest.raises(SandboxError, match="/no/such/directory"):
            backend.create(spec_of(mounts=(Mount(Path("/no/such/directory"), "/workspace"),)))


def test_without_an_engine_every_call_says_so_and_what_to_do(
    installation: str, spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    backend = DockerBackend(installation, WORKER_NAME)
    calls: list[Callable[[], object]] = [
        backend.ping,
        backend.host_size,
        lambda: backend.pull("sandbox/basic:latest", interrupted=lambda: False, say=lambda _: None),
        lambda: backend.create(spec_of()),
        lambda: backend.attach(UNKNOWN),
        lambda: backend.follow_log(UNKNOWN),
        lambda: backend.start(UNKNOWN),
        lambda: backend.inspect(UNKNOWN),
        lambda: backend.kill(UNKNOWN, "TERM"),
        lambda: backend.destroy(UNKNOWN),
        backend.find,
        lambda: next(backend.endings()),
    ]
    for call in calls:
        with pytest.raises(EngineUnavailable, match=r"does not answer: .*; start it, or set DOCKER_HOST"):
            call()
    assert stop.main(UNKNOWN) == 1


@pytest.fixture
def empty_image(engine: docker.APIClient) -> Iterator[str]:
    """An image that holds one text file and no shell."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a-file"))
    name = "sandbox-test/without-shell:latest"
    engine.import_image_from_data(buffer.getvalue(), repository="sandbox-test/without-shell", tag="latest")
    yield name
    engine.remove_image(name, force=True)


def test_an_image_without_a_shell_is_refused_before_anything_is_started(
    backend: DockerBackend, spec_of: SpecOf, empty_image: str
) -> None:
    with pytest.raises(SandboxError, match=f"image {empty_image} has no /bin/sh"):
        backend.create(spec_of(image=empty_image))
    assert backend.find() == []


@pytest.fixture
def wilful_image(engine: docker.APIClient, spec_of: SpecOf, backend: DockerBackend) -> Iterator[str]:
    """An image that wants to decide for itself: user, entry point, health check, volume, stop signal."""
    changes = [
        'ENTRYPOINT ["/bin/echo", "entry"]', "USER 0", "VOLUME /data", "ENV FROM_IMAGE=1",
        'HEALTHCHECK --interval=1s CMD ["touch", "/tmp/health"]', "ENV HOME=/root", "WORKDIR /etc",
    ]  # fmt: skip
    with sandbox(backend, spec_of, started=False) as made:
        engine.commit(made, repository="sandbox-test/wilful", tag="latest", changes=changes)
    yield "sandbox-test/wilful:latest"
    engine.remove_image("sandbox-test/wilful:latest", force=True)


def test_an_image_decides_neither_user_nor_main_process(
    backend: DockerBackend, spec_of: SpecOf, run_inside: RunInside, wilful_image: str, engine: docker.APIClient
) -> None:
    image = backend.pull(wilful_image, interrupted=lambda: False, say=pytest.fail)
    assert image.volumes == ("/data",)
    spec = spec_of(image=image.id, volumes=image.volumes)
    result = run_inside(["sh", "-c", "id -u; echo $HOME $FROM_IMAGE; pwd; ls /tmp"], spec)
    assert (result.exit_code, result.stdout.split()) == (0, ["1000", "/home/agent", "1", "/"])
    with sandbox(backend, spec_of, started=False, image=image.id, volumes=image.volumes) as made:
        found = engine.inspect_container(made)
        assert found["Config"]["Healthcheck"]["Test"] == ["NONE"]
        assert backend.inspect(made, spec).mismatches == ()
        assert found["Mounts"] == []


def test_a_volume_that_an_image_brings_is_found_out_and_goes_with_its_sandbox(
    backend: DockerBackend, spec_of: SpecOf, wilful_image: str, engine: docker.APIClient
) -> None:
    with sandbox(backend, spec_of, started=False, image=wilful_image) as made:
        [mount] = engine.inspect_container(made)["Mounts"]
        assert "'/data'" in "".join(backend.inspect(made, spec_of(image=wilful_image)).mismatches)
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_volume(mount["Name"])


def test_a_container_that_was_made_otherwise_is_found_out(
    backend: DockerBackend, spec_of: SpecOf, engine: docker.APIClient, installation: str
) -> None:
    spec = spec_of()
    with sandbox(backend, spec_of, started=False) as made:
        engine.update_container(made, mem_limit=512 << 20, memswap_limit=512 << 20)
        assert backend.inspect(made, spec).mismatches == (
            "Memory is 536870912, asked for 268435456",
            "MemorySwap is 536870912, asked for 268435456",
        )


def test_the_log_is_followed_over_tcp_too(
    backend: DockerBackend, spec_of: SpecOf, installation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EngineProxy() as proxy, sandbox(backend, spec_of) as made:
        ended(backend, made)
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{proxy.port}")
        with closing(DockerBackend(installation, WORKER_NAME)) as remote:
            following = remote.follow_log(made)
            try:
                assert read_to_end(following) == {"stdout": b"", "stderr": b""}
            finally:
                os.close(following)
            with pytest.raises(SandboxGone):
                remote.follow_log(UNKNOWN)


def test_over_ssh_the_log_cannot_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://host")
    with pytest.raises(LogUnavailable, match="set DOCKER_HOST to unix:// or tcp://"):
        follow_log("1.41", UNKNOWN)


def test_the_kernel_s_own_counts_are_what_the_engine_tells_and_cost_it_one_call(
    backend: DockerBackend, spec_of: SpecOf
) -> None:
    with at_its_gate(backend, spec_of) as (made, _):
        gauge = UseGauge()
        seen = gauge.look(backend, made)
        told = backend.used(made)
        assert seen is not None
        assert told is not None
        assert not gauge.asks_engine
        assert seen.memory_bytes == pytest.approx(told.memory_bytes, abs=1 << 20)
        assert seen.cpu_seconds == pytest.approx(told.cpu_seconds, abs=0.5)
        assert seen.cpu_seconds <= told.cpu_seconds
        backend.kill(made, "KILL")
        ended(backend, made)
        assert gauge.look(backend, made) is None
        assert gauge.cpu_seconds == seen.cpu_seconds
