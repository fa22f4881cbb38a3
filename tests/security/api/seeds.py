"""Tasks in several states and a build host, so that generated requests meet something that exists."""

from __future__ import annotations

from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost

RUNNING = "running-task"
ENDED = ("completed-task", "failed-task", "cancelled-task")
TASKS = (*ENDED, RUNNING, "pending-task")
ARTIFACT = "out/report.html"


def plant(client: CheckedClient, host: BuildHost) -> None:
    """Make the tasks of `TASKS`: two have ended with logs and an artifact, one runs, one waits, one is cancelled."""
    for task, code in (("completed-task", 0), ("failed-task", 3)):
        claim = host.run(client.task(id=task))
        host.say(claim, "one\n", b"\xfftwo\n")
        host.tell(claim, "the product's own words")
        host.keep(claim, {ARTIFACT: b"<script>alert(1)</script>", "metadata.json": b"{}"})
        host.exit(claim, code)
    host.say(host.run(client.task(id=RUNNING)), "begun\n")
    for task in ("cancelled-task", "pending-task"):
        client.task(id=task)
    assert client.delete("/api/v1/tasks/cancelled-task").status_code == 200
