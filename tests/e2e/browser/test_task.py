"""One task in the page: cancel, artifacts, outputs, usage, attempts, questions of the network, deletion."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser.page import Page
from tests.e2e.stack import eventually
from tests.e2e.submitting import ended, run_manifest, state_of, submit

pytestmark = [pytest.mark.docker, pytest.mark.browser]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="
"""A PNG of 2 × 3 pixels."""
FILES = f"""
mkdir -p out
printf '# Report\\n\\n- one\\n- two **bold**\\n' > out/report.md
printf '{{"passed": 12, "of": [12, 13]}}' > out/result.json
printf 'plain text\\n' > out/notes.txt
head -c 2000 /dev/zero > out/data.bin
echo {PIXEL} | base64 -d > out/pixel.png
"""
KEPT = {"artifact_patterns": ["out/**"]}


def test_a_running_task_is_cancelled_with_a_reason(page: Page, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script="echo begun; sleep 600"))
    page.open_task(task)
    page.see(".log", "begun")
    page.click("main button", "Cancel…")
    page.see("dialog", "Cancel test?")
    page.click("dialog button", "Let it run")
    page.see_none("dialog")
    assert state_of(api, task) == "running"
    page.click("main button", "Cancel…")
    page.see("dialog input[type=text]").send_keys("not needed <b>any</b> more")
    page.click("dialog button", "Cancel the task")
    page.wait("it is cancelled", lambda: page.state == "cancelled")
    assert ended(api, task)["cancel"]["reason"] == "not needed <b>any</b> more"
    page.see("main button", "Run again")
    assert page.shown("main button", "Cancel") is None


def test_artifacts_are_listed_looked_at_and_downloaded(page: Page, api: httpx.Client, downloads: Path) -> None:
    task = submit(api, run_manifest(script=FILES, lifecycle=KEPT))
    page.open_task(task, "?tab=artifacts")
    files = "main .artifacts tbody"
    page.wait("they come when the task ends", lambda: len(page.all(files)) == 5)
    looks = {
        "out/report.md": "bold",
        "out/result.json": "passed",
        "out/notes.txt": "plain text",
        "out/data.bin": "00 00 00",
        "out/pixel.png": None,
    }
    for number in range(1, 6):
        one = f"{files}:nth-of-type({number})"
        path = page.see(f"{one} .mono").text
        page.click(f"{one} button", "Preview")
        page.see(f"{one} .preview", looks.pop(path))
    assert not looks
    page.see(".preview strong", "bold")
    image = page.see(".preview img")
    page.wait("the image is decoded", lambda: page.run("return args[0].naturalWidth;", image) == 2)
    listed = api.get(f"/tasks/{task}/artifacts").json()["artifacts"]
    report = next(one for one in listed if one["path"] == "out/report.md")
    page.click("a[download='report.md']")
    file = downloads / "report.md"
    eventually("the download is there", lambda: file.exists() and file.stat().st_size == report["size_bytes"])
    assert f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" == report["checksum"]
    page.click("a", "All as .tar.gz")
    eventually("the archive is there", (downloads / f"{task}-artifacts.tar.gz").exists)


def test_progress_outputs_and_what_is_used_are_shown(page: Page, api: httpx.Client) -> None:
    script = "for n in 1 2 3; do echo ::progress ${n}0 step $n; sleep 3; done; echo '::output url=<b>x</b>'; sleep 600"
    task = submit(api, run_manifest(script=script))
    page.open_task(task)
    page.see("main header .bar", "30 %")
    page.see("main header .bar", "step 3")
    page.click("[role=tab]", "Outputs")
    page.see("[role=tabpanel]", "<b>x</b>")
    page.click("[role=tab]", "Usage")
    page.wait("measurements are drawn", lambda: page.all(".plot-line"), 60)
    page.see("[role=tabpanel]", "In force")
    api.delete(f"/tasks/{task}", params={"force": "true"})
    page.wait("it is over", lambda: page.state == "cancelled")
    page.see("dl.facts", "Memory, highest")


def test_every_attempt_has_its_own_log_and_phases(page: Page, api: httpx.Client) -> None:
    task = submit(
        api,
        run_manifest(
            script='if [ -e "$HOME/x" ]; then :; fi; echo attempt of $HOSTNAME; exit 4',
            lifecycle={"retry": {"max_attempts": 2, "on": ["exit_nonzero"], "backoff": "1s"}},
        ),
    )
    ended(api, task)
    page.open_task(task, "?tab=attempts")
    page.wait("both attempts", lambda: len(page.all("[role=tabpanel]:not([hidden]) tbody tr")) == 2)
    page.see("main", "Attempt 2 of 2")
    page.click("[role=tabpanel]:not([hidden]) tbody tr:first-child button", "Show its log")
    page.see("main", "Attempt 1 of 2")
    page.see("[role=tab][aria-selected=true]", "Log")
    page.see(".log", "attempt of")
    assert "attempt=1" in page.address
    page.see("section[aria-label=Outcome]", "exit code 4")


def test_the_data_of_a_task_is_deleted(page: Page, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script=FILES, lifecycle=KEPT))
    ended(api, task)
    page.open_task(task)
    page.click("main button", "Delete data…")
    page.click("dialog button", "Delete them")
    page.see("main", "Its log and artifacts have been removed")
    assert api.get(f"/tasks/{task}").json()["purged_at"]
    assert page.shown("main button", "Delete data") is None


def test_a_task_that_is_not_there_says_so(page: Page) -> None:
    page.open("#/tasks/no-such%3Cb%3E%3Fid")
    page.see("main [role=alert]", "no-such<b>?id")
    assert page.shown(".banner") is None


def test_the_fleet_shows_what_a_worker_runs_and_drains_it(page: Page, api: httpx.Client) -> None:
    task = submit(api, run_manifest(script="echo begun; sleep 600", metadata={"name": "On the worker"}))
    eventually("it runs", lambda: state_of(api, task) == "running")
    page.open("#/fleet")
    page.see(".worker", "On the worker")
    page.see(".worker .bar", "of")
    assert page.shown(".worker .state", "active")
    page.click(".worker button", "Drain…")
    page.click("dialog button", "Drain")
    page.see(".worker .state", "draining")
    waits = submit(api, run_manifest(script="true", metadata={"name": "Waits for a worker"}))
    page.press("g", "q")
    page.see("tr", "Waits for a worker")
    page.see("section[aria-label='Why they wait']", "drain")
    page.press("g", "f")
    page.click(".worker button", "Take tasks again")
    page.see(".worker .state", "active")
    assert ended(api, waits)["state"] == "completed"
    page.click(".worker a", "On the worker")
    page.see("h1", "On the worker")
    api.delete(f"/tasks/{task}", params={"force": "true"})
    page.wait("it is cancelled", lambda: page.state == "cancelled")
