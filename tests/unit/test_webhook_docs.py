"""docs/webhooks.md: its snippets verify what we sign, and nothing else; its numbers are ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import schemas
from orchestrator import clock
from orchestrator.services.retention import DELIVERY_DAYS
from orchestrator.services.webhooks import MOST_WEBHOOKS
from orchestrator.store.deliveries import MOST_WAITING
from orchestrator.webhooks.receiver import MAX_URL
from orchestrator.webhooks.retrying import delay
from orchestrator.webhooks.sending import SECONDS
from orchestrator.webhooks.signing import MAX_SECRET, MIN_SECRET, headers, new_secret

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
BODY = '{"id":"msg_1","name":"Größe"}'.encode()
SECRETS = [new_secret(), "a text of my own, long enough"]


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert isinstance(found, str)
    return found


def attempts(secret: str) -> list[tuple[bool, dict[str, str], bytes, str]]:
    """Whether it is to be believed, and headers, body and the receiver's secret."""
    now = clock.now()
    good = headers("msg_1", now, BODY, secret)
    several = {**good, "webhook-signature": f"v1,AAAA {good['webhook-signature']} v1a,BBBB"}
    other_time = {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}
    return [
        (True, good, BODY, secret),
        (True, several, BODY, secret),
        (True, headers("msg_1", now - timedelta(minutes=4), BODY, secret), BODY, secret),
        (False, good, BODY + b" ", secret),
        (False, {**good, "webhook-id": "msg_2"}, BODY, secret),
        (False, other_time, BODY, secret),
        (False, good, BODY, new_secret()),
        (False, headers("msg_1", now, BODY, ""), BODY, secret),
        (False, {**good, "webhook-signature": ""}, BODY, secret),
        (False, headers("msg_1", now - timedelta(minutes=6), BODY, secret), BODY, secret),
        (False, headers("msg_1", now + timedelta(minutes=6), BODY, secret), BODY, secret),
    ]


@pytest.mark.parametrize("secret", SECRETS, ids=["made by the server", "of one's own"])
def test_the_python_snippet_believes_what_we_sign_and_nothing_else(secret: str) -> None:
    names: dict[str, Any] = {}
    exec(snippet("python"), names)  # noqa: S102 - that it runs is the point
    verify: Callable[[str, dict[str, str], bytes], None] = names["verify"]
    for is_good, given, body, known in attempts(secret):
        if is_good:
            verify(known, given, body)
        else:
            with pytest.raises(ValueError, match=r"signed by somebody else|too old"):
                verify(known, given, body)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js on this machine")
@pytest.mark.parametrize("secret", SECRETS, ids=["made by the server", "of one's own"])
def test_the_javascript_snippet_believes_what_we_sign_and_nothing_else(secret: str, tmp_path: Path) -> None:
    (tmp_path / "verify.mjs").write_text(snippet("javascript"))
    (tmp_path / "try.mjs").write_text(
        'import { verify } from "./verify.mjs"; import { readFileSync } from "node:fs";\n'
        "console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(([headers, body, secret]) => {\n"
        "  try { verify(secret, headers, Buffer.from(body)); return true; } catch { return false; } })));\n"
    )
    tried = attempts(secret)
    given = json.dumps([[told, body.decode(), known] for _, told, body, known in tried])
    done = subprocess.run(["node", tmp_path / "try.mjs"], input=given, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [is_good for is_good, *_ in tried]


def test_the_numbers_on_the_page_are_ours() -> None:
    notify = schemas.load(schemas.TASK)["properties"]["notify"]
    assert (SECONDS, notify["maxItems"], DELIVERY_DAYS) == (10, 10, 7)
    for words in (
        f"at most {MAX_URL} characters",
        f"an owner has {MOST_WEBHOOKS} webhooks",
        f"of {MIN_SECRET} to {MAX_SECRET} characters",
        f"{MOST_WAITING:,} deliveries of a webhook wait",
        "about 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, then every 2 h",
    ):
        assert words in PAGE
    assert [delay(tries, 0).total_seconds() for tries in range(1, 8)] == [5, 30, 120, 600, 1800, 3600, 7200]


def test_the_signature_on_the_page_is_one_of_its_form() -> None:
    told = headers("msg_1", datetime(2026, 1, 29, tzinfo=UTC), BODY, new_secret())
    shown = dict(re.findall(r"^(webhook-[a-z]+): (.*)$", PAGE, re.MULTILINE))
    assert {name: len(value) for name, value in shown.items() if name != "webhook-id"} == {
        name: len(value) for name, value in told.items() if name != "webhook-id"
    }
