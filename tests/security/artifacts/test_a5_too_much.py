"""A5: of more than a task may leave, the first artifacts are kept and the others named."""

from __future__ import annotations

import httpx
import pytest

from tests.security.artifacts.conftest import MAX_BYTES
from tests.security.artifacts.leaving import leave, refused, stored

pytestmark = pytest.mark.docker

PROGRAM = """
for name, mebibytes in {"a": 3, "b": 2, "c": 1, "d": 1}.items():
    with open(name, "wb") as file:
        file.write(name.encode() * (mebibytes << 20))
"""


def test_a5_what_fits_is_kept_in_order_and_each_file_that_does_not_is_named(api: httpx.Client) -> None:
    task = leave(api, PROGRAM)
    assert task["state"] == "completed", task["outcome"]
    assert {name: len(data) for name, data in stored(api, task).items()} == {"a": 3 << 20, "c": 1 << 20}
    why = refused(api, task)
    assert set(why) == {"b", "d"}
    assert all(f"the limit of a task is {MAX_BYTES} bytes" in reason for reason in why.values())
