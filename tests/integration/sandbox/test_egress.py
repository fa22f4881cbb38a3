"""The one way out of a git helper: to the repository's host, to nothing else, and only while git runs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from orchestrator.manifest import Repository
from orchestrator.models import Claim
from orchestrator.outcomes import Fault
from tests.integration.sandbox import repositories
from tests.integration.sandbox.conftest import ENTRY_KINDS, EntranceOf, RunInside, SpecOf
from tests.integration.sandbox.git_server import GitServer, make_certificate, serving
from tests.integration.sandbox.repositories import commit, head, make_repository, write
from workers import git as workers_git
from workers.egress import EgressReport, EgressUnavailable, Policy, listener
from workers.egress.namespace import listen_inside
from workers.git import CloneFailed, GitSandbox, clone
from workers.sandbox.docker.engine import DockerBackend
from workers.sandbox.port import Mount, SandboxSpec
from workers.workspace import AttemptDirectory

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another network namespace"),
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""What a test allows, since all its servers are here; an operator would name a private range."""

CloneFrom = Callable[..., str]
BY_EACH_ENTRY = pytest.mark.parametrize("entry_kind", ENTRY_KINDS)


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    made = AttemptDirectory.of(tmp_path / "work", Claim("t", 1, 1))
    made.create()
    return made


@pytest.fixture
def clone_from(
    backend: DockerBackend,
    spec_of: SpecOf,
    directory: AttemptDirectory,
    monkeypatch: pytest.MonkeyPatch,
    entrance_of: EntranceOf,
) -> CloneFrom:
    monkeypatch.setattr(workers_git, "BACKOFF_SECONDS", 0.0)

    def run(url: str, *, private: tuple[str, ...] = LOOPBACK, trusting: Path | None = None, **wanted: object) -> str:
        extra = (Mount(trusting, "/etc/ssl/certs/ca-certificates.crt", read_only=True),) if trusting else ()

        def spec_with(mounts: tuple[Mount, ...]) -> SandboxSpec:
            return spec_of(mounts=(*mounts, *extra))

        policy = Policy.for_url(url, private)
        git = GitSandbox(backend, spec_with, lambda: False, time.monotonic() + 120, way_out(entrance_of, policy))
        asked = {"branch": None, "commit": None, "depth": None, "submodules": False, "subpath": None, **wanted}
        return clone(git, Repository(url=url, **asked), directory, lambda _: None)  # type: ignore[arg-type]

    return run


def way_out(entrance_of: EntranceOf, policy: Policy) -> Callable[[str], AbstractContextManager[EgressReport]]:
    """What opens a listener with a policy in a helper's sandbox."""
    return lambda sandbox: listener(entrance_of(sandbox), policy)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "served" / "group" / "upstream")


@pytest.fixture
def server(upstream: Path) -> Iterator[GitServer]:
    with serving(GitServer(upstream.parents[1])) as running:
        yield running


@BY_EACH_ENTRY
def test_a_repository_is_cloned_over_http(
    clone_from: CloneFrom, server: GitServer, upstream: Path, directory: AttemptDirectory
) -> None:
    url = f"http://127.0.0.1:{server.port}/group/upstream/.git"
    assert clone_from(url, branch="main") == head(upstream)
    assert (directory.workspace / "README.md").read_text() == "two\n"
    assert repositories.git(directory.workspace, "remote", "get-url", "origin") == url
    assert {host for _, host in server.requests} == {f"127.0.0.1:{server.port}"}
    assert {line.split()[0] for line, _ in server.requests} == {"GET", "POST"}


@BY_EACH_ENTRY
def test_a_large_repository_with_a_long_history_comes_whole(
    clone_from: CloneFrom, server: GitServer, upstream: Path, directory: AttemptDirectory
) -> None:
    large = os.urandom(12 << 20)
    commit(upstream, {"large.bin": large})
    clone_from(f"http://127.0.0.1:{server.port}/group/upstream/.git")
    assert (directory.workspace / "large.bin").read_bytes() == large


def test_a_shallow_commit_and_a_submodule_on_the_same_host_come_over_http(
    clone_from: CloneFrom, server: GitServer, upstream: Path, directory: AttemptDirectory
) -> None:
    inner = make_repository(upstream.parent / "inner")
    write(upstream, {".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = ../../inner/.git\n'})
    repositories.git(upstream, "update-index", "--add", "--cacheinfo", f"160000,{head(inner)},sub")
    repositories.git(upstream, "add", ".gitmodules")
    repositories.git(upstream, "commit", "--quiet", "--message=add a submodule")
    wanted = head(upstream)
    commit(upstream, {"later": "x"})
    url = f"http://user:se%40cret@127.0.0.1:{server.port}/group/upstream/.git"
    server.credential = "user:se@cret"
    assert clone_from(url, commit=wanted, depth=1, submodules=True) == wanted
    assert (directory.workspace / "sub" / "README.md").read_text() == "two\n"
    # The password was needed for both, and is in nothing that the task will see.
    shown = subprocess.run(["grep", "-rIl", "-e", "cret", directory.root], capture_output=True, text=True, check=False)
    assert shown.stdout == ""


def test_a_wrong_password_fails_without_being_said(clone_from: CloneFrom, server: GitServer) -> None:
    server.credential = "user:right"
    with pytest.raises(CloneFailed) as failed:
        clone_from(f"http://user:wr0ng@127.0.0.1:{server.port}/group/upstream/.git")
    assert "wr0ng" not in str(failed.value.outcome)
    assert failed.value.outcome.fault is Fault.PLATFORM


def test_a_token_without_a_password_is_handed_in(clone_from: CloneFrom, server: GitServer, upstream: Path) -> None:
    server.credential = "t0ken:"
    assert clone_from(f"http://t0ken@127.0.0.1:{server.port}/group/upstream/.git") == head(upstream)


def test_a_repository_is_cloned_over_https(
    clone_from: CloneFrom, upstream: Path, tmp_path: Path, directory: AttemptDirectory
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    certificate, key = make_certificate(tmp_path)
    with serving(GitServer(upstream.parents[1]), (certificate, key)) as server:
        url = f"https://localhost:{server.port}/group/upstream/.git"
        assert clone_from(url, trusting=certificate, depth=1) == head(upstream)
        assert (directory.workspace / "README.md").read_text() == "two\n"
        directory.create()
        with pytest.raises(CloneFailed, match=r"could not be cloned in 3 tries: fatal: unable to access .*certificate"):
            clone_from(url)


def test_a_repository_that_is_not_there_fails_in_git_s_words(clone_from: CloneFrom, server: GitServer) -> None:
    with pytest.raises(CloneFailed, match="no-such/' not found"):
        clone_from(f"http://127.0.0.1:{server.port}/no-such")


def test_a_host_that_is_not_public_is_refused_with_the_setting_that_allows_it(
    clone_from: CloneFrom, server: GitServer
) -> None:
    # Git writes some spellings anew before it asks: then the host is another one than the URL's.
    for host, words in (
        ("127.0.0.1", "SANDBOX_EGRESS_PRIVATE_CIDRS"),
        ("localhost", "leads to"),
        ("2130706433", "may not"),
    ):
        with pytest.raises(CloneFailed, match=words) as failed:
            clone_from(f"http://{host}:{server.port}/group/upstream/.git", private=())
        assert failed.value.outcome.fault is Fault.USER
    assert server.requests == []


def test_a_server_that_cannot_be_reached_is_named(clone_from: CloneFrom) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CloneFailed, match=rf"127\.0\.0\.1:{port} cannot be reached: Connection refused") as failed:
        clone_from(f"http://127.0.0.1:{port}/x")
    assert failed.value.outcome.fault is Fault.PLATFORM


def test_a_redirect_or_a_submodule_to_another_host_is_refused(
    clone_from: CloneFrom, server: GitServer, upstream: Path
) -> None:
    with serving(GitServer(upstream.parents[1])) as other:
        server.redirect_to = f"http://localhost:{other.port}"
        with pytest.raises(CloneFailed, match=f"localhost:{other.port} may not be reached, only the repository's own"):
            clone_from(f"http://127.0.0.1:{server.port}/group/upstream/.git")
        assert other.requests == []


# The listener itself, asked by a program that is no git.


ASK = r"""
import json, socket, sys
answers = []
for request in json.loads(sys.argv[1]):
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as proxy:
            proxy.sendall(request.encode("latin-1"))
            answer = b""
            while data := proxy.recv(65536):
                answer += data
            answers.append(answer.decode("latin-1"))
    except OSError as error:
        answers.append(type(error).__name__)
print(json.dumps(answers))
"""


@contextmanager
def origin(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that keeps what it got until its client has nothing more to say for a moment, then answers."""
    received: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.5)
                data = b""
                try:
                    while more := connection.recv(65536):
                        data += more
                except TimeoutError:
                    pass
                received.append(data)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1], received
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def ask(run_inside: RunInside, entrance_of: EntranceOf) -> Callable[..., list[str]]:
    """Return a function that sends requests to the proxy of a sandbox that may reach one port of 127.0.0.1."""

    def run(port: int, *requests: str, scheme: str = "http") -> list[str]:
        policy = Policy.for_url(f"{scheme}://127.0.0.1:{port}/x", LOOPBACK)
        command = ["python3", "-c", ASK, json.dumps(requests)]
        result = run_inside(command, network=way_out(entrance_of, policy))
        assert result.exit_code == 0, result.stderr
        answers: list[str] = json.loads(result.stdout)
        return answers

    return run


@BY_EACH_ENTRY
def test_other_hosts_ports_and_methods_are_refused_and_nothing_is_dialled(ask: Callable[..., list[str]]) -> None:
    with origin(b"never") as (other, received), origin(b"never") as (port, _):
        answers = ask(
            port,
            f"CONNECT 127.0.0.1:{other} HTTP/1.1\r\n\r\n",
            f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n",
            f"GET http://127.0.0.1:{other}/ HTTP/1.1\r\n\r\n",
            f"GET http://127.0.0.1:{port}@127.0.0.1:{other}/ HTTP/1.1\r\n\r\n",
            f"TRACE http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n",
            f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n",
            "CONNECT 127.0.0.1:3128 HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            "A" * 20_000,
        )
        assert received == []
    assert [answer.split("\r\n")[0] for answer in answers[:-1]] == ["HTTP/1.1 403 Forbidden"] * 8
    assert answers[-1] == "ConnectionResetError" or answers[-1].startswith("HTTP/1.1 403 Forbidden")
    assert f"127.0.0.1:{other} may not be reached" in answers[0]


@BY_EACH_ENTRY
def test_a_tunnel_passes_bytes_both_ways(ask: Callable[..., list[str]]) -> None:
    with origin(b"pong") as (port, received):
        asked = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\nping"
        [answer] = ask(port, asked, scheme="ssh")
        assert answer == "HTTP/1.1 200 Connection established\r\n\r\npong"
        assert received == [b"ping"]


@BY_EACH_ENTRY
def test_one_plain_request_is_passed_on_for_the_host_of_its_url_and_no_second_one(
    ask: Callable[..., list[str]],
) -> None:
    with origin(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (port, received):
        second = f"GET http://127.0.0.1:{port}/second HTTP/1.1\r\n\r\n"
        asked = (
            f"POST http://127.0.0.1:{port}/first HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 4\r\n\r\nbody{second}"
        )
        [answer] = ask(port, asked)
        assert answer == "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        head = f"POST /first HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
        assert received == [head.encode()]


MANY = r"""
import socket, sys, time
held = []
for _ in range(64):
    held.append(socket.create_connection(("127.0.0.1", 3128), 10))
    held[-1].sendall(b"CONNECT 127.0.0.1:" + sys.argv[1].encode() + b" HTTP/1.1\r\n\r\n")
    assert held[-1].recv(100).startswith(b"HTTP/1.1 200"), len(held)
more = socket.create_connection(("127.0.0.1", 3128), 10)
more.settimeout(30)
try:
    print("65th:", more.recv(100))
except ConnectionResetError:
    print("65th: b''")
held[0].close()
for _ in range(100):
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as again:
            again.sendall(b"CONNECT 127.0.0.1:" + sys.argv[1].encode() + b" HTTP/1.1\r\n\r\n")
            if again.recv(100).startswith(b"HTTP/1.1 200"):
                print("again")
                break
    except ConnectionResetError:
        pass
    time.sleep(0.1)
"""


@BY_EACH_ENTRY
def test_the_sixty_fifth_connection_is_refused_until_one_ends(run_inside: RunInside, entrance_of: EntranceOf) -> None:
    def hold(connection: socket.socket) -> None:
        with connection:
            while connection.recv(100):
                pass

    def accept(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=hold, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        thread = threading.Thread(target=accept, args=(listening,))
        thread.start()
        port = listening.getsockname()[1]
        policy = Policy.for_url(f"ssh://127.0.0.1:{port}/x", LOOPBACK)
        result = run_inside(["python3", "-c", MANY, str(port)], network=way_out(entrance_of, policy))
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "65th: b''\nagain\n"


@BY_EACH_ENTRY
def test_the_listener_is_closed_with_its_block_and_the_next_connection_is_refused(
    backend: DockerBackend, spec_of: SpecOf, entrance_of: EntranceOf
) -> None:
    made = backend.create(spec_of())
    try:
        stream = backend.attach(made)
        backend.start(made)
        process_id = backend.inspect(made).process_id
        assert process_id
        policy = Policy.for_url("http://127.0.0.1:1/x", LOOPBACK)
        threads = threading.active_count()
        with listener(entrance_of(made), policy):
            assert connects(process_id)
        assert not connects(process_id)
        with listener(entrance_of(made), policy):
            assert connects(process_id)
        assert not connects(process_id)
        assert threading.active_count() == threads
        os.close(stream)
    finally:
        backend.destroy(made)


@pytest.mark.parametrize("entry_kind", ["sidecar"])
def test_a_sidecar_that_was_killed_is_missed_and_opening_again_replaces_it(
    backend: DockerBackend, spec_of: SpecOf, entrance_of: EntranceOf
) -> None:
    made = backend.create(spec_of())
    entrance = entrance_of(made)
    try:
        stream = backend.attach(made)
        backend.start(made)
        process_id = backend.inspect(made).process_id
        assert process_id
        for server in entrance.open():
            server.close()
        assert entrance.stands()
        [sidecar] = [one.id for one in backend.find() if one.id != made]
        subprocess.run(["docker", "kill", sidecar], check=True, capture_output=True)
        assert not entrance.stands()
        [server] = entrance.open()
        with server:
            assert entrance.stands()
            assert connects(process_id)
        os.close(stream)
    finally:
        entrance.close()
        backend.destroy(made)


def connects(process_id: int) -> bool:
    """Try to connect to the proxy from inside the network namespace of a process."""
    command = ["nsenter", f"--net=/proc/{process_id}/ns/net", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3128"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("process_id", [os.getpid(), 4_000_000], ids=["our own", "gone"])
def test_no_way_out_is_opened_for_a_process_that_is_in_no_sandbox(process_id: int) -> None:
    with pytest.raises(EgressUnavailable, match="run the worker as root on the engine's host"):
        listen_inside(process_id)
