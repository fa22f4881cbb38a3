"""K3, K4 and the delivery of secrets: who sees a value, and who does not (isolation-and-faults.md §4)."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.e2e.repositories import Repository, make_repository
from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, submit
from tests.integration.sandbox.git_server import GitServer, make_certificate, serving
from tests.integration.sandbox.repositories import git
from tests.servers.ssh import SshServer
from tests.servers.vault import TOKEN, Vault, running_vault

pytestmark = pytest.mark.docker

CONTAINERS = Path("/var/lib/docker/containers")
TRUSTING = f"sandbox/test-trusting:{secrets.token_hex(8)}"


@dataclass
class Operated:
    """A product whose operator keeps secrets, and servers that ask for them. `values` by source."""

    product: Product
    api: httpx.Client
    values: dict[str, str]
    upstream: Repository
    git_server: GitServer
    ssh: SshServer
    known_hosts: Path

    def run(self, *secrets: Json, repository: Json | None = None, **run: object) -> Json:
        """The task once it has ended."""
        sections = {"secrets": list(secrets), **({"repository": repository} if repository else {})}
        return ended(self.api, submit(self.api, run_manifest(**sections, **run)))  # type: ignore[arg-type]

    def everything_told(self, task: Json) -> str:
        """What the API says of a task, its log included."""
        task_id = task["task_id"]
        log = self.api.get(f"/tasks/{task_id}/logs", params={"format": "ndjson", "attempt": "all"}).text
        return f"{task}{log}{self.api.get(f'/tasks/{task_id}').text}"


def reference(name: str, source: str, key: str) -> Json:
    return {"name": name, "source": source, "key": key}


CANARY = reference("CANARY", "env", "CANARY")
GIT_TOKEN = reference("GIT_TOKEN", "file", "git/token")
SSH_KEY = reference("SSH_KEY", "file", "git/key")


@pytest.fixture(scope="module")
def trusting_image(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The image `basic` that trusts the test's certificate, as an operator with an authority of their own makes it."""
    directory = tmp_path_factory.mktemp("image")
    certificate, key = make_certificate(directory)
    (directory / "Dockerfile").write_text(
        "FROM sandbox/basic:latest\nUSER root\nCOPY certificate.pem /usr/local/share/ca-certificates/test.crt\n"
        "RUN PATH=/usr/sbin:$PATH update-ca-certificates\nUSER agent\n"
    )
    (directory / ".dockerignore").write_text("key.pem\n")
    command = ["docker", "build", "--quiet", "--tag", TRUSTING, str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    yield certificate, key
    subprocess.run(["docker", "rmi", "--force", TRUSTING], check=True, capture_output=True)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def operated(
    trusting_image: tuple[Path, Path], ssh_server: SshServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operated]:
    home = tmp_path_factory.mktemp("operated")
    values = {source: f"canary-{source}-{secrets.token_hex(16)}" for source in ("env", "file", "vault", "git")}
    upstream = make_repository(home / "repositories" / "upstream")
    (home / "secrets" / "git").mkdir(parents=True)
    (home / "secrets" / "canary").write_text(f"{values['file']}\n")
    (home / "secrets" / "git" / "token").write_text(f"{values['git']}\n")
    (home / "secrets" / "git" / "key").write_text(ssh_server.private_key)
    (home / "vault-token").write_text(TOKEN)
    (home / "profiles.yaml").write_text(f"basic: {{image: '{TRUSTING}'}}\n")
    known_hosts = home / "known_hosts"
    known_hosts.write_text(ssh_server.known_hosts_line())
    git_server = GitServer(home / "repositories", credential=f"x-access-token:{values['git']}")
    held = Vault({"ci/canary": {"value": values["vault"]}})
    with running_vault(held) as vault, serving(git_server, trusting_image):
        settings = {
            "SANDBOX_SECRET_CANARY": values["env"],
            "DATABASE_URL": f"postgresql://user:{values['env']}@host/db",
            "SANDBOX_SECRETS_DIR": str(home / "secrets"),
            "SANDBOX_VAULT_URL": f"http://127.0.0.1:{vault.port}",
            "SANDBOX_VAULT_TOKEN_FILE": str(home / "vault-token"),
            "SANDBOX_EGRESS_PRIVATE_CIDRS": "127.0.0.0/8,::1/128",
            "SANDBOX_SSH_KNOWN_HOSTS": str(known_hosts),
            "SANDBOX_PROFILES": str(home / "profiles.yaml"),
        }
        with (
            running_product(home / "data", **settings) as product,
            httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
        ):
            yield Operated(product, api, values, upstream, git_server, ssh_server, known_hosts)


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


DIGESTS = 'for name in CANARY FILE VAULT; do printf %s "${!name}" | sha256sum | cut -d " " -f 1; done\n'


def test_a_task_is_given_its_secrets_from_every_source(operated: Operated) -> None:
    wanted = (CANARY, reference("FILE", "file", "canary"), reference("VAULT", "vault", "ci/canary:value"))
    task = operated.run(*wanted, script=DIGESTS)
    assert task["state"] == "completed", task["outcome"]
    printed = raw_output(operated.api, task["task_id"]).decode().split()
    assert printed == [digest(operated.values[source]) for source in ("env", "file", "vault")]
    assert task["definition"]["secrets"] == list(wanted)
    told = operated.everything_told(task)
    assert not [value for value in operated.values.values() if value in told]


def test_a_task_gets_no_variable_of_the_worker_that_it_did_not_ask_for(operated: Operated) -> None:
    task = operated.run(CANARY, command=["env", "-u", "CANARY"])
    names = {line.partition("=")[0] for line in raw_output(operated.api, task["task_id"]).decode().splitlines()}
    assert not {name for name in names if name.startswith("SANDBOX_") or name == "DATABASE_URL"}


@pytest.mark.parametrize(
    "wanted",
    [
        reference("DB", "env", "DATABASE_URL"),
        reference("DB", "env", "SANDBOX_STORE_URL"),
        reference("DB", "vault", "ci/other"),
        reference("DB", "file", "git"),
    ],
    ids=["env", "setting", "vault", "file"],
)
def test_k3_what_the_operator_does_not_offer_fails_the_task_at_staging(operated: Operated, wanted: Json) -> None:
    task = operated.run(wanted, command=["true"])
    outcome = task["outcome"]
    assert (task["state"], outcome["reason"], outcome["fault"]) == ("failed", "secret_unavailable", "user")
    assert f"secret DB (source {wanted['source']}, key {wanted['key']})" in outcome["message"]
    assert outcome["hint"]
    assert not [value for value in operated.values.values() if value in operated.everything_told(task)]


@pytest.mark.parametrize("key", ["../../etc/shadow", "/etc/shadow", "a//b", "./a", "a\n"])
def test_k3_a_file_key_that_leads_elsewhere_is_refused_at_once(operated: Operated, key: str) -> None:
    answer = operated.api.post("/tasks", json=run_manifest(command=["true"], secrets=[reference("A", "file", key)]))
    assert answer.status_code == 400
    assert "/secrets/0/key" in answer.text


def test_a_value_is_in_no_configuration_of_the_engine_no_file_and_no_argument_while_its_command_runs(
    operated: Operated,
) -> None:
    with _Arguments(operated.values["env"]) as seen:
        script = 'test -n "$CANARY"; echo ready; sleep 600\n'
        task_id = submit(operated.api, run_manifest(script=script, secrets=[CANARY]))
        eventually("the command runs", lambda: b"ready" in raw_output(operated.api, task_id))
        eventually("the containers of other tasks are gone", lambda: len(operated.product.containers()) == 1)
        (container,) = operated.product.containers()
        inspected = subprocess.run(["docker", "inspect", container], check=True, capture_output=True).stdout
        (kept,) = CONTAINERS.glob(f"{container}*")
        found = _files_with(operated.values["env"], kept, operated.product.directory)
        assert b"CANARY" not in inspected
        assert operated.values["env"].encode() not in inspected
        assert found == ""
        operated.api.delete(f"/tasks/{task_id}", params={"force": "true"})
        ended(operated.api, task_id)
    assert seen.samples > 10
    assert seen.hits == []


def _files_with(value: str, *directories: Path) -> str:
    """The names of the files that hold `value`, which is no argument of this search itself."""
    assert all(any(directory.iterdir()) for directory in directories)
    command = ["grep", "--recursive", "--devices=skip", "--files-with-matches", "--fixed-strings", "--file=-"]
    found = subprocess.run(
        [*command, *map(str, directories)], input=f"{value}\n", capture_output=True, text=True, check=False
    )
    return found.stdout


class _Arguments:
    """Looks at the arguments of all processes of this machine, some fifty times a second."""

    def __init__(self, value: str) -> None:
        self.value = value.encode()
        self.samples = 0
        self.hits: list[bytes] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for one in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments = one.read_bytes()
                except OSError:  # it ended
                    continue
                if self.value in arguments:
                    self.hits.append(arguments)
            self.samples += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


def test_an_https_repository_is_cloned_with_a_token_that_the_command_never_sees(operated: Operated) -> None:
    url = f"https://localhost:{operated.git_server.port}/upstream/.git"
    script = "git config --get remote.origin.url; git rev-parse HEAD; env; cat .git/config; ls -A /tmp; "
    script += "grep -rl canary-git /workspace /home/agent /tmp || echo nowhere\n"
    with _Arguments(operated.values["git"]) as seen:
        task = operated.run(GIT_TOKEN, repository={"url": url, "credential": "GIT_TOKEN"}, script=script)
    assert task["state"] == "completed", task["outcome"]
    printed = raw_output(operated.api, task["task_id"]).decode()
    assert printed.split()[:2] == [url, operated.upstream.head]
    assert printed.split()[-1] == "nowhere"
    assert "GIT_TOKEN" not in printed
    assert operated.values["git"] not in operated.everything_told(task)
    assert seen.hits == []


def test_a_submodule_of_another_host_is_neither_reached_nor_given_the_token(
    operated: Operated, trusting_image: tuple[Path, Path]
) -> None:
    elsewhere = GitServer(operated.upstream.path.parent)
    with serving(elsewhere, trusting_image):
        path = operated.upstream.path.with_name("outer")
        outer = make_repository(path)
        modules = f'[submodule "s"]\n\tpath = s\n\turl = https://localhost:{elsewhere.port}/upstream/.git\n'
        (path / ".gitmodules").write_text(modules)
        git(path, "add", ".gitmodules")
        git(path, "update-index", "--add", "--cacheinfo", f"160000,{outer.head},s")
        git(path, "commit", "--quiet", "--message=With a submodule")
        url = f"https://localhost:{operated.git_server.port}/outer/.git"
        repository = {"url": url, "credential": "GIT_TOKEN", "submodules": True}
        task = operated.run(GIT_TOKEN, repository=repository, command=["true"])
    assert task["outcome"]["reason"] == "clone_failed"
    assert f"localhost:{elsewhere.port} may not be reached" in task["outcome"]["message"]
    assert elsewhere.requests == []


def test_k4_a_clone_that_a_server_refuses_is_told_without_the_token(operated: Operated) -> None:
    wrong = f"wrong-{operated.values['git']}"
    (operated.known_hosts.parent / "secrets" / "git" / "wrong").write_text(wrong)
    url = f"localhost:{operated.git_server.port}/upstream/.git"
    task = operated.run(
        reference("WRONG", "file", "git/wrong"),
        repository={"url": f"https://{url}", "credential": "WRONG"},
        command=["true"],
    )
    assert task["outcome"]["reason"] == "clone_failed", task["outcome"]
    assert f"https://{url} could not be cloned" in task["outcome"]["message"]
    assert operated.values["git"] not in operated.everything_told(task)
    task = operated.run(repository={"url": f"https://me:{wrong}@{url}"}, command=["true"])
    assert task["outcome"]["reason"] == "clone_failed"
    assert f"https://{url} could not be cloned" in task["outcome"]["message"]
    assert operated.values["git"] not in str(task["outcome"])
    log = operated.api.get(f"/tasks/{task['task_id']}/logs", params={"format": "ndjson", "attempt": "all"}).text
    assert operated.values["git"] not in log
    assert operated.values["git"] not in operated.product.log_file.read_text()


def test_an_ssh_repository_is_cloned_with_a_key_through_the_listener(operated: Operated) -> None:
    url = operated.ssh.url(operated.upstream.path)
    script = "git config --get remote.origin.url; git rev-parse HEAD; env; ls -A /tmp; "
    script += "grep -rl 'BEGIN OPENSSH' /workspace /home/agent /tmp || echo nowhere\n"
    task = operated.run(SSH_KEY, repository={"url": url, "credential": "SSH_KEY", "depth": 1}, script=script)
    assert task["state"] == "completed", task["outcome"]
    printed = raw_output(operated.api, task["task_id"]).decode()
    assert printed.split()[:2] == [url, operated.upstream.head]
    assert printed.split()[-1] == "nowhere"
    assert "SSH_KEY" not in printed
    assert operated.ssh.private_key.splitlines()[1] not in operated.everything_told(task)


def test_an_ssh_host_is_trusted_only_by_the_operator_s_file(operated: Operated) -> None:
    repository = {"url": operated.ssh.url(operated.upstream.path), "credential": "SSH_KEY"}
    trusted = operated.known_hosts.read_text()
    try:
        operated.known_hosts.write_text("")
        unknown = operated.run(SSH_KEY, repository=repository, command=["true"])["outcome"]
        operated.known_hosts.write_text(operated.ssh.known_hosts_line("stranger"))
        changed = operated.run(SSH_KEY, repository=repository, command=["true"])["outcome"]
    finally:
        operated.known_hosts.write_text(trusted)
    assert (unknown["reason"], unknown["fault"]) == ("clone_failed", "user")
    assert f"the key of [localhost]:{operated.ssh.port} is not among the known hosts" in unknown["message"]
    assert f"ssh-keyscan -p {operated.ssh.port} localhost" in unknown["hint"]
    assert changed["reason"] == "clone_failed"
    assert "Host key verification failed" in changed["message"]


def test_a_key_that_the_server_does_not_take_is_told(operated: Operated) -> None:
    key = (operated.ssh.directory / "stranger").read_text()
    (operated.known_hosts.parent / "secrets" / "git" / "stranger").write_text(key)
    repository = {"url": operated.ssh.url(operated.upstream.path), "credential": "KEY"}
    task = operated.run(reference("KEY", "file", "git/stranger"), repository=repository, command=["true"])
    assert task["outcome"]["reason"] == "clone_failed"
    assert "Permission denied (publickey)" in task["outcome"]["message"]
    assert key.splitlines()[1] not in operated.everything_told(task)


def test_a_hundred_secrets_are_handed_in_together(operated: Operated) -> None:
    many = [reference(f"S{number}", "file", "canary") for number in range(100)]
    task = operated.run(*many, script='test -n "$S0"; test "$S0" = "$S99"\n')
    assert task["state"] == "completed", task["outcome"]
