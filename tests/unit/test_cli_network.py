"""`sandbox task network`: what a task was refused, as text and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.client import Client
from tests.unit.fake_api import AT, FakeApi, task
from tests.unit.test_cli import sandbox

NOTHING: dict[str, Any] = {
    "task_id": "t", "mode": "isolated", "allowed_hosts": [], "denied": [], "bytes_up": 0, "bytes_down": 0,
}  # fmt: skip


def contact(host: str, rule: str, count: int = 1) -> dict[str, Any]:
    return {"host": host, "port": 443, "rule": rule, "count": count, "first_at": AT, "last_at": AT}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        running.tasks["t"] = task("t", "completed")
        running.networks["t"] = NOTHING
        yield running


def test_a_task_that_asked_for_nothing_has_little_to_tell(api: FakeApi) -> None:
    ran = sandbox("task", "network", "t", server=api.url)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "mode:        isolated",
        "allowed:     -",
        "sent:        0 B",
        "received:    0 B",
        "denied:      0",
    ]


def test_what_was_denied_and_what_was_learned_are_listed(api: FakeApi) -> None:
    api.networks["t"] = NOTHING | {
        "mode": "outbound",
        "allowed_hosts": ["a.test", "*.b.test"],
        "denied": [contact("evil.test", "not_allowed", 3), contact("\x1b[2Jx.test", "sni")],
        "bytes_up": 2048,
        "learned": [contact("c.test", "learned")],
        "suggested_allowed_hosts": ["c.test", "d.test:22"],
    }
    ran = sandbox("task", "network", "t", server=api.url)
    assert ran.code == 0
    assert "allowed:     a.test, *.b.test" in ran.out
    assert "sent:        2.0 KiB" in ran.out
    assert "denied:      4" in ran.out
    assert re.search(r"^evil\.test +443 +not_allowed +3 +2026-01-29 ", ran.out, re.MULTILINE)
    assert "\x1b" not in ran.out
    assert re.search(r"^c\.test +443 +learned +1 ", ran.out, re.MULTILINE)
    assert ran.out.endswith("To allow exactly what was reached:\nallowed_hosts: [c.test, d.test:22]\n")
    assert json.loads(sandbox("task", "network", "t", "--format", "json", server=api.url).out) == api.networks["t"]


def test_a_task_that_is_not_there_is_3(api: FakeApi) -> None:
    assert sandbox("task", "network", "nobody", server=api.url).code == 3


def test_the_client_returns_the_report(api: FakeApi) -> None:
    with Client(api.url) as client:
        assert client.network("t") == NOTHING
