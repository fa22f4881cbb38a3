"""While one task attacks: the API answers all the time, and another task comes to its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.stack import Product
from tests.e2e.submitting import ended, raw_output, run_manifest, submit

PATIENCE_SECONDS = 20.0
"""For one answer of `/health`: a generous bound on a busy machine, which an API that stands still misses."""
PAUSE_SECONDS = 0.2


@contextmanager
def unharmed(product: Product, api: httpx.Client) -> Iterator[None]:
    """Asks for the API's health until the block ends and another task has run."""
    over, missed = threading.Event(), list[str]()

    def ask() -> None:
        with httpx.Client(base_url=f"{product.url}/api/v1", timeout=PATIENCE_SECONDS) as client:
            while not over.wait(PAUSE_SECONDS):
                try:
                    answer = client.get("/health")
                except httpx.HTTPError as error:
                    missed.append(repr(error))
                else:
                    missed.extend([answer.text] if answer.status_code != 200 else [])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        other = submit(api, run_manifest(script="echo well"))
        yield
        assert ended(api, other)["state"] == "completed"
        assert raw_output(api, other) == b"well\n"
    finally:
        over.set()
        asking.join()
    assert missed == []


def resident_bytes(process_id: int) -> int:
    """The memory of a process that is in use now."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {process_id} tells no VmRSS")


@contextmanager
def small_worker(product: Product, room_bytes: int) -> Iterator[None]:
    """The worker's memory, watched as long as the block lasts, grows by no more than `room_bytes`."""
    process_id = product.child("worker")
    most = before = resident_bytes(process_id)
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(PAUSE_SECONDS):
            most = max(most, resident_bytes(process_id))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
    assert most - before <= room_bytes, f"{most - before} bytes more"
