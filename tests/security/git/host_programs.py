"""What runs on the host on behalf of the product, watched while a task is at work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 0.005


def descendants(process: int) -> Iterator[int]:
    """The ids of all processes that `process` and its children started and that live."""
    waiting = [process]
    while waiting:
        try:
            children = [
                int(child)
                for thread in Path(f"/proc/{waiting[-1]}/task").iterdir()
                for child in (thread / "children").read_text().split()
            ]
        except OSError:
            children = []
        waiting.pop()
        yield from children
        waiting += children


def program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def watched(process: int) -> Iterator[set[str]]:
    """Give a set that holds, after the block, the names of all programs that `process` was seen to have started."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_SECONDS):
            seen.update(program(one) for one in descendants(process))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        stop.set()
        watching.join()
