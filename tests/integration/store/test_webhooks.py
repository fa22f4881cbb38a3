"""Webhooks on both stores: what is told, once; what is sent, at least once; what becomes of a bad receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator import clock, journal
from orchestrator.access import ANYBODY, USUAL, Caller, Scope
from orchestrator.models import Delivery, DeliveryState, Kind, NewDelivery, NewRecord, Webhook
from orchestrator.outcomes import of_exit
from orchestrator.product import Product
from orchestrator.services import webhooks as services
from orchestrator.services.conclude import conclude
from orchestrator.services.expire import forget
from orchestrator.services.rerun import rerun
from orchestrator.services.retention import DELIVERY_DAYS, retain
from orchestrator.services.submit import submit
from orchestrator.states import State
from orchestrator.store import deliveries, webhooks
from orchestrator.store.database import Database, StoreUnavailable
from orchestrator.store.tables import deliveries as delivery_table
from orchestrator.store.tables import records as record_table
from orchestrator.webhooks import dispatch, telling
from orchestrator.webhooks.dispatch import Dispatcher
from orchestrator.webhooks.lanes import AT_ONCE_TO_ORIGIN
from orchestrator.webhooks.notifier import Notifier
from orchestrator.webhooks.retrying import DEAD, GONE, Tried
from orchestrator.webhooks.telling import Teller
from tests.integration.api.waiting import eventually
from tests.integration.store.given import (
    POLICY,
    manifest_of,
    registered,
    running,
    submitted,
    together,
)

URL = "https://hooks.example.org/"
EVERYTHING = ("state_change", "terminal", "artifact", "input_required")
DAY = timedelta(days=1)
DELIVERED = Tried(204, None, 3)
REFUSED = Tried(500, "the receiver answered 500", 3)
ALICE, BOB = (Caller(name, frozenset(USUAL), f"id-{name}", f"{name}s") for name in ("alice", "bob"))


class Receivers:
    """What is sent, by URL, and what they answer: a success unless `answers` says something else."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Mapping[str, str]]] = []
        self.answers: dict[str, Tried | Callable[[], Tried]] = {}
        self._lock = threading.Lock()

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Tried:
        with self._lock:
            self.sent.append((url, json.loads(body)["type"], headers))
        answer = self.answers.get(url, DELIVERED)
        return answer if isinstance(answer, Tried) else answer()

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, _, headers in self.sent]


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


@pytest.fixture
def product(product: Product) -> Product:
    registered(product)
    return product


def hook(product: Product, url: str = URL, *, by: Caller = ANYBODY, **wanted: Any) -> Webhook:
    return services.create(product, url, by=by, **{"wanted": EVERYTHING, **wanted})


def told(product: Product, teller: Teller | None = None, at: datetime | None = None) -> None:
    """Tell all there is."""
    teller = teller or Teller(product.database)
    while teller.tell(at or clock.now()):
        pass


def of(product: Product, webhook: Webhook | str) -> list[Delivery]:
    """The deliveries of a webhook, oldest first."""
    with product.database.read() as tx:
        found, _ = deliveries.find(tx, webhook if isinstance(webhook, str) else webhook.id, limit=1000, offset=0)
    return found[::-1]


def events(product: Product, webhook: Webhook | str) -> list[str]:
    bodies = [json.loads(one.body) for one in of(product, webhook)]
    return [f"{body['type'].removeprefix('task.')} {body['data'].get('new_state', '')}".strip() for body in bodies]


def own_of(product: Product, task_id: str) -> list[Webhook]:
    with product.database.read() as tx:
        found, _ = webhooks.find(tx, owner=None, task_id=task_id, limit=10, offset=0)
    return found


def now(product: Product, webhook: Webhook) -> Webhook:
    with product.database.read() as tx:
        found = webhooks.get(tx, webhook.id)
    assert found is not None
    return found


def ended(product: Product, task_id: str, **sections: Any) -> None:
    """A task that has run to its end."""
    conclude(product, running(product, task_id, until=State.COMPLETING, **sections), of_exit(0, oom_killed=False))


def send_due(product: Product, receivers: Receivers, at: datetime) -> int:
    """Send all that is due at `at`, and wait until it is stored how that ended."""
    done = threading.Semaphore(0)
    dispatcher = Dispatcher(product.database, receivers, done.release, lambda: at)
    count = 0
    while begun := dispatcher.fill():
        count += begun
        for _ in range(begun):
            assert done.acquire(timeout=30)
    dispatcher.stop()
    return count


def test_a_webhook_hears_what_came_after_it_and_no_word_of_what_came_before(product: Product) -> None:
    submitted(product, "before")
    one = hook(product)
    submitted(product, "after")
    told(product)
    assert [found.task_id for found in of(product, one)] == ["after"]
    other = hook(product)
    told(product)
    assert of(product, other) == []


def test_what_happens_while_there_is_no_webhook_is_told_to_nobody(product: Product) -> None:
    services.delete(product, hook(product).id, ANYBODY)
    submitted(product, "between")
    with product.database.write() as tx:  # a record whose time is that of another, slower clock
        tx.execute(record_table.update().values(at=clock.now() + timedelta(minutes=1)))
    one = hook(product)
    told(product)
    assert of(product, one) == []


def test_all_of_a_tasks_life_is_told_in_order_to_who_wants_all_of_it(product: Product) -> None:
    one = hook(product)
    ended(product, "t")
    told(product)
    states = ["pending", "staging", "provisioning", "ready", "running", "completing", "completed"]
    assert events(product, one) == [*(f"state_change {state}" for state in states), "terminal completed"]
    assert [found.number for found in of(product, one)] == list(range(1, 9))
    assert all(found.state is DeliveryState.WAITING for found in of(product, one))


def test_a_manifests_own_webhooks_hear_all_of_their_task_and_of_no_other(product: Product) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
    notify = [{"url": URL, "events": ["state_change"], "secret": secret}, {"url": f"{URL}end"}]
    ended(product, "t", notify=notify)
    ended(product, "other")
    told(product)
    by_url = {one.url: one for one in own_of(product, "t")}
    assert events(product, by_url[URL].id)[0] == "state_change pending"
    assert len(of(product, by_url[URL])) == 7
    assert events(product, by_url[f"{URL}end"]) == ["terminal completed"]
    assert (by_url[URL].secret, by_url[f"{URL}end"].secret) == (secret, "")


def test_artifacts_and_questions_are_told(product: Product) -> None:
    one = hook(product, wanted=("artifact", "input_required"))
    claim = running(product, "t")
    artifact = {"path": "out/a.txt", "name": "a.txt", "size_bytes": 1, "checksum": "sha256:00"}
    question = {"type": "input_required", "id": "q", "kind": "question", "text": "which?", "options": []}
    with product.database.write() as tx:
        for kind, body in (
            (Kind.ARTIFACT, {"artifact": artifact}),
            (Kind.EVENT, question),
            (Kind.EVENT, {"type": "m"}),
        ):
            journal.append(tx, claim, [NewRecord(kind, clock.now(), body=body)])
    told(product)
    assert events(product, one) == ["artifact", "input_required"]


def test_who_hears_of_a_task_is_its_owner_and_who_reads_everybodys_by_all_their_labels(product: Product) -> None:
    reading_all = Caller("carol", frozenset({*USUAL, Scope.TASK_READ_ALL}), "id-carol", "carols")
    ours, theirs, everybodys = (hook(product, by=by) for by in (ALICE, BOB, reading_all))
    labelled = hook(product, by=ALICE, labels={"team": "a", "env": "live"})
    submit(product, manifest_of(task_id="t", labels={"team": "a"}), by=ALICE)
    submit(product, manifest_of(task_id="u", labels={"team": "a", "env": "live", "x": "y"}), by=ALICE)
    told(product)
    heard = [[found.task_id for found in of(product, one)] for one in (ours, theirs, everybodys, labelled)]
    assert heard == [["t", "u"], [], ["t", "u"], ["u"]]


def test_each_record_is_told_once_however_often_and_by_whom_it_is_looked_at(
    product: Product, open_database: Callable[[], Database]
) -> None:
    one = hook(product)
    tellers = [Teller(open_database()) for _ in range(3)]
    for number in range(20):
        submitted(product, f"t{number}")
    results = together(*(lambda teller=teller: told(product, teller) for teller in tellers))
    assert results == [None] * 3
    told(product)
    assert sorted(found.task_id for found in of(product, one)) == sorted(f"t{number}" for number in range(20))
    assert len({found.event_id for found in of(product, one)}) == 20


def test_more_than_a_page_is_told_with_nothing_left_out(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "PAGE", 3)
    one = hook(product)
    for number in range(10):
        submitted(product, f"t{number}")
    told(product)
    assert [found.task_id for found in of(product, one)] == [f"t{number}" for number in range(10)]


def test_the_cursor_stays_where_it_was_when_a_step_fails(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    one = hook(product)
    submitted(product, "t")
    teller = Teller(product.database)
    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "add", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            teller.tell(clock.now())
    told(product, teller)
    assert [found.task_id for found in of(product, one)] == ["t"]


def test_output_between_events_is_passed_over_once_and_not_again_after_a_restart(product: Product) -> None:
    hook(product)
    claim = running(product, "t")
    at = clock.now()
    teller = Teller(product.database)
    told(product, teller, at)
    with product.database.write() as tx:
        journal.append(tx, claim, [journal.output("stdout", b"line\n" * 10, clock.now())])
    with product.database.read() as tx:
        newest = journal.newest(tx)
    told(product, teller, at + timedelta(seconds=1))
    assert kept(product) != newest
    with product.database.write() as tx:
        journal.append(tx, claim, [journal.output("stdout", b"more\n", clock.now())])
    told(product, teller, at + telling.KEEP_PLACE_AFTER)
    with product.database.read() as tx:
        assert kept(product) == journal.newest(tx)


def kept(product: Product) -> journal.Place | None:
    with product.database.read() as tx:
        return webhooks.told(tx)


def test_without_a_webhook_nothing_of_the_journal_is_read(product: Product) -> None:
    submitted(product, "t")
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    sa.event.listen(product.database.engine, "before_cursor_execute", note)
    try:
        assert Teller(product.database).tell(clock.now()) is None
    finally:
        sa.event.remove(product.database.engine, "before_cursor_execute", note)
    (query,) = (one for one in asked if not one.startswith("BEGIN"))
    assert "FROM records" not in query


def test_a_record_that_nobody_understands_does_not_keep_the_others_from_being_told(product: Product) -> None:
    one = hook(product)
    submitted(product, "odd")
    submitted(product, "t")
    with product.database.write() as tx:
        where = record_table.c.task_id == "odd"
        tx.execute(record_table.update().where(where).values(body={"new_state": "of a later version"}))
    told(product)
    assert [found.task_id for found in of(product, one)] == ["t"]


def test_what_is_due_is_sent_signed_and_delivered_once(product: Product, receivers: Receivers) -> None:
    one = hook(product, wanted=("state_change",))
    unsigned = hook(product, f"{URL}u", wanted=("state_change",))
    with product.database.write() as tx:
        tx.execute(sa.text("UPDATE webhooks SET secret = '' WHERE id = :id"), {"id": unsigned.id})
    submitted(product, "t")
    told(product)
    assert send_due(product, receivers, clock.now()) == 2
    assert send_due(product, receivers, clock.now()) == 0
    (delivery,) = of(product, one)
    assert (delivery.state, delivery.tries, delivery.next_at, delivery.last_status, delivery.last_error) == (
        DeliveryState.DELIVERED, 1, None, 204, None,
    )  # fmt: skip
    by_url = {url: headers for url, _, headers in receivers.sent}
    assert by_url[URL]["webhook-id"] == delivery.event_id
    assert "webhook-signature" in by_url[URL]
    assert "webhook-signature" not in by_url[f"{URL}u"]


def test_a_failed_try_is_made_again_when_its_time_has_come_under_the_same_id(
    product: Product, receivers: Receivers
) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)
    receivers.answers[URL] = REFUSED
    at = clock.now()
    assert send_due(product, receivers, at) == 1
    (delivery,) = of(product, one)
    assert (delivery.state, delivery.last_status, delivery.last_error) == (
        DeliveryState.WAITING, 500, "the receiver answered 500",
    )  # fmt: skip
    assert now(product, one).failing_since == at
    assert send_due(product, receivers, at + timedelta(seconds=4)) == 0
    receivers.answers[URL] = DELIVERED
    assert send_due(product, receivers, at + timedelta(seconds=7)) == 1
    assert [found.state for found in of(product, one)] == [DeliveryState.DELIVERED]
    assert now(product, one).failing_since is None
    assert len(set(receivers.ids)) == 1


def test_a_receiver_that_takes_nothing_for_a_day_has_its_webhook_disabled_with_all_that_waits(
    product: Product, receivers: Receivers
) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)
    receivers.answers[URL] = REFUSED
    at = clock.now()
    while (waiting := [found.next_at for found in of(product, one) if found.next_at]) and now(
        product, one
    ).disabled_at is None:
        at = max(at, min(waiting))
        send_due(product, receivers, at)
        if at - one.created_at > timedelta(hours=20) and len(of(product, one)) == 1:
            submitted(product, "late")
            told(product, at=at)
    assert timedelta(0) <= at - of(product, one)[0].created_at - DAY < timedelta(minutes=1)
    disabled = now(product, one)
    assert disabled.disabled_reason == DEAD
    first, late = of(product, one)
    assert (first.state, first.next_at, late.state, late.next_at) == (DeliveryState.FAILED, None) * 2
    assert "disabled" in str(late.last_error)
    submitted(product, "unheard")
    told(product)
    assert len(of(product, one)) == 2


def test_one_that_is_gone_is_disabled_at_once_and_enabled_by_a_delivery_that_is_sent_again(
    product: Product, receivers: Receivers
) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)
    receivers.answers[URL] = Tried(410, "the receiver answered 410", 1)
    at = clock.now()
    send_due(product, receivers, at)
    assert now(product, one).disabled_reason == GONE
    receivers.answers[URL] = REFUSED
    assert services.redeliver(product, one.id, "1", ANYBODY) == 1
    assert send_due(product, receivers, clock.now()) == 1
    assert [found.state for found in of(product, one)] == [DeliveryState.FAILED]
    receivers.answers[URL] = DELIVERED
    services.redeliver(product, one.id, "1", ANYBODY)
    send_due(product, receivers, clock.now())
    assert now(product, one) == one
    submitted(product, "u")
    told(product)
    assert [found.task_id for found in of(product, one)] == ["t", "u"]
    assert len(set(receivers.ids)) == 1


def test_one_that_was_delivered_can_be_sent_again(product: Product, receivers: Receivers) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)
    send_due(product, receivers, clock.now())
    services.redeliver(product, one.id, "1", ANYBODY)
    assert [found.state for found in of(product, one)] == [DeliveryState.WAITING]
    send_due(product, receivers, clock.now())
    assert len(receivers.ids) == 2
    assert len(set(receivers.ids)) == 1


def test_a_try_whose_end_was_not_stored_is_made_again_by_the_next_process(
    product: Product, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)

    def away(*_args: object, **_options: object) -> None:
        raise StoreUnavailable("the store does not answer: it is away for this test")

    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "conclude", away)
        done = threading.Semaphore(0)
        dying = Dispatcher(product.database, receivers, done.release)
        assert dying.fill() == 1
        assert done.acquire(timeout=30)
        assert dying.fill() == 0, "it rests"
        dying.stop()
    assert of(product, one)[0].tries == 0
    assert send_due(product, receivers, clock.now()) == 1
    assert of(product, one)[0].state is DeliveryState.DELIVERED
    assert len(receivers.ids) == 2
    assert len(set(receivers.ids)) == 1


def test_a_webhook_that_is_deleted_while_it_is_sent_something_takes_all_with_it(
    product: Product, receivers: Receivers
) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)

    def deleted() -> Tried:
        services.delete(product, one.id, ANYBODY)
        return REFUSED

    receivers.answers[URL] = deleted
    assert send_due(product, receivers, clock.now()) == 1
    assert of(product, one) == []


def test_a_sender_that_breaks_counts_as_a_try(product: Product, receivers: Receivers) -> None:
    one = hook(product, wanted=("state_change",))
    submitted(product, "t")
    told(product)
    receivers.answers[URL] = lambda: Tried(1 // 0, None, 0)
    send_due(product, receivers, clock.now())
    (delivery,) = of(product, one)
    assert (delivery.state, delivery.tries) == (DeliveryState.WAITING, 1)


def test_a_receiver_that_hangs_with_a_backlog_holds_up_nobody_else(product: Product, receivers: Receivers) -> None:
    """It has more due, and earlier, than there are threads: the other webhook's is sent all the same."""
    hanging = hook(product, f"{URL}hang", wanted=("state_change",))
    other = hook(product, "https://elsewhere.example.org/", wanted=("state_change",))
    over, done = threading.Event(), threading.Semaphore(0)
    receivers.answers[hanging.url] = lambda: Tried(None, "hung", 0) if over.wait(30) else DELIVERED
    with product.database.write() as tx:
        body = json.dumps({"type": "task.terminal"})
        add = [NewDelivery(hanging.id, f"msg_{number}", "terminal", "t", body) for number in range(100)]
        deliveries.add(tx, add, clock.now() - timedelta(minutes=1))
        deliveries.add(tx, [NewDelivery(other.id, "msg_other", "terminal", "t", body)], clock.now())
    dispatcher = Dispatcher(product.database, receivers, done.release)
    try:
        assert dispatcher.fill() == 5
        assert done.acquire(timeout=30)
        assert of(product, other)[0].state is DeliveryState.DELIVERED
        assert sum(url == hanging.url for url, _, _ in receivers.sent) <= 4
    finally:
        over.set()
        dispatcher.stop()
        for _ in range(4):
            assert done.acquire(timeout=30)


def test_all_addresses_of_one_receiver_wait_for_each_other(product: Product, receivers: Receivers) -> None:
    over, done = threading.Event(), threading.Semaphore(0)
    body = json.dumps({"type": "task.terminal"})
    for number in range(6):
        one = hook(product, f"{URL}?build={number}", wanted=("state_change",))
        receivers.answers[one.url] = lambda: DELIVERED if over.wait(30) else REFUSED
        with product.database.write() as tx:
            deliveries.add(tx, [NewDelivery(one.id, f"msg_{number}", "terminal", "t", body)], clock.now())
    dispatcher = Dispatcher(product.database, receivers, done.release)
    try:
        assert dispatcher.fill() == AT_ONCE_TO_ORIGIN
    finally:
        over.set()
        dispatcher.stop()
        for _ in range(AT_ONCE_TO_ORIGIN):
            assert done.acquire(timeout=30)


def test_a_failing_webhook_keeps_so_many_waiting_and_the_rest_is_failed_and_can_be_sent_by_hand(
    product: Product, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "MOST_WAITING", 3)
    one = hook(product, wanted=("state_change",))
    receivers.answers[URL] = REFUSED
    for number in range(3):
        submitted(product, f"t{number}")
    told(product)
    send_due(product, receivers, clock.now())
    submitted(product, "more")
    told(product)
    *_, last = of(product, one)
    assert (last.state, last.tries) == (DeliveryState.FAILED, 0)
    assert "not tried" in str(last.last_error)
    receivers.answers[URL] = DELIVERED
    services.redeliver(product, one.id, str(last.number), ANYBODY)
    send_due(product, receivers, clock.now())
    assert of(product, one)[-1].state is DeliveryState.DELIVERED


def test_two_notifiers_on_one_store_deliver_everything_and_the_other_goes_on_when_one_ends(
    product: Product, receivers: Receivers, open_database: Callable[[], Database]
) -> None:
    one = hook(product, wanted=("terminal",))
    notifiers = [Notifier(replace(product, database=open_database()), receivers) for _ in range(2)]
    for notifier in notifiers:
        notifier.start()
    try:
        ended(product, "t")
        eventually("the first is delivered", lambda: states(product, one) == [DeliveryState.DELIVERED])
        notifiers[0].stop()
        ended(product, "u")
        eventually("the second is delivered", lambda: states(product, one) == [DeliveryState.DELIVERED] * 2)
    finally:
        for notifier in notifiers:
            notifier.stop()
    assert len(receivers.ids) == len(set(receivers.ids)) == 2


def states(product: Product, webhook: Webhook) -> list[DeliveryState]:
    return [found.state for found in of(product, webhook)]


def test_only_so_many_webhooks_are_an_owners(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_WEBHOOKS", 2)
    submit(product, manifest_of(task_id="t", notify=[{"url": URL}] * 3), by=ALICE)
    for by in (ALICE, ALICE, BOB):
        hook(product, by=by)
    with pytest.raises(services.TooManyWebhooks):
        hook(product, by=ALICE)


def test_a_tasks_own_webhooks_go_with_it(product: Product) -> None:
    ended(product, "t", notify=[{"url": URL}])
    told(product)
    (own,) = own_of(product, "t")
    assert len(of(product, own)) == 1
    forget(product, "t")
    assert of(product, own) == []
    assert own_of(product, "t") == []


def test_what_was_sent_is_told_for_a_week_and_what_waits_is_never_removed(
    product: Product, receivers: Receivers
) -> None:
    one, waiting = hook(product, wanted=("state_change",)), hook(product, f"{URL}w", wanted=("state_change",))
    receivers.answers[waiting.url] = REFUSED
    submitted(product, "old")
    told(product)
    send_due(product, receivers, clock.now())
    submitted(product, "young")
    told(product)
    send_due(product, receivers, clock.now())
    with product.database.write() as tx:
        old = delivery_table.update().where(delivery_table.c.task_id == "old")
        tx.execute(old.values(created_at=clock.now() - timedelta(days=DELIVERY_DAYS, minutes=1)))
    retain(product, clock.now())
    assert [found.task_id for found in of(product, one)] == ["young"]
    assert [found.task_id for found in of(product, waiting)] == ["old", "young"]


def test_a_rerun_by_its_owner_tells_the_same_and_one_by_somebody_else_tells_nobody(product: Product) -> None:
    submit(product, manifest_of(task_id="t", notify=[{"url": URL}]), by=ALICE)
    reader = Caller("carol", frozenset({Scope.TASK_CREATE, Scope.TASK_READ_ALL}), "id-carol", "carols")
    assert [one.url for one in own_of(product, rerun(product, "t", {}, POLICY, by=ALICE).id)] == [URL]
    assert own_of(product, rerun(product, "t", {}, POLICY, by=reader).id) == []
    other = {"notify": [{"url": f"{URL}other"}]}
    assert [one.url for one in own_of(product, rerun(product, "t", other, POLICY, by=reader).id)] == [f"{URL}other"]


def test_a_submission_that_is_refused_leaves_no_webhook(product: Product) -> None:
    submitted(product, "t")
    with pytest.raises(Exception, match="exists already"):
        submitted(product, "t", notify=[{"url": URL}])
    with product.database.read() as tx:
        assert not webhooks.any_exists(tx)


def test_the_first_two_webhooks_that_are_made_at_once_leave_out_nothing(
    product: Product, open_database: Callable[[], Database]
) -> None:
    """Each begins to tell unless the other has; what happens between the two is heard by the first."""
    products = [replace(product, database=open_database()) for _ in range(4)]
    made = together(*(lambda one=one: hook(one) for one in products))
    assert [type(one) for one in made] == [Webhook] * 4
    submitted(product, "t")
    told(product)
    assert [[found.task_id for found in of(product, one)] for one in made] == [["t"]] * 4
