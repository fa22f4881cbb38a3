"""What the engine itself says happened: its event stream, recorded by the test from before the first task on.

A sandbox has no network and sees no directory but the product's own, so it cannot reach a counter of the test. The
engine's events stand in for one: a command runs at most once each time its container starts (the gate opens once),
so the starts bound the side effects from above, and the exit code of a `die` is the command's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ACTIONS = ("create", "start", "die", "destroy")


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """One event of a container. `at_ns` is nanoseconds since 1970 by the engine's clock."""

    at_ns: int
    action: str
    container: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Life:
    """One start of a container and, if it was seen, its end (nanoseconds since 1970)."""

    container: str
    task_id: str
    attempt: int
    role: str
    worker: str
    started_ns: int
    ended_ns: int | None
    exit_code: int | None


class Witness:
    """Records the events of all containers of one engine until `stop`; goes on after the engine's restart."""

    def __init__(self, engine: Mapping[str, str] | None = None) -> None:
        self.engine = dict(engine or {})
        self._environment = {**os.environ, **self.engine}
        self._lock = threading.Lock()
        self._events: dict[tuple[int, str, str], EngineEvent] = {}
        self._ended = threading.Event()
        self._since = f"{time.time():.6f}"
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join(30)

    def events(self, installation: str) -> list[EngineEvent]:
        """What happened to this installation's containers, oldest first."""
        with self._lock:
            seen = sorted(self._events.values(), key=lambda one: one.at_ns)
        return [one for one in seen if one.labels.get("sandbox.installation") == installation]

    def _run(self) -> None:
        while not self._ended.is_set():
            self._read_until_broken()
            self._ended.wait(0.1)  # the engine is away: ask again from where we were

    def _read_until_broken(self) -> None:
        argv = ["docker", "events", "--since", self._since, "--format", "{{json .}}", "--filter", "type=container"]
        argv += [word for action in ACTIONS for word in ("--filter", f"event={action}")]
        with self._lock:
            if self._ended.is_set():
                return
            self._process = subprocess.Popen(
                argv, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        with self._process as process:
            for line in process.stdout or ():
                self._note(json.loads(line))

    def _note(self, raw: Mapping[str, object]) -> None:
        actor = raw["Actor"]
        assert isinstance(actor, dict)
        at_ns = int(str(raw["timeNano"]))
        event = EngineEvent(at_ns, str(raw["Action"]), str(actor["ID"]), actor["Attributes"])
        with self._lock:
            self._events[at_ns, event.action, event.container] = event
            self._since = f"{at_ns // 1_000_000_000}.{at_ns % 1_000_000_000:09d}"


def lives(events: Iterable[EngineEvent]) -> list[Life]:
    """Each start with the end that followed. A container that was destroyed has ended, whatever was missed."""
    open_since: dict[str, EngineEvent] = {}
    found: list[Life] = []
    for event in events:
        if event.action == "start":
            open_since[event.container] = event
        elif event.action in ("die", "destroy") and event.container in open_since:
            found.append(_life(open_since.pop(event.container), event))
    found += [_life(event, None) for event in open_since.values()]
    return sorted(found, key=lambda one: one.started_ns)


def _life(start: EngineEvent, end: EngineEvent | None) -> Life:
    labels = start.labels
    code = end.labels.get("exitCode") if end else None
    return Life(
        container=start.container,
        task_id=labels["sandbox.task"],
        attempt=int(labels["sandbox.attempt"]),
        role=labels["sandbox.role"],
        worker=labels["sandbox.worker"],
        started_ns=start.at_ns,
        ended_ns=end.at_ns if end else None,
        exit_code=int(code) if code is not None else None,
    )
