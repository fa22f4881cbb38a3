"""How long a forced cancellation takes until the container is gone."""

import threading
import time

import docker
import httpx

from tests.benchmarks.engine import kill_and_remove_ms
from tests.benchmarks.stack import BenchmarkFailed, Stack, StateWatch, noop_manifest
from tests.benchmarks.table import Row, from_samples

_GONE_SECONDS = 60


def forced_cancel(stack: Stack, samples: int = 12) -> list[Row]:
    """DELETE with force: until the engine has reported the container destroyed, and until the answer came."""
    gone, answered, removed = [], [], []
    client = docker.from_env()
    try:
        with StateWatch(stack) as watch:
            for _ in range(samples):
                until_gone, until_answer = _cancel_once(stack, watch, client)
                gone.append(until_gone)
                answered.append(until_answer)
                removed.append(kill_and_remove_ms(client, stack.image))
    finally:
        client.close()
    beside = "kill + remove through the SDK"
    return [
        from_samples("forced cancel → container gone", gone, beside=beside, limits=removed),
        from_samples("forced cancel → `cancelled` answered", answered, beside=beside, limits=removed),
    ]


def _cancel_once(stack: Stack, watch: StateWatch, client: docker.DockerClient) -> tuple[float, float]:
    task_id = stack.submit(noop_manifest(stack.image, command=["sleep", "600"]))
    watch.wait(task_id, "running")
    events = client.events(decode=True, filters={"type": "container", "event": "destroy"})
    destroyed_at_ns: list[int] = []

    def listen() -> None:
        for event in events:
            # Labels are among an event's attributes, and one of the container's is the task's id.
            if task_id in event["Actor"]["Attributes"].values():
                destroyed_at_ns.append(int(event["timeNano"]))
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    time.sleep(0.2)  # the subscription must stand; the engine does not say when it does
    asked_at_ns, began = time.time_ns(), time.perf_counter()
    answer = stack.client.delete(f"/tasks/{task_id}", params={"force": "true", "wait": "60"})
    answered_ms = (time.perf_counter() - began) * 1000
    listener.join(timeout=_GONE_SECONDS)
    events.close()
    if answer.status_code != httpx.codes.OK or answer.json().get("new_state") != "cancelled":
        raise BenchmarkFailed(f"DELETE of task {task_id} answered {answer.status_code}: {answer.text}")
    if not destroyed_at_ns:
        raise BenchmarkFailed(f"the engine reported no destroyed container of task {task_id} in {_GONE_SECONDS} s")
    return (destroyed_at_ns[0] - asked_at_ns) / 1e6, answered_ms
