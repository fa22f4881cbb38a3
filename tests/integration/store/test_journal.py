"""The journal: one sequence a task, gapless in commit order, whoever writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import chain

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.journal import StaleClaim
from orchestrator.models import Claim, Kind, NewRecord, Record
from orchestrator.outcomes import Reason, failure, of_exit
from orchestrator.product import Product
from orchestrator.services import fleet
from orchestrator.services.conclude import conclude
from orchestrator.services.purge import purge
from orchestrator.states import State
from orchestrator.store import attempts as attempt_rows
from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate
from tests.integration.store.given import claimed, now, numbers, registered, running, submitted, together

WRITERS = 8
RETRY = {"retry": {"max_attempts": 3, "on": ["exit_nonzero"], "backoff": "0s"}}


@pytest.fixture
def mine(product: Product) -> Claim:
    registered(product, slots=100, cpus=100)
    return running(product)


def append(database: Database, claim: Claim, *texts: bytes, **progress: object) -> int:
    with database.write() as tx:
        return journal.append(tx, claim, [journal.output("stdout", one, clock.now()) for one in texts], **progress)


def rows(database: Database, task_id: str, cursor: int = 0, **options: int) -> list[Record]:
    with database.read() as tx:
        return journal.after(tx, task_id, cursor, **options)


def test_what_is_appended_is_read_back_in_order_with_every_byte(product: Product, mine: Claim) -> None:
    chunks = [bytes(range(256)), b"a\nb\n", b"\x00\n", b"x" * 70_000]
    last = append(product.database, mine, *chunks)
    output = [row for row in rows(product.database, "t") if row.kind is Kind.OUTPUT]
    assert [row.data for row in output] == chunks
    assert (output[-1].last_seq, output[0].stream, output[0].attempt) == (last, "stdout", 1)
    assert now(product, "t").output_bytes == sum(map(len, chunks))
    assert now(product, "t").last_activity_at == output[-1].at


def test_progress_is_stored_with_the_records(product: Product, mine: Claim) -> None:
    append(product.database, mine, b"a\n", spool_offset="7", output_bytes=2)
    append(product.database, mine, spool_offset="9")
    with product.database.read() as tx:
        attempt = attempt_rows.get(tx, "t", 1)
    assert attempt is not None
    assert (attempt.spool_offset, attempt.output_bytes) == ("9", 2)


@pytest.mark.parametrize("stale", [Claim("t", 1, 2), Claim("t", 2, 1), Claim("t", 0, 0), Claim("nobody", 1, 1)])
def test_a_stale_writer_is_refused_and_nothing_of_it_is_stored(product: Product, mine: Claim, stale: Claim) -> None:
    before = now(product, "t")
    with pytest.raises(StaleClaim):
        append(product.database, stale, b"not mine\n", spool_offset="99")
    assert now(product, "t") == before
    assert all(row.data is None for row in rows(product.database, "t"))


def test_an_attempt_that_was_ended_for_a_retry_writes_no_more_even_before_the_next_claim(
    product: Product, mine: Claim
) -> None:
    other = running(product, "r", lifecycle=RETRY)
    assert conclude(product, other, of_exit(1, oom_killed=False)) is State.PENDING
    with pytest.raises(StaleClaim):
        append(product.database, other, b"too late\n")
    with pytest.raises(StaleClaim):
        conclude(product, other, failure(Reason.INTERNAL_ERROR, "too late"))
    assert now(product, "r").state is State.PENDING


def test_eight_writers_to_one_task_leave_no_gap_and_no_repeat(
    product: Product, mine: Claim, open_database: Callable[[], Database]
) -> None:
    first = now(product, "t").next_seq

    def writer(number: int) -> Callable[[], list[int]]:
        database = open_database()
        return lambda: [append(database, mine, f"{number}\n".encode() * (step % 3 + 1)) for step in range(25)]

    lasts = chain.from_iterable(together(*[writer(number) for number in range(WRITERS)]))
    written = rows(product.database, "t", first - 1, limit=1000)
    assert numbers(written) == list(range(first, now(product, "t").next_seq))
    assert sorted(lasts) == [row.last_seq for row in written]
    for number in range(WRITERS):
        own = [row.data for row in written if row.data and row.data.startswith(b"%d\n" % number)]
        assert own == [b"%d\n" % number * (step % 3 + 1) for step in range(25)], "one writer's order is kept"


def test_writers_of_many_tasks_do_not_disturb_each_other(
    product: Product, mine: Claim, open_database: Callable[[], Database]
) -> None:
    claims = [running(product, f"t{number}") for number in range(WRITERS)]
    first = {claim.task_id: now(product, claim.task_id).next_seq for claim in claims}

    def writer(shift: int) -> Callable[[], None]:
        database = open_database()

        def write() -> None:
            for step in range(12):  # every transaction writes to two tasks, as a worker's common writer does
                pair = sorted({(shift + step) % WRITERS, (shift + step + 1) % WRITERS})
                with database.write() as tx:
                    for number in pair:
                        journal.append(tx, claims[number], [journal.output("stderr", b"x\ny\n", clock.now())])

        return write

    assert together(*[writer(number) for number in range(WRITERS)]) == [None] * WRITERS
    for claim in claims:
        written = rows(product.database, claim.task_id, first[claim.task_id] - 1, limit=1000)
        assert numbers(written) == list(range(first[claim.task_id], now(product, claim.task_id).next_seq))
    assert sum(now(product, claim.task_id).output_bytes for claim in claims) == WRITERS * 12 * 2 * 4


def test_a_reader_of_one_task_never_sees_a_hole_while_others_write(
    product: Product, mine: Claim, open_database: Callable[[], Database]
) -> None:
    start = now(product, "t").next_seq - 1
    goal = start + 3 * 30 * 2

    def write() -> None:
        database = open_database()
        for _ in range(30):
            append(database, mine, b"a\nb\n")

    def read() -> list[int]:
        database, seen, cursor = open_database(), [], start
        while cursor < goal:
            time.sleep(0.001)
            found = rows(database, "t", cursor)
            seen += numbers(found)
            cursor = seen[-1] if seen else cursor
        return seen

    *_, seen = together(write, write, write, read)
    assert seen == list(range(start + 1, goal + 1))


def test_a_cursor_within_a_row_gives_that_row_again(product: Product, mine: Claim) -> None:
    last = append(product.database, mine, b"a\nb\nc\n")
    (row,) = rows(product.database, "t", last - 2)
    assert (row.first_seq, row.last_seq) == (last - 2, last)
    assert rows(product.database, "t", last) == []


def test_rows_of_one_attempt_can_be_asked_for(product: Product) -> None:
    registered(product)
    first = running(product, "r", lifecycle=RETRY)
    append(product.database, first, b"one\n")
    conclude(product, first, of_exit(1, oom_killed=False))
    append(product.database, claimed(product, "r", attempt=2), b"two\n")
    assert [row.data for row in rows(product.database, "r", attempt=1) if row.data] == [b"one\n"]
    assert [row.data for row in rows(product.database, "r", attempt=2) if row.data] == [b"two\n"]


def test_rows_come_backwards_in_batches_of_any_size(product: Product, mine: Claim) -> None:
    append(product.database, mine, *[b"%d\n" % number for number in range(10)])
    everything = rows(product.database, "t")
    for batch in (1, 3, 64):
        with product.database.read() as tx:
            assert journal.before(tx, "t", None, limit=batch) == everything[::-1][:batch]


def test_since_is_the_cursor_before_the_first_record_of_that_instant(product: Product, mine: Claim) -> None:
    at = clock.now() + timedelta(hours=1)
    old = [journal.output("stdout", b"old\n", at - timedelta(seconds=1))]
    new = [journal.output("stdout", b"new\n", at), NewRecord(Kind.SYSTEM, at, "system", {"message": "newer"})]
    with product.database.write() as tx:
        before = journal.append(tx, mine, old)
        last = journal.append(tx, mine, new)
    with product.database.read() as tx:
        assert journal.since(tx, "t", at) == before
        assert journal.since(tx, "t", at + timedelta(days=1)) == last == journal.last_seq(tx, "t")
        assert journal.since(tx, "nobody", at) == 0


def read_all(product: Product, place: journal.Place) -> tuple[list[bytes], journal.Place]:
    with product.database.read() as tx:
        found, place = journal.all_after(tx, place, kinds=[Kind.OUTPUT])
    return [one.data for one in found if one.data], place


def test_a_reader_of_all_tasks_gets_each_record_once(product: Product, mine: Claim) -> None:
    other = running(product, "other")
    with product.database.read() as tx:
        place = journal.newest(tx)
    append(product.database, mine, b"a\n")
    append(product.database, other, b"b\n")
    first, place = read_all(product, place)
    append(product.database, mine, b"c\n")
    second, place = read_all(product, place)
    assert (first, second) == ([b"a\n", b"b\n"], [b"c\n"])
    assert read_all(product, place) == ([], place)


def test_a_record_that_is_committed_late_is_not_skipped(product: Product, mine: Claim) -> None:
    if product.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time: nothing can be committed out of order")
    other = running(product, "other")
    with product.database.read() as tx:
        place = journal.newest(tx)
    with product.database.write() as slow:
        journal.append(slow, other, [journal.output("stdout", b"slow\n", clock.now())])
        append(product.database, mine, b"fast\n")
        early, place = read_all(product, place)
    late, place = read_all(product, place)
    assert early == []
    assert late == [b"slow\n", b"fast\n"]
    assert read_all(product, place)[0] == []


def test_an_older_transaction_that_comes_later_to_a_task_does_not_overtake(product: Product, mine: Claim) -> None:
    if product.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time: nothing can be committed out of order")
    other = running(product, "other")
    with product.database.read() as tx:
        place = journal.newest(tx)
    with product.database.write() as older:  # as the journal writer: several tasks in one transaction
        journal.append(older, other, [journal.output("stdout", b"other\n", clock.now())])
        append(product.database, mine, b"1\n")
        journal.append(older, mine, [journal.output("stdout", b"2\n", clock.now()), metrics(1)])
    append(product.database, mine, b"3\n")
    found, place = read_all(product, place)
    assert [one for one in found if one != b"other\n"] == [b"1\n", b"2\n", b"3\n"]
    assert read_all(product, place)[0] == []


def metrics(percent: float) -> NewRecord:
    return NewRecord(Kind.METRICS, clock.now(), body={"cpu_percent": percent})


def test_an_aside_has_a_place_among_all_records_and_none_in_the_log(product: Product, mine: Claim) -> None:
    with product.database.read() as tx:
        place, before = journal.newest(tx), journal.last_seq(tx, "t")
    with product.database.write() as tx:
        at = clock.now()
        said = [journal.output("stdout", text, at) for text in (b"a\nb\n", b"c\n")]
        assert journal.append(tx, mine, [metrics(1), said[0], metrics(2), said[1]]) == before + 3
        journal.append(tx, mine, [metrics(3)])
    assert numbers(rows(product.database, "t", before)) == [before + 1, before + 2, before + 3]
    with product.database.read() as tx:
        found, _ = journal.all_after(tx, place)
        assert [one.body.get("cpu_percent", one.data) for one in found] == [1, b"a\nb\n", 2, b"c\n", 3]
        assert [one.last_seq for one in found if one.kind is Kind.METRICS] == [-1, -2, -3]
        asides, _ = journal.all_after(tx, journal.Place(), kinds=[Kind.METRICS], task_id="t", limit=2)
        assert [one.body["cpu_percent"] for one in asides] == [1, 2]
        assert [one.last_seq for one in journal.before(tx, "t", None, limit=1)] == [before + 3]
        assert journal.since(tx, "t", at) == before
        assert journal.last_seq(tx, "t") == before + 3


def test_how_far_removed_records_reached_is_remembered_by_kind(product: Product, mine: Claim) -> None:
    append(product.database, mine, b"gone\n")
    with product.database.read() as tx:
        reached = journal.newest(tx)
    with product.database.write() as tx:
        journal.append(tx, mine, [NewRecord(Kind.ERROR, clock.now(), body={"error": "e"})])
        journal.delete_of(tx, "t")
    with product.database.read() as tx:
        assert journal.horizon(tx, [Kind.OUTPUT, Kind.STATE_CHANGE]) == reached
        assert journal.horizon(tx, [Kind.STATE_CHANGE, Kind.ERROR]) == journal.Place()
    append(product.database, running(product, "later"), b"also gone\n")
    with product.database.write() as tx:
        journal.delete_of(tx, "t")
        journal.delete_of(tx, "later")
    with product.database.read() as tx:
        assert journal.horizon(tx, [Kind.OUTPUT]) > reached


def test_the_state_that_a_task_was_in_is_known_for_each_record(product: Product, mine: Claim) -> None:
    append(product.database, mine, b"said\n")
    with product.database.write() as tx:
        journal.append(tx, mine, [metrics(1)])
    conclude(product, mine, of_exit(1, oom_killed=False))
    with product.database.read() as tx:
        found, _ = journal.all_after(tx, journal.Place(), kinds=[Kind.OUTPUT, Kind.METRICS])
        assert [journal.state_before(tx, one) for one in found] == [State.RUNNING] * 2


def test_a_store_restored_into_a_younger_server_goes_on_counting(product: Product, mine: Claim) -> None:
    if product.database.is_sqlite:
        pytest.skip("SQLite numbers no transactions")
    product.database.installation_id()
    append(product.database, mine, b"old\n")
    with product.database.write() as tx:  # as a dump of a server that is a million transactions older
        tx.execute(sa.text("UPDATE records SET transaction_id = transaction_id + 1000000"))
    migrate(product.database)
    with product.database.read() as tx:
        place = journal.newest(tx)
    append(product.database, mine, b"new\n")
    assert read_all(product, place)[0] == [b"new\n"]


def test_a_purged_journal_keeps_the_state_changes(product: Product, mine: Claim) -> None:
    append(product.database, mine, b"a\n")
    with product.database.write() as tx:
        journal.append(tx, mine, [NewRecord(Kind.GAP, clock.now(), body={"dropped_bytes": 1, "message": "m"})])
        journal.delete_of(tx, "t")
    assert {row.kind for row in rows(product.database, "t")} == {Kind.STATE_CHANGE}
    submitted(product, "u")
    assert rows(product.database, "u") != []


def left_behind(product: Product, mine: Claim) -> Claim:
    """The attempt of a worker that was lost while it ran: another one follows, and its host may still hold things."""
    fleet.stop(product, "w", 0)
    fleet.remove(product, "w", force=True)
    return mine


def test_what_a_lost_worker_still_holds_may_be_appended_until_it_is_collected(product: Product, mine: Claim) -> None:
    append(product.database, mine, b"before\n")
    left_behind(product, mine)
    with pytest.raises(StaleClaim):
        append(product.database, mine, b"as if nothing had happened\n")
    with product.database.write() as tx:
        journal.append_late(tx, mine, [journal.output("stdout", b"late\n", clock.now())], output_bytes=12)
    assert [row.data for row in rows(product.database, "t") if row.data] == [b"before\n", b"late\n"]
    assert numbers(rows(product.database, "t")) == list(range(1, len(numbers(rows(product.database, "t"))) + 1))
    with product.database.write() as tx:
        attempt_rows.mark_collected(tx, mine)
    with product.database.write() as tx, pytest.raises(StaleClaim):
        journal.append_late(tx, mine, [journal.output("stdout", b"again\n", clock.now())])


def test_a_purge_ends_what_may_be_appended_late(product: Product, mine: Claim) -> None:
    left_behind(product, mine)
    purge(product, "t")
    with product.database.write() as tx, pytest.raises(StaleClaim):
        journal.append_late(tx, mine, [journal.output("stdout", b"late\n", clock.now())])


def test_the_journal_tells_whether_it_holds_what_a_lost_commit_wrote(product: Product, mine: Claim) -> None:
    new = [journal.output("stdout", b"a\nb\n", clock.now())]
    with product.database.write() as tx:
        last = journal.append(tx, mine, new)
    with product.database.read() as tx:
        assert journal.holds(tx, mine, last, new)
        assert not journal.holds(tx, mine, last + 2, new)
        assert not journal.holds(tx, mine, last, [journal.output("stdout", b"a\n", clock.now())])
