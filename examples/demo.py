"""`make demo`: starts the product, runs a real task on this repository, fetches its report, stops everything.

Needs only the standard library and an installed checkout (`.ci/install`). All it writes lies in `.demo/`.
"""

from __future__ import annotations

import sys
import time

from demo_product import ROOT, DemoFailed, fetch, run_demo, run_task, running_product, say

MANIFEST = ROOT / "examples" / "repository-report.yaml"


def demo() -> None:
    """The whole of it. Raises `DemoFailed`."""
    task_id = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    with running_product() as server:
        say(f"sandbox task submit examples/{MANIFEST.name} --follow   (repository: {ROOT}, task: {task_id})")
        run_task(server, task_id, MANIFEST, f"repository.url={ROOT.as_uri()}")
        report = next((path for path in fetch(server, task_id) if path.name == "REPORT.md"), None)
    if report is None:
        raise DemoFailed(f"the task {task_id} left no REPORT.md; read its log with `sandbox task logs {task_id}`")
    print("\n" + "\n".join(report.read_text().splitlines()[:16]))


if __name__ == "__main__":
    sys.exit(run_demo(demo))
