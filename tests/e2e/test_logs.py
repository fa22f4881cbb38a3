"""The log of a live task: followed, cut, resumed; byte for byte (contract §5)."""

from __future__ import annotations

import json
import random
import subprocess

import httpx
import pytest

from tests.e2e.stack import Product, eventually, processes_with
from tests.e2e.submitting import ended, raw_output, run_manifest, submit

pytestmark = pytest.mark.docker

CHATTY = """
for i in $(seq 1 3000); do
  echo "line $i äöü"
  [ $((i % 100)) = 0 ] && echo "warn $i" >&2
  [ $((i % 300)) = 0 ] && sleep 0.2
done
printf 'no end of line'
"""


def follow_cut(url: str, task_id: str, cuts: random.Random) -> tuple[dict[str, str], int]:
    """Follow by SSE, hang up at random places, resume; return what each stream said, and the number of cuts."""
    said = {"stdout": "", "stderr": ""}
    cursor, count = "", 0
    while True:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        patience = cuts.randint(1, 120)
        with httpx.stream("GET", f"{url}/api/v1/tasks/{task_id}/logs?follow=true", headers=headers, timeout=60) as got:
            event, data, identifier = "", "", ""
            for line in got.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data = value
                elif name == "id":
                    identifier = value
                elif not line and event:
                    cursor = identifier
                    if event in said:
                        said[event] += json.loads(data)["data"]
                    if event == "end":
                        return said, count
                    event = ""
                    patience -= 1
                    if patience == 0:
                        break
        count += 1


def test_a_followed_log_cut_again_and_again_equals_the_whole_byte_for_byte(product: Product, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script=CHATTY))

    said, cuts = follow_cut(product.url, task, random.Random(7))  # noqa: S311 - repeatable, not secret

    assert cuts >= 40
    expected = "".join(f"line {number} äöü\n" for number in range(1, 3001)) + "no end of line"
    assert said["stdout"] == expected
    assert raw_output(api, task) == expected.encode()
    assert said["stderr"] == "".join(f"warn {number}\n" for number in range(100, 3001, 100))


def test_output_that_is_not_utf8_is_kept_exactly_in_raw_form(api: httpx.Client) -> None:
    task = submit(api, run_manifest(command=["python3", "-c", "import os; os.write(1, bytes(range(256)) * 400)"]))
    ended(api, task)

    assert raw_output(api, task) == bytes(range(256)) * 400
    assert api.get(f"/tasks/{task}/logs").status_code == 200


def test_a_line_longer_than_64_kib_comes_in_pieces_and_joins_to_the_same(api: httpx.Client) -> None:
    task = submit(api, run_manifest(command=["python3", "-c", "print('é' * 200_000)"]))
    ended(api, task)

    answer = api.get(f"/tasks/{task}/logs", params={"format": "ndjson", "stream": "stdout"})
    pieces = [json.loads(line)["data"] for line in answer.text.splitlines()]
    assert len(pieces) > 1
    assert all(len(piece.encode()) <= 64 << 10 for piece in pieces)
    assert "".join(pieces) == "é" * 200_000 + "\n"


def test_what_a_killed_worker_missed_is_in_the_log_and_the_task_runs_once(product: Product, api: httpx.Client) -> None:
    script = 'for i in $(seq 1 400); do echo "tick $i"; sleep 0.02; done; echo "$RANDOM" > ran.txt'
    task = submit(api, run_manifest(script=script, lifecycle={"artifact_patterns": ["ran.txt"]}))
    eventually("it prints", lambda: b"tick 20\n" in raw_output(api, task))
    sandbox = api.get(f"/tasks/{task}").json()["attempts"][0]["container_id"]

    subprocess.run(["kill", "-9", str(product.child("worker"))], check=True)
    found = ended(api, task)

    assert raw_output(api, task) == b"".join(b"tick %d\n" % number for number in range(1, 401))
    assert found["state"] == "completed", found
    assert [one["container_id"] for one in found["attempts"]] == [sandbox]
    assert api.get(f"/tasks/{task}/artifacts").json()["total_count"] == 1


def test_a_killed_api_costs_a_reader_nothing(product: Product, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script='for i in $(seq 1 200); do echo "tick $i"; sleep 0.02; done'))
    eventually("it prints", lambda: b"tick 20\n" in raw_output(api, task))
    said, cursor = [], 0
    killed = False
    while True:
        try:
            with httpx.stream(
                "GET", f"{product.url}/api/v1/tasks/{task}/logs?follow=true&after={cursor}", timeout=30
            ) as got:
                for line in got.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    record = json.loads(line.removeprefix("data: "))
                    cursor = record["seq"]
                    if record["stream"] == "stdout":
                        said.append(record["data"])
                    if record["stream"] == "end":
                        assert said == [f"tick {number}\n" for number in range(1, 201)]
                        assert killed
                        return
                    if len(said) == 40 and not killed:
                        killed = True
                        subprocess.run(["kill", "-9", str(product.child("api"))], check=True)
        except httpx.HTTPError:
            eventually("the API is back", product.is_ready)


def test_a_killed_keeper_is_replaced_and_the_log_goes_on_from_the_engine_s(product: Product, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script='for i in $(seq 1 200); do echo "tick $i"; sleep 0.03; done'))
    eventually("it prints", lambda: b"tick 10\n" in raw_output(api, task))
    keeper = processes_with(f"{product.directory}/run/keeper")

    assert len(keeper) == 1
    subprocess.run(["kill", "-9", str(next(iter(keeper)))], check=True)
    found = ended(api, task)

    assert found["state"] == "completed", found
    assert raw_output(api, task) == b"".join(b"tick %d\n" % number for number in range(1, 201))
    assert "gap: " not in api.get(f"/tasks/{task}/logs").text
