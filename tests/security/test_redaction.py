"""K1, K2, K5, K6: a canary is used in every way, and then looked for everywhere (isolation-and-faults.md §4)."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product, eventually, processes_with, running_product
from tests.e2e.submitting import Json, ended, raw_output, run_manifest, submit
from tests.security.leaks import CONTAINERS, Canaries, Recorder, inspected, left_by
from tests.servers.vault import TOKEN, Vault, running_vault

pytestmark = pytest.mark.docker


def canary() -> str:
    """32 random bytes."""
    return secrets.token_hex(32)


def key_file() -> str:
    """A value of several lines, each of them secret."""
    return "\n".join(["-----BEGIN TEST KEY-----", *(canary() for _ in range(3)), "-----END TEST KEY-----"])


SECRETS = [
    {"name": "CANARY", "source": "env", "key": "CANARY"},
    {"name": "KEY", "source": "file", "key": "key"},
    {"name": "VAULT", "source": "vault", "key": "ci/canary:value"},
]


@dataclass
class Leaky:
    """A product whose tasks have secrets from every source."""

    product: Product
    api: httpx.Client
    canaries: Canaries

    def submit(self, script: str, **sections: object) -> str:
        return submit(self.api, run_manifest(script=script, secrets=SECRETS, **sections))  # type: ignore[arg-type]

    def left(self, task: str) -> list[str]:
        return left_by(self.product, self.api, task, self.canaries)


@pytest.fixture(scope="module")
def leaky(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaky]:
    home = tmp_path_factory.mktemp("leaky")
    value, key, vaulted = canary(), key_file(), canary()
    (home / "secrets").mkdir()
    (home / "secrets" / "key").write_text(key)
    (home / "vault-token").write_text(TOKEN)
    with running_vault(Vault({"ci/canary": {"value": vaulted}})) as vault:
        settings = {
            "SANDBOX_SECRET_CANARY": value,
            "SANDBOX_SECRETS_DIR": str(home / "secrets"),
            "SANDBOX_VAULT_URL": f"http://127.0.0.1:{vault.port}",
            "SANDBOX_VAULT_TOKEN_FILE": str(home / "vault-token"),
        }
        with (
            running_product(home / "data", **settings) as product,
            httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
        ):
            yield Leaky(product, api, Canaries([value, *key.split("\n")[1:-1], vaulted]))


IN_EVERY_WAY = r"""
for value in "$CANARY" "$KEY" "$VAULT"; do
  echo "whole: $value"
  echo "wrapped:"; printf %s "$value" | base64
  for before in "" a ab abc; do printf 'user:%s%s' "$before" "$value" | base64 -w 0; echo; done
  printf %s "$value" | python3 -c 'import json, sys, urllib.parse
value = sys.stdin.read()
print(json.dumps({"password": value}), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value))'
  echo "on the other stream: $value" >&2
done
set -x
test "$CANARY" = "$KEY" || true
set +x
for at in 1 8 40 63; do printf %s "${CANARY:0:$at}"; sleep 0.4; echo "${CANARY:$at} was split at $at"; done
printf "no end of line: %s" "$VAULT"
exit 3
"""
WAITING = "until test -e /tmp/go; do sleep 0.05; done\n"
NAMING_A_FILE = 'echo harmless > "/workspace/named-$VAULT.txt"; echo harmless > /workspace/harmless.txt\n'


def test_k1_a_canary_used_in_every_way_is_found_nowhere(leaky: Leaky) -> None:
    with Recorder(leaky.canaries) as recorder:
        task = leaky.submit(WAITING + NAMING_A_FILE + IN_EVERY_WAY, lifecycle={"artifact_patterns": ["*.txt"]})
        containers = eventually("it has a container", leaky.product.containers)
        assert isinstance(containers, list)
        eventually("its command runs", lambda: leaky.api.get(f"/tasks/{task}").json()["state"] == "running")
        assert not leaky.canaries.in_bytes(inspected(containers[0]))
        subprocess.run(["docker", "exec", containers[0], "touch", "/tmp/go"], check=True)
        found = ended(leaky.api, task)
        eventually("its container is gone", lambda: not leaky.product.containers())
    assert (found["outcome"]["reason"], found["outcome"]["exit_code"]) == ("exit_nonzero", 3), found
    printed = raw_output(leaky.api, task)
    assert b"whole: ***\n" in printed
    assert b'{"password": "***"}' in printed
    assert b"*** was split at 40\n" in printed
    assert printed.endswith(b"no end of line: ***")
    assert raw_output(leaky.api, task, "stderr").count(b"on the other stream: ***\n") == 3
    listed = leaky.api.get(f"/tasks/{task}/artifacts").json()["artifacts"]
    assert [one["path"] for one in listed] == ["harmless.txt"]
    assert leaky.left(task) == []
    assert recorder.samples > 10
    assert recorder.arguments == []
    assert recorder.events
    assert leaky.canaries.in_bytes(recorder.events) == []


def test_the_search_itself_finds_what_is_there(tmp_path: Path) -> None:
    value = canary()
    (tmp_path / "half").write_text(f"x{value[20:45]}x")
    (tmp_path / "encoded").write_bytes(base64.b64encode(b"us:" + value.encode()))
    (tmp_path / "other").write_text(canary())
    assert sorted(Canaries([value]).below(tmp_path)) == [str(tmp_path / "encoded"), str(tmp_path / "half")]


SPLIT_EVERYWHERE = r"""
import base64, os, time
value = os.environ["CANARY"].encode()
for form in (value, base64.b64encode(value), base64.b64encode(b"x" + value)):
    for at in range(1, len(form)):
        stream = 1 + at % 2
        os.write(stream, form[:at])
        if at % 8 == 0:
            time.sleep(0.01)
        os.write(3 - stream, b"between\n")
        os.write(stream, form[at:] + b"\n")
for line in os.environ["KEY"].splitlines():
    os.write(1, line[:20].encode())
    time.sleep(0.05)
    os.write(1, line[20:].encode() + b"\n")
"""


def test_k2_a_canary_split_over_writes_at_every_position_is_masked(leaky: Leaky) -> None:
    task = leaky.submit(f"exec python3 -c '{SPLIT_EVERYWHERE}'\n")
    assert ended(leaky.api, task)["state"] == "completed"
    for stream in ("stdout", "stderr"):
        assert raw_output(leaky.api, task, stream).count(b"between\n***\n") >= 31
    assert leaky.left(task) == []


def test_k6_a_preserved_sandbox_and_what_is_kept_with_it_hold_no_canary(leaky: Leaky) -> None:
    task = leaky.submit(IN_EVERY_WAY, lifecycle={"failure_action": "preserve"})
    found = ended(leaky.api, task)
    assert found["state"] == "failed_preserved", found
    container = found["attempts"][0]["container_id"]
    assert b"whole: ***\n" in raw_output(leaky.api, task)
    assert list((CONTAINERS / container).iterdir())
    assert leaky.left(task) == []
    assert not leaky.canaries.in_bytes(inspected(container))
    assert not leaky.canaries.below(_written_by(container))
    assert leaky.api.delete(f"/tasks/{task}/data").status_code == httpx.codes.NO_CONTENT
    eventually("the preserved sandbox is destroyed", lambda: not leaky.product.containers())
    eventually("its directory is removed", lambda: not leaky.product.work_directories())


def _written_by(container: str) -> Path:
    argv = ["docker", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", container]
    return Path(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip())


def test_short_values_are_told_to_be_unmasked_once(leaky: Leaky, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "short").write_text("abc")
    with (
        running_product(tmp_path / "data", SANDBOX_SECRETS_DIR=str(tmp_path / "secrets")) as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        wanted = [{"name": "SHORT", "source": "file", "key": "short"}]
        task = submit(api, run_manifest(script="echo $SHORT\n", secrets=wanted))
        ended(api, task)
        told = api.get(f"/tasks/{task}/logs").text
        assert told.count("warning: not all of SHORT is masked") == 1
        assert raw_output(api, task) == b"abc\n"


BROKEN = """
import sys

if "worker" in sys.orig_argv:
    import threading

    import workers.runner

    def gate_script(*arguments, **more):
        def die():
            raise RuntimeError(f"forced in a thread: {arguments}")

        threading.Thread(target=die).start()
        raise RuntimeError(f"forced: {arguments}")

    workers.runner.gate_script = gate_script
"""


def test_k5_a_traceback_of_an_internal_error_holds_no_canary(docker_engine: None, tmp_path: Path) -> None:
    value = canary()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN)
    settings = {"SANDBOX_SECRET_CANARY": value, "PYTHONPATH": str(tmp_path / "broken")}
    with (
        running_product(tmp_path / "data", **settings) as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        task = submit(api, run_manifest(command=["true"], secrets=SECRETS[:1]))
        outcome = ended(api, task)["outcome"]
        assert outcome["reason"] == "internal_error"
        assert "RuntimeError: forced: " in outcome["message"]
        assert "'CANARY': '***'" in outcome["message"]
        log = product.log_file.read_text()
        assert "Traceback (most recent call last)" in log
        assert "RuntimeError: forced: " in log
        assert "RuntimeError: forced in a thread: " in log
        assert left_by(product, api, task, Canaries([value])) == []


LINES = 150
SLOWLY = f"""
import os, time
value = os.environ["CANARY"].encode()
for number in range({LINES}):
    os.write(1, b"line %d: " % number + value[:40])
    time.sleep(0.03)
    os.write(1, value[40:] + b" and on\\n")
"""


def kill_all_but_the_keeper(product: Product) -> None:
    worker = product.child("worker")
    assert product.process
    os.kill(worker, signal.SIGKILL)
    product.process.kill()
    product.process.wait()
    product.process = None


def kill_keeper(product: Product) -> None:
    [keeper] = processes_with(f"{product.directory}/run/keeper")
    os.kill(keeper, signal.SIGKILL)
    eventually("the keeper is gone", lambda: not processes_with(f"{product.directory}/run/keeper"))


def masked(first: int, end: int) -> bytes:
    return b"".join(b"line %d: *** and on\n" % number for number in range(first, end))


@dataclass
class Interrupted:
    """A task in whose middle the worker was killed, and what came of it."""

    found: Json
    printed: bytes
    log: str
    left: list[str]


def run_interrupted(directory: Path, *, keeper_too: bool, value_after: str | None) -> Interrupted:
    value = canary()
    with (
        running_product(directory / "data", SANDBOX_SECRET_CANARY=value) as product,
        httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api,
    ):
        script = f"exec python3 -c '{SLOWLY}'\n"
        task = submit(api, run_manifest(script=script, secrets=SECRETS[:1]))
        eventually("it prints", lambda: b"line 10: " in raw_output(api, task))
        kill_all_but_the_keeper(product)
        if keeper_too:
            kill_keeper(product)
        if value_after is not None:
            product.environment["SANDBOX_SECRET_CANARY"] = value_after
        product.start()
        found = ended(api, task)
        eventually("its container is gone", lambda: not product.containers())
        printed = raw_output(api, task)
        left = left_by(product, api, task, Canaries([value]))
        return Interrupted(found, printed, api.get(f"/tasks/{task}/logs").text, left)


def test_k2_a_worker_killed_in_the_middle_learns_the_values_from_the_keeper(
    docker_engine: None, tmp_path: Path
) -> None:
    """The source gives another value by then, so the keeper's memory is the only place to know the right one."""
    came = run_interrupted(tmp_path, keeper_too=False, value_after=canary())
    assert came.found["state"] == "completed", came.found
    assert came.printed == masked(0, LINES)
    assert came.left == []


def test_k2_after_the_keeper_s_death_too_the_values_are_fetched_again(docker_engine: None, tmp_path: Path) -> None:
    came = run_interrupted(tmp_path, keeper_too=True, value_after=None)
    assert came.found["state"] == "completed", came.found
    assert came.printed == masked(0, LINES)
    assert came.left == []


@pytest.mark.parametrize("value_after", ["", canary()], ids=["gone", "another"])
def test_k2_output_whose_secrets_nobody_knows_any_more_is_withheld(
    docker_engine: None, tmp_path: Path, value_after: str
) -> None:
    came = run_interrupted(tmp_path, keeper_too=True, value_after=value_after)
    assert came.found["state"] == "completed", came.found
    assert masked(0, 10) in came.printed
    assert masked(0, LINES).startswith(came.printed[: came.printed.rfind(b"\n") + 1])
    assert b"line 149" not in came.printed
    assert "the rest of the output is withheld: the keeper does not hold the values of the task's secrets" in came.log
    assert came.left == []
