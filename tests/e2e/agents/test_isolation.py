"""An isolated agent reaches the model and nothing else, and the operator's key is found nowhere."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.agents.agent_tasks import (
    agent_manifest,
    artifact,
    artifact_paths,
    eventually_told,
    tool_results,
    wait_for_file,
    workspace,
)
from tests.e2e.agents.model import Model, bash
from tests.e2e.stack import Product, eventually, labelled
from tests.e2e.submitting import ended, raw_output, submit
from tests.integration.sandbox.repositories import commit
from tests.model_api.scenarios import answer, refuse

pytestmark = pytest.mark.docker

REACH = r"""
import http.client, json, socket, sys
found = {"interfaces": sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:])}
found["listening"] = sorted({
    line.split()[1] for name in ("tcp", "tcp6", "udp", "udp6") for line in open(f"/proc/net/{name}").readlines()[1:]
    if line.split()[3] in ("0A", "07")
})
found["reached"] = []
for host in ("1.1.1.1", "172.17.0.1", "169.254.169.254", "host.docker.internal", "api.anthropic.com", "::1"):
    for port in (80, 443, int(sys.argv[1])):
        try:
            socket.create_connection((host, port), 2).close()
            found["reached"].append([host, port])
        except OSError:
            pass
def ask(method, path, body=None):
    one = http.client.HTTPConnection("127.0.0.1", 3129, timeout=20)
    one.request(method, path, body)
    answer = one.getresponse()
    return [answer.status, json.loads(answer.read())["error"]["type"]]
asked = ["GET /", "POST /v1/files", "GET /v1/messages", "POST /v1/messages/batches", "POST /v1/complete",
         "GET /v1/models/../files", "POST /v2/messages", "DELETE /v1/models/x"]
found["answers"] = {one: ask(*one.split(), b"{}" if one.startswith("POST") else None) for one in asked}
print(json.dumps(found))
"""

SEARCH = r"""
import mmap, os, sys
key = sys.argv[1][::-1].encode()
found, looked = [], 0
def search(path):
    global looked
    try:
        with open(path, "rb") as source:
            if path.startswith("/proc/") or os.fstat(source.fileno()).st_size < 1 << 16:
                data = source.read()
                hit = key in data
            else:
                with mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as data:
                    hit = data.find(key) >= 0
    except (OSError, ValueError):
        return
    looked += 1
    if hit:
        found.append(path)
for process in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        search(f"/proc/{process}/{name}")
for top, directories, names in os.walk("/"):
    if top == "/":
        directories[:] = [one for one in directories if one not in ("proc", "sys")]
    for name in names:
        path = os.path.join(top, name)
        if os.path.isfile(path) and not os.path.islink(path):
            search(path)
print(looked > 1000, found, [name for name, value in os.environ.items() if key.decode() in value])
"""


def test_an_isolated_sandbox_reaches_the_relay_and_the_relay_lets_only_the_api_through(
    api: httpx.Client, model: Model, repository: Path
) -> None:
    commit(repository, {"reach.py": REACH})
    before = len(model.strays)
    port = model.url.rpartition(":")[2]
    mark = model.plays(answer(bash(f"python3 reach.py {port}")), answer("Done."))
    task = submit(api, agent_manifest(repository, mark))
    assert ended(api, task)["state"] == "completed"
    [result] = tool_results(api, task)
    found = json.loads(result["content"])
    assert found["interfaces"] == ["lo"]
    assert found["listening"] == ["0100007F:0C39"], "127.0.0.1:3129"
    assert found["reached"] == []
    assert set(map(tuple, found["answers"].values())) == {(404, "not_found_error")}, found["answers"]
    assert model.strays[before:] == []


def test_the_key_is_found_nowhere(
    product: Product, api: httpx.Client, model: Model, repository: Path, model_key: str
) -> None:
    commit(repository, {"search.py": SEARCH})
    mark = model.plays(
        answer(
            bash("env; cat /proc/*/environ | tr '\\0' '\\n'; ps -ef || true"),
            bash(f"python3 search.py {model_key[::-1]}"),
        ),
        answer(bash(wait_for_file("go"))),
        refuse(400, f"what is this key, {model_key}?"),
    )
    task = submit(api, agent_manifest(repository, mark))
    eventually_told(api, task, "tool_use", lambda told: told["summary"].startswith("until"))
    inspected = inspections(product, task)
    assert files_with(product.directory, model_key.encode()) == [], "while it runs"
    (workspace(product, task) / "go").touch()
    found = ended(api, task)

    assert model.asked(mark)[0].headers["x-api-key"] == model_key, "it was used"
    _, searched, _ = tool_results(api, task)
    assert searched["content"] == "True [] []"
    assert len(inspected) == 1
    assert "what is this key, ***?" in found["outcome"]["message"]
    shown = [
        *inspected,
        raw_output(api, task),
        *(api.get(f"/tasks/{task}/logs", params={"format": form}).content for form in ("text", "ndjson", "sse")),
        *(api.get(path).content for path in (f"/tasks/{task}", "/tasks", f"/tasks/{task}/artifacts", "/workers")),
        *(artifact(api, task, path) for path in artifact_paths(api, task)),
        product.log_file.read_bytes(),
    ]
    assert all(shown)
    assert not any(model_key.encode() in one for one in (*shown, raw_output(api, task, "stderr")))
    assert files_with(product.directory, model_key.encode()) == []


def test_the_relay_is_gone_with_the_task(product: Product, api: httpx.Client, model: Model, repository: Path) -> None:
    task = submit(api, agent_manifest(repository, model.plays(answer(bash(wait_for_file("go"))), answer("Done."))))
    eventually_told(api, task, "tool_use")
    sandbox = json.loads(inspections(product, task)[0])[0]["State"]["Pid"]
    inside = {f"socket:[{line.split()[9]}]" for line in Path(f"/proc/{sandbox}/net/tcp").read_text().splitlines()[1:]}
    worker = product.child("worker")
    assert descriptors_of(worker) & inside
    (workspace(product, task) / "go").touch()
    assert ended(api, task)["state"] == "completed"
    eventually("its sockets are closed", lambda: not descriptors_of(worker) & inside)


def inspections(product: Product, task: str) -> list[bytes]:
    """What the engine shows of the task's containers."""
    running = labelled("ps", "--all", "--filter", f"label=sandbox.task={task}", installation=product.installation())
    return [subprocess.run(["docker", "inspect", one], capture_output=True, check=True).stdout for one in running]


def descriptors_of(process: int) -> set[str]:
    """What they lead to."""
    found = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return found


def files_with(top: Path, text: bytes) -> list[str]:
    """What is removed meanwhile is left out."""
    found = []
    for directory, _, names in os.walk(top):
        for path in (Path(directory, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file() and text in path.read_bytes():
                    found.append(str(path))
    return found
