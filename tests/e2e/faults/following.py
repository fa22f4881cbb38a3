"""A reader that follows a task's log by server-sent events and resumes where it was, whatever breaks."""

from __future__ import annotations

import threading
import time

import httpx

from tests.integration.api.sse import Reader

PATIENCE_SECONDS = 180.0


class _ResumingReader(Reader):
    """An event that was cut is sent again: its id did not count yet."""

    def forget_rest(self) -> None:
        self._rest = b""


class Follower:
    """Follows one task in a thread of its own, from one API process after the other, until the event `end`."""

    def __init__(self, urls: list[str], task: str) -> None:
        self._urls = urls
        self._task = task
        self.reader = _ResumingReader()
        self.connections = 0
        self._thread = threading.Thread(target=self._run, name=f"follow-{task}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return any(event.name == "end" for event in self.reader.events)

    def wait_end(self) -> None:
        self._thread.join(PATIENCE_SECONDS)
        assert self.ended, f"the log of {self._task} was not followed to its end: at {self.reader.cursor}"

    def _run(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.ended and time.monotonic() < deadline:
            try:
                self._read_until_broken(self._urls[self.connections % len(self._urls)])
            except httpx.HTTPError:
                time.sleep(0.05)
            self.connections += 1

    def _read_until_broken(self, url: str) -> None:
        self.reader.forget_rest()
        headers = {"Last-Event-ID": str(self.reader.cursor)} if self.reader.cursor else {}
        path = f"{url}/api/v1/tasks/{self._task}/logs?follow=true"
        with httpx.stream("GET", path, headers=headers, timeout=60) as answer:
            for data in answer.iter_raw():
                self.reader.feed(data)
