"""What access tokens cost a request, and whether a refusal's time tells how near a secret was (attack H2)."""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from api.app import create_app
from orchestrator import access
from orchestrator.access import USUAL, Credentials
from orchestrator.services import tokens
from orchestrator.services.tokens import recognise
from tests.benchmarks.table import Row, from_samples
from tests.integration.api.installation import MANIFEST, open_product


def requests(quick: bool) -> list[Row]:
    """One task read of an open API and with a token; then secrets that are refused."""
    samples = 50 if quick else 1000
    with tempfile.TemporaryDirectory() as directory:
        product = open_product(Path(directory) / "data")
        client = create_app(product).test_client()
        task_id = client.post("/api/v1/tasks", data=MANIFEST, content_type="text/yaml").get_json()["task_id"]
        address = f"/api/v1/tasks/{task_id}"
        free = _milliseconds(lambda: client.get(address), samples)
        token, text = tokens.create(
            product.database, name="n", owner="o", scopes=[*USUAL, access.Scope.ADMIN], requests_per_minute=1_000_000
        )
        headers = {"Authorization": f"Bearer {text}"}
        paid = _milliseconds(lambda: client.get(address, headers=headers), samples)
        note = "the open one asks whether there is a token by now, the other one looks it up"
        rows = [from_samples("one task, with a token", paid, beside="open API", limits=free, note=note)]
        near, far = _guesses(token.id, text)
        near_times = _milliseconds(lambda: recognise(product.database, next(near)), samples)
        far_times = _milliseconds(lambda: recognise(product.database, next(far)), samples)
        product.database.close()
    return [*rows, from_samples("refused, 63 of 64 digits right", near_times, beside="none right", limits=far_times)]


def _guesses(token_id: str, text: str) -> tuple["itertools.cycle[Credentials]", ...]:
    secret = text.rpartition("_")[2]
    near = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    far = "".join("0" if digit != "0" else "1" for digit in secret)
    found = (access.read(f"sbx_{token_id}_{one}") for one in (near, far))
    return tuple(itertools.cycle([one]) for one in found if one is not None)


def _milliseconds(act: Callable[[], object], samples: int) -> list[float]:
    times = []
    for _ in range(samples + samples // 10):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return times[samples // 10 :]  # without those in which SQLAlchemy learned its statements
