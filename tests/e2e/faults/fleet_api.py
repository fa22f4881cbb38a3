"""The product as its users see it: whichever API process answers, and what was accepted."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx

from tests.e2e.stack import eventually
from tests.e2e.submitting import TERMINAL, Json

TRY_AGAIN = {502, 503, 504}
PATIENCE_SECONDS = 60.0


class FleetApi:
    """Tries one API process after the other until one answers. Thread-safe."""

    def __init__(self) -> None:
        self._client = httpx.Client(timeout=60)
        self.urls: list[str] = []
        self.accepted: list[str] = []

    def close(self) -> None:
        self._client.close()

    def request(
        self, method: str, path: str, *, patience_seconds: float = PATIENCE_SECONDS, **options: Any
    ) -> httpx.Response:
        """Send the request until an answer other than 502, 503, 504 comes. It must be safe to repeat."""
        deadline, number, last = time.monotonic() + patience_seconds, 0, "no API process is known"
        while time.monotonic() < deadline:
            for url in (*self.urls[number:], *self.urls[:number]):
                try:
                    answer = self._client.request(method, f"{url}/api/v1{path}", **options)
                except httpx.TransportError as error:
                    last = f"{type(error).__name__}: {error}"
                    continue
                if answer.status_code not in TRY_AGAIN:
                    return answer
                last = f"{answer.status_code}: {answer.text[:300]}"
            number = (number + 1) % max(1, len(self.urls))
            time.sleep(0.1)
        raise AssertionError(f"no API process answered {method} {path}: {last}")

    def get(self, path: str, **params: Any) -> Json:
        """The JSON of a GET that must succeed."""
        answer = self.request("GET", path, params=params)
        assert answer.status_code == 200, f"GET {path} answered {answer.status_code}: {answer.text[:500]}"
        found: Json = answer.json()
        return found

    def submit(self, manifest: Json) -> str:
        """Submit once, however often it must be sent: the key makes the repetition harmless."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answer = self.request("POST", "/tasks", json=manifest, headers=key)
        assert answer.status_code == 202, answer.text
        task_id = str(answer.json()["task_id"])
        self.accepted.append(task_id)
        return task_id

    def cancel(self, task_id: str, **params: Any) -> httpx.Response:
        return self.request("DELETE", f"/tasks/{task_id}", params=params)

    def task(self, task_id: str) -> Json:
        return self.get(f"/tasks/{task_id}")

    def state(self, task_id: str) -> str:
        return str(self.task(task_id)["state"])

    def reached(self, task_id: str, *states: str, seconds: float = 120) -> Json:
        """The task once it is in one of `states`."""

        def look() -> Json | None:
            task = self.task(task_id)
            return task if task["state"] in states else None

        found = eventually(f"task {task_id} is {' or '.join(states)}", look, seconds)
        assert isinstance(found, dict)
        return found

    def ended(self, *task_ids: str, seconds: float = 180) -> list[Json]:
        """The tasks once all of them have ended."""
        return [self.reached(task_id, *TERMINAL, seconds=seconds) for task_id in task_ids]

    def records(self, task_id: str, attempt: int | str = "all") -> list[Json]:
        """Every record of the task's journal, as ndjson shows it."""
        answer = self.request("GET", f"/tasks/{task_id}/logs", params={"format": "ndjson", "attempt": attempt})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.content.split(b"\n") if line]

    def output(self, task_id: str, attempt: int | str = "all") -> str:
        """What the task printed on stdout."""
        return "".join(one["data"] for one in self.records(task_id, attempt) if one["stream"] == "stdout")

    def workers(self) -> dict[str, Json]:
        return {one["name"]: one for one in self.get("/workers")["workers"]}
