"""Make the README's pictures of the web page: `python -m tests.e2e.browser.screenshots`.

Starts a product of its own, runs a few tasks on it, and stores docs/images/<what>-<light|dark>.png.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.browser.chromium import chromium
from tests.e2e.browser.page import Page
from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import Json, ended, run_manifest, state_of, submit

IMAGES = Path(__file__).parents[3] / "docs" / "images"
SIZE = (1200, 760)
MOST_BYTES = 150_000
TESTS = r"""
python3 -c 'import time
kept = []
while True: kept.append("x" * (1 << 20)); time.sleep(1.5)' &
printf '\033[1mcollected 48 items\033[0m\n'
for n in $(seq 1 48); do
  printf 'tests/test_module_%02d.py \033[32m......................\033[0m [%3d%%]\n' $n $((n * 100 / 48))
  echo "::progress $((n * 100 / 48)) test module $n of 48"
  if [ $((n % 12)) = 0 ]; then printf '\033[33mwarning: test module %d is slow\033[0m\n' $n >&2; fi
  python3 -c 'import sys; sorted(str(i) for i in range(60000 * (2 + int(sys.argv[1]) % 7)))' $n
  sleep 1.2
done
mkdir -p out && printf '# Report\n\n48 modules, all of them pass.\n' > out/report.md
sleep 600
"""
FAILS = "echo 'compiling…'; echo 'error: src/parse.c:112: expected expression' >&2; exit 2"


def manifest(name: str, script: str, **more: object) -> Json:
    labels = more.pop("labels", {})
    lifecycle = {"artifact_patterns": ["out/**"], "timeout": "1h"}
    return run_manifest(script=script, metadata={"name": name, "labels": labels}, lifecycle=lifecycle, **more)


def submit_all(api: httpx.Client) -> tuple[str, str]:
    """A small working day. Returns the task that runs and one that failed."""
    platform, web = {"team": "platform"}, {"team": "web"}
    for name, script, labels in (
        ("Dependency audit", "mkdir out; echo ok > out/audit.txt; echo 214 packages checked", platform),
        ("Render the documentation", "echo 61 pages; mkdir out; echo x > out/index.html", web),
        ("Migrate the schema", "echo 3 migrations", platform),
    ):
        ended(api, submit(api, manifest(name, script, labels=labels)))
    failed = submit(api, manifest("Build the parser", FAILS, labels={"team": "core", "branch": "main"}))
    ended(api, failed)
    cancelled = submit(api, manifest("Load test", "sleep 600", labels=web))
    eventually("it runs", lambda: state_of(api, cancelled) == "running")
    api.delete(f"/tasks/{cancelled}", params={"reason": "superseded"})
    running = submit(api, manifest("Nightly tests", TESTS, labels={"team": "platform", "kind": "nightly"}))
    for name in ("Fuzz the reader", "Benchmark the store"):
        script = "echo '::progress 35 pass 7 of 20'; for n in $(seq 900); do echo case $n; sleep 1; done"
        submit(api, manifest(name, script, labels={"team": "core"}))
    for number in (1, 2):
        submit(api, manifest(f"Queued check {number}", "true", labels=web, priority=-10))
    return running, failed


@contextmanager
def product() -> Iterator[Product]:
    with tempfile.TemporaryDirectory(prefix="sandbox-pictures-") as directory:
        settings = {"SANDBOX_WORKER_NAME": "build-1", "SANDBOX_CONCURRENCY": "3"}
        with running_product(Path(directory) / "data", **settings) as running:
            yield running


def take(page: Page, name: str) -> None:
    """The page in both themes."""
    for theme in ("light", "dark"):
        page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        page.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())));")
        picture = base64.b64decode(page.cdp("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"])
        file = IMAGES / f"{name}-{theme}.png"
        if len(picture) > MOST_BYTES:
            raise SystemExit(f"{file} would have {len(picture):,} bytes, more than {MOST_BYTES:,}; show less in it")
        file.write_bytes(picture)
        print(f"{file.relative_to(Path.cwd())}: {len(picture):,} bytes")


def take_all(page: Page, running: str, failed: str) -> None:
    page.resize(*SIZE)
    page.open("#/tasks")
    page.see(".tasks", "test module 12 of 48")
    page.see(".connection", "Live")
    take(page, "tasks")
    page.open_task(running)
    page.see(".log", "warning: test module 12")
    take(page, "task")
    page.open_task(failed)
    page.see("section[aria-label=Outcome]", "exit code 2")
    take(page, "outcome")
    page.open("#/fleet")
    page.see(".worker", "Nightly tests")
    take(page, "fleet")
    page.open("#/submit")
    page.see("aside", "Valid")
    page.write((page.see("textarea").get_attribute("value") or "").replace("profile: basic", "profil: basic"))
    page.see("aside", "1 mistake")
    take(page, "submit")
    page.open_task(running, "?tab=usage")
    page.wait("measurements of more than a minute", lambda: points(page) >= 18, 120)
    take(page, "usage")


def points(page: Page) -> int:
    """Measurements that are drawn in the first plot."""
    line = page.shown(".plot-line")
    return len((line.get_attribute("points") or "").split()) if line else 0


def main() -> None:
    browser_path, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if browser_path is None or driver_path is None:
        raise SystemExit("Chromium with its driver is missing; run .ci/install")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        product() as here,
        tempfile.TemporaryDirectory() as downloads,
        chromium(browser_path, driver_path, Path(downloads)) as browser,
        httpx.Client(base_url=f"{here.url}/api/v1", timeout=60) as api,
    ):
        running, failed = submit_all(api)
        take_all(Page(browser, here.url), running, failed)


if __name__ == "__main__":
    main()
