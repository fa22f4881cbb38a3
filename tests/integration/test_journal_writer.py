"""What attempts say is stored once, also when the store's answer to a commit is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.models import Claim, Kind, NewRecord
from orchestrator.product import Product, open_product
from orchestrator.settings import load
from orchestrator.store import attempts
from orchestrator.store.database import Database, StoreUnavailable
from orchestrator.store.sandbox_use import at_least
from tests.integration.store.given import registered, running
from workers.journal_writer import JournalWriter, LateWriter, Writer


class ForgetfulStore(Database):
    """Commits, then loses its answer, as often as it was told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.answers_to_lose = 0

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with super().write() as tx:
            yield tx
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise StoreUnavailable("the connection broke after the commit")


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    opened = open_product(load({}, data_dir=tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def mine(product: Product) -> Claim:
    registered(product)
    return running(product)


def printed(product: Product) -> list[bytes]:
    with product.database.read() as tx:
        return [row.data for row in journal.after(tx, "t", 0) if row.data]


def unlucky(product: Product) -> ForgetfulStore:
    store = ForgetfulStore(product.settings.store_url)
    store.answers_to_lose = 2
    return store


def write_two(writer: Writer, mine: Claim) -> list[int]:
    beside: list[int] = []
    for line in (b"one\n", b"two\n"):
        records = [journal.output("stdout", line, clock.now())]
        writer.write(mine, records, beside=lambda _: beside.append(1), output_bytes=4)
    return beside


def test_a_commit_whose_answer_was_lost_is_not_repeated(product: Product, mine: Claim) -> None:
    store = unlucky(product)
    beside = write_two(JournalWriter(store, lambda _: None), mine)
    store.close()
    assert printed(product) == [b"one\n", b"two\n"]
    assert len(beside) == 2


def test_late_words_are_not_repeated_either(product: Product, mine: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.patience.RETRY_SECONDS", 0.01)
    from orchestrator.services import fleet

    fleet.stop(product, "w", 0)
    fleet.remove(product, "w", force=True)
    store = unlucky(product)
    write_two(LateWriter(store), mine)
    store.close()
    assert printed(product) == [b"one\n", b"two\n"]


def offered(product: Product, mine: Claim, writer: Writer, cpu_seconds: float) -> threading.Event:
    body = {"cpu_percent": 1.0}
    used = at_least(cpu_seconds=cpu_seconds, memory_peak_bytes=None, disk_peak_bytes=None)
    return writer.offer(mine, [NewRecord(Kind.METRICS, clock.now(), body=body)], **used)


def cpu_seconds(product: Product) -> float | None:
    with product.database.read() as tx:
        row = attempts.get(tx, "t", 1)
    assert row is not None
    return row.cpu_seconds


def test_an_offer_is_stored_without_a_wait_and_is_no_part_of_the_log(product: Product, mine: Claim) -> None:
    writer = JournalWriter(product.database, lambda _: None)
    with product.database.write():  # nobody else can write
        stored = offered(product, mine, writer, 2.5)
        assert not stored.is_set()
    assert stored.wait(30)
    assert cpu_seconds(product) == 2.5
    with product.database.read() as tx:
        assert [row.kind for row in journal.after(tx, "t", 0) if row.kind is Kind.METRICS] == []
        found, _ = journal.all_after(tx, journal.Place(), kinds=[Kind.METRICS])
    assert [row.body for row in found] == [{"cpu_percent": 1.0}]


def test_an_offer_in_a_lost_claim_is_dropped_and_the_loss_is_told(product: Product, mine: Claim) -> None:
    lost: SimpleQueue[Claim] = SimpleQueue()
    stale = replace(mine, fence=mine.fence + 1)
    assert offered(product, stale, JournalWriter(product.database, lost.put), 2.5).wait(30)
    assert lost.get(timeout=30) == stale
    assert cpu_seconds(product) is None
    assert offered(product, stale, LateWriter(product.database), 2.5).is_set()
    assert cpu_seconds(product) is None
