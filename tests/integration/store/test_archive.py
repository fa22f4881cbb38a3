"""Output that moves into artifact storage: no reader notices, whatever happens on the way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.archive import MAX_BYTES, SegmentName
from orchestrator.artifacts import ArtifactStoreUnavailable, DirectoryStore
from orchestrator.log_reader import ArchivedLogUnreadable, LogReader
from orchestrator.models import Claim, Kind, NewRecord, Record
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services import archive
from orchestrator.services.archive import archive_task
from orchestrator.services.conclude import conclude
from orchestrator.services.purge import purge
from orchestrator.store import attempts as attempt_rows
from orchestrator.store import workers
from orchestrator.store.database import Database
from orchestrator.store.tables import log_segments
from orchestrator.store.tables import tasks as task_table
from tests.integration.store.given import claimed, now, numbers, registered, running, together
from tests.integration.store.storage import StorageWithFaults, nothing

RETRY = {"retry": {"max_attempts": 3, "on": ["exit_nonzero"], "backoff": "0s"}}
NO_LIMIT = 1 << 20


class Killed(BaseException):
    """The process died here."""


@pytest.fixture
def storage(tmp_path: Path) -> StorageWithFaults:
    return StorageWithFaults(DirectoryStore(tmp_path / "artifacts"))


@pytest.fixture
def product(product: Product, storage: StorageWithFaults) -> Product:
    return replace(product, artifacts=storage)


@pytest.fixture
def reader(product: Product) -> LogReader:
    return LogReader(product.database, product.artifacts)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few rows, of however little output."""
    monkeypatch.setattr(archive, "MAX_ROWS", 3)
    monkeypatch.setattr(archive, "SMALL_BYTES", 1)


def write(product: Product, claim: Claim, *records: NewRecord) -> None:
    with product.database.write() as tx:
        journal.append(tx, claim, records)


def say(product: Product, claim: Claim, *texts: bytes) -> None:
    write(product, claim, *[journal.output("stdout", one, clock.now()) for one in texts])


def ended(product: Product, *texts: bytes, task_id: str = "t") -> Claim:
    registered(product)
    mine = running(product, task_id)
    say(product, mine, *texts)
    finish(product, mine)
    return mine


def finish(product: Product, mine: Claim) -> None:
    conclude(product, mine, of_exit(1, oom_killed=False))


def in_journal(product: Product, task_id: str = "t") -> list[Record]:
    with product.database.read() as tx:
        return journal.after(tx, task_id, 0, limit=NO_LIMIT)


def index(product: Product) -> list[sa.RowMapping]:
    with product.database.read() as tx:
        return list(tx.execute(sa.select(log_segments).order_by(log_segments.c.last_seq)).mappings())


def archived_at(product: Product, task_id: str = "t") -> object:
    with product.database.read() as tx:
        return tx.scalar(sa.select(task_table.c.archived_at).where(task_table.c.id == task_id))


def objects(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "artifacts" / "tasks").rglob("*") if path.is_file())


BIG = [b"x" * 9_999 + b"\n", b"1\n2\n3\n", b"y" * 9_999 + b"\n"]


def everything(reader: LogReader) -> list[Record]:
    return list(pages(reader.after))


def test_output_moves_and_everything_else_stays(product: Product, reader: LogReader, tmp_path: Path) -> None:
    mine = ended(product, *BIG)
    before = in_journal(product)
    assert archive_task(product, "t")
    assert Kind.OUTPUT not in {row.kind for row in in_journal(product)}
    assert [row for row in before if row.kind is not Kind.OUTPUT] == in_journal(product)
    assert everything(reader) == before
    assert archived_at(product) is not None
    (segment,) = index(product)
    assert objects(tmp_path) == [segment["key"].rpartition("/")[2]]
    assert segment["stored_bytes"] < sum(map(len, BIG)) / 10 < segment["size_bytes"]
    assert now(product, "t").next_seq == before[-1].last_seq + 1
    assert mine.attempt == 1


def test_a_small_log_stays_in_the_journal(product: Product, storage: StorageWithFaults) -> None:
    ended(product, b"one line\n")
    before = in_journal(product)
    assert archive_task(product, "t")
    assert (in_journal(product), storage.put_keys) == (before, [])
    assert archived_at(product) is not None


def test_a_long_log_moves_in_segments_of_bounded_size(product: Product, reader: LogReader) -> None:
    chunk = b"".join(b"%063d\n" % number for number in range(1024))
    ended(product, *[chunk] * 150, b"the end\n")
    before = in_journal(product)
    assert archive_task(product, "t")
    sizes = [row["size_bytes"] for row in index(product)]
    assert len(sizes) == 2
    assert max(sizes) <= MAX_BYTES
    assert everything(reader) == before


def pages(after: Callable[..., list[Record]], **options: int) -> Iterator[Record]:
    cursor = 0
    while page := after("t", cursor, **options):
        yield from page
        cursor = page[-1].last_seq


@pytest.mark.parametrize("seed", range(4))
def test_no_reader_can_tell_what_is_archived_and_when(
    product: Product, storage: StorageWithFaults, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random logs of several attempts; readers of every kind, with archiving between any two of their steps."""
    draw = random.Random(seed)  # noqa: S311 - a test that can be repeated
    random_log(product, draw)
    before = in_journal(product)
    monkeypatch.setattr(archive, "SMALL_BYTES", 1)
    step = archive_in_steps(product, monkeypatch, draw)
    readers = [reading(product, before, draw) for _ in range(9)]
    for _ in range(100):
        if draw.random() < 0.4:
            next(step, None)
        for one in draw.sample(readers, 4):
            assert next(one, True)
    assert not any(step), "the rest moves, too"
    for one in readers:
        assert all(one)
    assert Kind.OUTPUT not in {row.kind for row in in_journal(product)}
    assert archived_at(product) is not None
    assert all(all(reading(product, before, draw)) for _ in range(9))


def random_log(product: Product, draw: random.Random) -> None:
    registered(product)
    at = clock.now() - timedelta(hours=1)
    tries = draw.randint(1, 3)
    mine = running(product, "t", lifecycle={"retry": {**RETRY["retry"], "max_attempts": tries}})
    for attempt in range(1, tries + 1):
        mine = mine if attempt == 1 else claimed(product, "t", attempt=attempt)
        for _ in range(draw.randint(5, 25)):
            at += timedelta(seconds=draw.uniform(-1, 5))  # clocks go back, too
            data = b"\n" * draw.randint(0, 3) + draw.randbytes(draw.randint(1, 300))
            other = NewRecord(Kind.SYSTEM, at, "system", {"message": "m"})
            write(
                product, mine, draw.choice([journal.output(draw.choice(["stdout", "stderr"]), data, at)] * 4 + [other])
            )
        finish(product, mine)


def archive_in_steps(product: Product, monkeypatch: pytest.MonkeyPatch, draw: random.Random) -> Iterator[None]:
    """Each step moves one segment of random size, and breaks off."""
    moved = archive._move

    def move_one(*args: object) -> bool:
        moved(*args)  # type: ignore[arg-type]
        raise Killed

    while archived_at(product) is None:
        monkeypatch.setattr(archive, "MAX_ROWS", draw.randint(1, 6))
        with monkeypatch.context() as once:
            once.setattr(archive, "_move", move_one)
            try:
                archive_task(product, "t")
            except Killed:
                yield


def reading(product: Product, before: list[Record], draw: random.Random) -> Iterator[bool]:
    """Read in some way, page by page; yield whether what came is what a reader of the journal alone would have got."""
    reader = LogReader(product.database, product.artifacts, cached=draw.randint(0, 2))
    attempt = draw.choice([None, None, 1, 2, 3])
    mine = [row for row in before if attempt in (None, row.attempt)]
    limit = draw.randint(1, 9)
    way = draw.randrange(3)
    if way == 0:
        cursor = draw.randint(0, before[-1].last_seq)
        expected = [row for row in mine if row.last_seq > cursor]
        while expected:
            page = reader.after("t", cursor, attempt=attempt, limit=limit)
            yield bool(page) and page == expected[: len(page)]
            expected, cursor = expected[len(page) :], page[-1].last_seq
        yield reader.after("t", cursor, attempt=attempt, limit=limit) == []
    elif way == 1:
        rows = reader.backwards("t", attempt=attempt, limit=limit)
        for row in mine[::-1]:
            yield next(rows) == row
        yield next(rows, None) is None
    else:
        for row in draw.sample(before, 9):
            at = row.at + timedelta(microseconds=draw.choice([-1, 0, 1]))
            later = [one.first_seq - 1 for one in before if one.at >= at]
            yield reader.since("t", at) == (later[0] if later else before[-1].last_seq)


@pytest.mark.usefixtures("small_segments")
def test_archivers_at_once_move_each_row_once(
    product: Product, reader: LogReader, open_database: Callable[[], Database]
) -> None:
    ended(product, *[b"%d\n" % number for number in range(20)])
    before = in_journal(product)
    others = [replace(product, database=open_database()) for _ in range(4)]
    results = together(*[lambda one=one: archive_task(one, "t") for one in others])
    assert set(results) <= {True, False}
    while archived_at(product) is None:
        archive_task(product, "t")
    assert everything(reader) == before
    spans = [(row["first_seq"], row["last_seq"]) for row in index(product)]
    assert all(last < first for (_, last), (first, _) in pairwise(spans))


@pytest.mark.usefixtures("small_segments")
def test_a_slower_archiver_that_stored_the_same_object_does_no_harm(
    product: Product, reader: LogReader, storage: StorageWithFaults
) -> None:
    ended(product, b"1\n", b"2\n", b"3\n", b"4\n", b"5\n")
    before = in_journal(product)

    def overtake(_key: str) -> None:
        storage.after_put = lambda _key: None
        assert archive_task(product, "t")

    storage.after_put = overtake
    assert not archive_task(product, "t")
    assert everything(reader) == before


@pytest.mark.usefixtures("small_segments")
def test_an_archiver_that_is_killed_between_object_and_index_leaves_nothing_but_work(
    product: Product, reader: LogReader, storage: StorageWithFaults, tmp_path: Path
) -> None:
    ended(product, *[b"%d\n" % number for number in range(8)])
    before = in_journal(product)

    def die(_key: str) -> None:
        raise Killed

    for _ in range(3):
        storage.after_put = die
        with pytest.raises(Killed):
            archive_task(product, "t")
        assert everything(reader) == before
        # One segment is moved, the next one is stored and not moved.
        keys = list(storage.put_keys)
        storage.after_put = lambda _key, keys=keys: die(_key) if len(storage.put_keys) > len(keys) + 1 else None
        with pytest.raises(Killed):
            archive_task(product, "t")
        if len(index(product)) >= 2:
            break
    storage.after_put = lambda _key: None
    assert archive_task(product, "t")
    assert everything(reader) == before
    assert objects(tmp_path) == sorted(row["key"].rpartition("/")[2] for row in index(product)), "none is left over"


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("moment", ["before_put", "after_put"])
def test_a_purge_at_any_moment_of_archiving_leaves_neither_rows_nor_objects(
    product: Product, reader: LogReader, storage: StorageWithFaults, tmp_path: Path, moment: str
) -> None:
    ended(product, *[b"%d\n" % number for number in range(8)])

    def purge_it(_key: str) -> None:
        if len(index(product)) == 1:
            purge(product, "t")

    setattr(storage, moment, purge_it)
    assert not archive_task(product, "t")
    assert (index(product), objects(tmp_path)) == ([], [])
    assert {row.kind for row in everything(reader)} == {Kind.STATE_CHANGE}
    assert not archive_task(product, "t"), "there is nothing to archive any more"


@pytest.mark.usefixtures("small_segments")
def test_archiving_in_the_middle_of_a_purge_leaves_neither_rows_nor_objects(
    product: Product, storage: StorageWithFaults, tmp_path: Path
) -> None:
    ended(product, *[b"%d\n" % number for number in range(8)])

    def archive_it(_prefix: str) -> None:
        storage.after_delete = nothing
        assert archive_task(product, "t")

    storage.after_delete = archive_it
    purge(product, "t")
    assert (index(product), objects(tmp_path)) == ([], [])


def test_a_purge_removes_what_was_archived(product: Product, reader: LogReader, tmp_path: Path) -> None:
    ended(product, *BIG)
    archive_task(product, "t")
    assert len(everything(reader)) > len(in_journal(product))
    purge(product, "t")
    assert (index(product), objects(tmp_path)) == ([], [])
    assert reader.after("t", 0) == in_journal(product)


def test_a_task_is_archived_once_nothing_of_it_is_left_on_its_worker(product: Product, reader: LogReader) -> None:
    registered(product)
    mine = running(product)
    say(product, mine, *BIG)
    assert not archive_task(product, "t"), "it still runs"
    conclude(product, mine, of_exit(1, oom_killed=False), uncollected=True)
    assert not archive_task(product, "t"), "its worker has more of it"
    with product.database.write() as tx:
        journal.append_late(tx, mine, [journal.output("stdout", b"late\n", clock.now())])
        attempt_rows.mark_collected(tx, mine)
    before = in_journal(product)
    assert archive_task(product, "t")
    assert everything(reader) == before


def test_nobody_waits_for_what_a_removed_worker_had(product: Product) -> None:
    registered(product)
    mine = running(product)
    say(product, mine, *BIG)
    conclude(product, mine, of_exit(1, oom_killed=False), uncollected=True)
    with product.database.write() as tx:
        workers.remove(tx, "w")
    assert archive_task(product, "t")


@pytest.mark.usefixtures("small_segments")
def test_output_that_comes_while_it_moves_is_neither_lost_nor_doubled(
    product: Product, reader: LogReader, storage: StorageWithFaults
) -> None:
    mine = ended(product, *[b"%d\n" % number for number in range(8)])
    storage.after_put = lambda _key: say(product, mine, b"late\n") if len(storage.put_keys) < 5 else None
    while not archive_task(product, "t"):
        assert len(storage.put_keys) < 50
    said = [row.data for row in pages(reader.after) if row.data]
    assert said == [b"%d\n" % number for number in range(8)] + [b"late\n"] * 4
    assert numbers(list(pages(reader.after))) == list(range(1, now(product, "t").next_seq))


def test_a_task_is_not_called_archived_when_more_came_since_it_was_looked_at(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ended(product, b"little\n")
    mark = archive._mark

    def late(*args: Any) -> bool:
        say(product, mine, b"late\n")
        return mark(*args)

    with monkeypatch.context() as once:
        once.setattr(archive, "_mark", late)
        assert not archive_task(product, "t")
    assert archived_at(product) is None
    assert archive_task(product, "t")


def test_with_the_storage_away_nothing_changes_and_reading_is_refused_not_cut_short(
    product: Product, reader: LogReader, storage: StorageWithFaults
) -> None:
    ended(product, *BIG)
    before = in_journal(product)
    storage.down = True
    with pytest.raises(ArtifactStoreUnavailable):
        archive_task(product, "t")
    assert (in_journal(product), index(product), archived_at(product)) == (before, [], None)
    assert everything(reader) == before
    storage.down = False
    archive_task(product, "t")
    storage.down = True
    for read in (
        lambda: reader.after("t", 0),
        lambda: next(reader.backwards("t")),
        lambda: reader.since("t", before[0].at),
        lambda: reader.check("t", 0),
    ):
        with pytest.raises(ArtifactStoreUnavailable):
            read()
    last = index(product)[0]["last_seq"]
    reader.check("t", last)
    assert reader.after("t", last) == [row for row in before if row.last_seq > last], "what needs no storage is read"


@pytest.mark.parametrize("damage", [b"", b"not gzip", None])
def test_a_log_whose_object_is_lost_or_damaged_says_so(
    product: Product, reader: LogReader, tmp_path: Path, damage: bytes | None
) -> None:
    ended(product, *BIG)
    archive_task(product, "t")
    (segment,) = index(product)
    path = tmp_path / "artifacts" / segment["key"]
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    expected = (
        rf"records {segment['first_seq']} to {segment['last_seq']} of the log of task t cannot be read: .*restore"
    )
    with pytest.raises(ArchivedLogUnreadable, match=expected):
        reader.after("t", 0)


def test_who_reads_while_the_task_is_purged_gets_what_is_left(
    product: Product, reader: LogReader, storage: StorageWithFaults
) -> None:
    ended(product, *BIG)
    archive_task(product, "t")
    storage.before_open = lambda _key: purge(product, "t")
    assert {row.kind for row in everything(reader)} == {Kind.STATE_CHANGE}


@pytest.mark.usefixtures("small_segments")
def test_since_and_one_attempt_open_only_what_they_need(product: Product, storage: StorageWithFaults) -> None:
    registered(product)
    start = clock.now() + timedelta(hours=1)
    mine = running(product, lifecycle=RETRY)
    for attempt in (1, 2, 3):
        mine = mine if attempt == 1 else claimed(product, attempt=attempt)
        for minute in range(9):
            at = start + timedelta(hours=attempt, minutes=minute)
            write(product, mine, journal.output("stdout", b"%d.%d\n" % (attempt, minute), at))
        finish(product, mine)
    assert archive_task(product, "t")
    assert len(index(product)) == 9
    reader = LogReader(product.database, storage)
    cursor = reader.since("t", start + timedelta(hours=2, minutes=4))
    assert len(storage.opened) == 1
    assert next(row.data for row in reader.after("t", cursor) if row.data) == b"2.4\n"
    storage.opened.clear()
    reader = LogReader(product.database, storage)
    newest, *_ = [row.data for row in reader.backwards("t", attempt=1) if row.data]
    assert newest == b"1.8\n"
    assert {SegmentName.of_key(key).holds(1) for key in storage.opened} == {True}


def test_segments_that_were_read_are_kept_for_the_next_page(product: Product, storage: StorageWithFaults) -> None:
    ended(product, *BIG)
    archive_task(product, "t")
    reader = LogReader(product.database, storage)
    list(pages(reader.after, limit=1))
    assert len(storage.opened) == 1
