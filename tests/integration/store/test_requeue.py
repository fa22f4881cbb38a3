"""What an operator may do when placed tasks do not begin, on both databases."""

from __future__ import annotations

import pytest

from orchestrator.broker.messages import BrokerUnavailable
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.requeue import requeue
from orchestrator.states import State
from orchestrator.store import workers
from tests.integration.store.broker import StrictBroker
from tests.integration.store.given import now, registered, running, submitted


def stuck(product: Product, name: str = "w") -> None:
    with product.database.write() as tx:
        workers.set_trouble(tx, name, "it does not begin what it is given")


def test_what_was_not_begun_is_placed_and_rung_for_again(product: Product, broker: StrictBroker) -> None:
    registered(product)
    running(product, "begun")
    submitted(product, "waits")
    broker.attempts.clear()
    assert requeue(product, None).taken_back == ["waits"]
    assert broker.attempts == [("w", "waits", 1)]
    assert now(product, "begun").state is State.RUNNING


def test_it_goes_to_a_worker_that_takes_it_or_waits_with_the_reason(product: Product, broker: StrictBroker) -> None:
    registered(product)
    submitted(product, "t")
    stuck(product)
    [task] = requeue(product, ["t"]).now
    assert task.worker is None
    assert "it does not begin" in str(task.state_message)
    registered(product, "b")
    assert now(product, "t").worker == "b"


def test_an_unknown_task_changes_nothing(product: Product) -> None:
    registered(product)
    submitted(product, "t")
    stuck(product)
    with pytest.raises(TaskNotFound):
        requeue(product, ["t", "nope"])
    assert now(product, "t").worker == "w"


def test_without_a_broker_it_is_placed_and_said_that_nobody_was_rung(product: Product, broker: StrictBroker) -> None:
    registered(product)
    submitted(product, "t")
    stuck(product)
    broker.down = True
    registered(product, "b")
    stuck(product, "b")
    registered(product, "c")
    with pytest.raises(BrokerUnavailable):
        requeue(product, ["t"])
    assert now(product, "t").worker == "c"
