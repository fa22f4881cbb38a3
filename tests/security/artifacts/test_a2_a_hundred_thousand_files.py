"""A2: a workspace full of files is walked in bounded memory; the first ones are stored, the others counted."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Product
from tests.security.artifacts.conftest import MAX_COUNT
from tests.security.artifacts.leaving import leave, said
from workers.collect import NAMED_REFUSALS

pytestmark = pytest.mark.docker

PROGRAM = """
import os
for number in range(COUNT):
    if number % 1000 == 0:
        os.mkdir(f"d{number // 1000:03}")
    open(f"d{number // 1000:03}/f{number % 1000:03}", "w").close()
"""
MORE_BYTES = 96 << 20
"""What a worker may need at its peak beyond what it needed before: a list of 100,000 artifacts would not fit."""


def peak_bytes(process: int) -> int:
    """The most memory that a process ever had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.security_long)])
def test_a2_of_many_files_the_first_are_stored_the_rest_is_counted_and_memory_stays_bounded(
    api: httpx.Client, product: Product, count: int
) -> None:
    before = peak_bytes(product.child("worker"))
    task = leave(api, PROGRAM.replace("COUNT", str(count)), disk="4G")
    assert task["state"] == "completed", task["outcome"]
    listed = api.get(f"/tasks/{task['id']}/artifacts").json()
    assert listed["total_count"] == MAX_COUNT
    assert [one["path"] for one in listed["artifacts"]] == [f"d000/f{number:03}" for number in range(MAX_COUNT)]
    lines = said(api, task)
    assert f"artifact d001/f000 refused: the limit of {MAX_COUNT} artifacts is reached" in lines
    assert f"{count - MAX_COUNT - NAMED_REFUSALS} more artifacts were refused" in lines
    assert peak_bytes(product.child("worker")) - before < MORE_BYTES
