"""What attempts say is stored once, also when the store's answer to a commit is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.models import Claim
from orchestrator.product import Product, open_product
from orchestrator.settings import load
from orchestrator.store.database import Database, StoreUnavailable
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
