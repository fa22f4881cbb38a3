"""Lists, one task, a log and the metrics among a million stored tasks, asked of the API in process."""

import time
from typing import Any

import sqlalchemy as sa
from flask.testing import FlaskClient

from api.app import create_app
from orchestrator import clock, journal
from orchestrator.models import Claim
from orchestrator.outcomes import Reason
from orchestrator.states import State
from orchestrator.store.tables import labels, records, tasks
from tests.benchmarks.stack import BenchmarkFailed
from tests.benchmarks.stores import KINDS, NUMBER, SPREAD, TEMPLATE, Store, opened
from tests.benchmarks.table import Row, from_samples

LOUD = "loud"
LOG_BYTES = 1_000_000
_LINE = b"x" * 99 + b"\n"
_ROW_LINES = 600


def pages(quick: bool) -> list[Row]:
    """For each database: how long the API takes for what users ask it most."""
    count, samples = (10_000, 3) if quick else (1_000_000, 15)
    rows: list[Row] = []
    for kind in KINDS:
        with opened(kind) as store:
            began = time.perf_counter()
            _fill(store, count)
            store.settle()
            note = f"; {count:,} tasks made in {time.perf_counter() - began:.0f} s"
            client = create_app(store.product).test_client()
            for what, address, expected in _requests(count):
                _milliseconds(client, address, expected)  # SQLAlchemy learns its statements
                times = [_milliseconds(client, address, expected) for _ in range(samples)]
                rows.append(from_samples(f"{kind}: {what}", times, note=f"fastest {min(times):.2g} ms{note}"))
                note = ""
    return rows


def _requests(count: int) -> list[tuple[str, str, str]]:
    """What it is, the address, and what the answer must hold."""
    some = 7 * 2654435761 % (1 << 32)
    everything, half, one_in_100 = f'"total_count":{count + 2}', f'"total_count":{count // 2}', count // 100
    return [
        ("default page", "/tasks", everything),
        ("page at the other end", f"/tasks?offset={count - 100}", everything),
        ("sorted by name", "/tasks?sort=name&order=asc", everything),
        ("sorted by start, the other end", f"/tasks?sort=started_at&offset={count - 100}", everything),
        ("sorted by last change", "/tasks?sort=state_changed_at", everything),
        ("state=running, 1 in 1000", "/tasks?state=running", f'"total_count":{count // 1000}'),
        ("state=failed, 1 in 50", "/tasks?state=failed", f'"total_count":{count // 50 + 1}'),
        ("state=completed,failed", "/tasks?state=completed,failed", '"has_more":true'),
        ("one label, 1 in 100", "/tasks?label.team=t7", f'"total_count":{one_in_100}'),
        ("one label, every second", "/tasks?label.env=e1", half),
        ("label, every second, and state=running", "/tasks?label.env=e0&state=running", '"has_more"'),
        ("label, every second, and state=failed", "/tasks?label.env=e1&state=failed", '"has_more"'),
        ("two labels", "/tasks?label.env=e1&label.team=t7", f'"total_count":{one_in_100}'),
        ("children of one task, 1 in 100", f"/tasks?parent_id={TEMPLATE}", f'"total_count":{one_in_100}'),
        ("one task", f"/tasks/t{some}", f'"t{some}"'),
        ("log of 1 MB", f"/tasks/{LOUD}/logs?format=raw&stream=stdout", "xxx"),
        ("last 100 lines of it", f"/tasks/{LOUD}/logs?tail=100", "xxx"),
        ("/metrics", "/metrics", "sandbox_outcomes"),
    ]


def _milliseconds(client: FlaskClient, address: str, expected: str) -> float:
    began = time.perf_counter()
    answer = client.get(address if address == "/metrics" else f"/api/v1{address}")
    text = answer.text
    took = time.perf_counter() - began
    if answer.status_code != 200 or expected.replace(" ", "") not in text.replace(" ", ""):
        raise BenchmarkFailed(f"{address} answered {answer.status_code} without {expected}: {text[-300:]}")
    return took * 1000


def _fill(store: Store, count: int) -> None:
    created = tasks.c.created_at + sa.cast(NUMBER, sa.BigInteger) * 1000
    thousandth = NUMBER % 1000
    is_running, is_pending = thousandth == 0, thousandth.in_([1, 2, 3, 4])
    failed = NUMBER % 50 == 7
    ended = sa.not_(sa.or_(is_running, is_pending))
    columns: dict[str, Any] = {
        "id": "t" + SPREAD,
        "name": "n" + sa.cast(thousandth, sa.String),
        "state": sa.case(
            (is_running, State.RUNNING.value), (is_pending, State.PENDING.value), (failed, State.FAILED.value),
            else_=State.COMPLETED.value,
        ),
        "created_at": created,
        "state_changed_at": created,
        "started_at": sa.case((is_pending, None), else_=created),
        "finished_at": sa.case((ended, created), else_=None),
        "worker": sa.case((is_pending, None), else_="w"),
        "outcome_reason": sa.case(
            (failed, Reason.EXIT_NONZERO.value), (ended, Reason.EXIT_ZERO.value), else_=None
        ),
        "parent_id": sa.case((NUMBER % 100 == 0, TEMPLATE), else_=None),
    }  # fmt: skip
    store.copy_template(count, columns)
    of_task = {"task_id": columns["id"]}
    of_label = {**of_task, "created_at": labels.c.created_at + sa.cast(NUMBER, sa.BigInteger) * 1000}
    team = sa.literal("t") + sa.cast(NUMBER % 100, sa.String)
    env = sa.literal("e") + sa.cast(NUMBER % 2, sa.String)
    store.copy_template(count, {**of_label, "value": team}, labels)
    store.copy_template(count, {**of_label, "key": sa.literal("env"), "value": env}, labels)
    store.copy_template(count, of_task, records)
    _loud(store)


def _loud(store: Store) -> None:
    """A finished task with a log of a megabyte."""
    at = clock.now()
    ended = {"attempt": 1, "fence": 1, "state": "failed", "worker": "w", "finished_at": at, "started_at": at}
    with store.product.database.write() as tx:
        row = dict(tx.execute(sa.select(tasks).where(tasks.c.id == TEMPLATE)).mappings().one())
        tx.execute(tasks.insert().values({**row, "id": LOUD, "outcome_reason": "exit_nonzero", **ended}))
        for _ in range(LOG_BYTES // (_ROW_LINES * len(_LINE)) + 1):
            journal.append(tx, Claim(LOUD, 1, 1), [journal.output("stdout", _LINE * _ROW_LINES, at)])
