"""What a task used of the model API: counted, priced, bounded, and taken up by another worker."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest

from tests.unit.model_api.api import MODEL
from workers.model_api.meter import MAX_MODELS, MAX_NAME_CHARACTERS, OTHERS, UNKNOWN, BudgetExhausted, Meter
from workers.model_api.prices import BUILT_IN
from workers.model_api.usage import Usage

MILLION = 1_000_000


def metered(budget_usd: float | None = None) -> Meter:
    return Meter(budget_usd, BUILT_IN)


def test_what_a_request_tells_is_counted_once_however_often_it_tells_it() -> None:
    meter = metered()
    with meter.begin() as call:
        call.saw(None, Usage())
        assert meter.snapshot()["models"] == {}, "nothing is known yet"
        for usage in (Usage(100, 1, 10, 5), Usage(100, 1, 10, 5), Usage(100, 20, 10, 5), Usage(90, 20, 10, 5)):
            call.saw(MODEL, usage)
    found = meter.snapshot()
    assert (found["requests"], found["failed"], found["input_tokens"], found["output_tokens"]) == (1, 0, 90, 20)
    assert (found["cache_read_tokens"], found["cache_write_tokens"]) == (10, 5)
    assert found["models"][MODEL]["requests"] == 1
    assert found["cost_usd"] == pytest.approx((90 * 3 + 20 * 15 + 10 * 0.3 + 5 * 3.75) / MILLION)


def test_a_request_that_is_left_by_an_exception_has_failed_and_what_it_used_stays() -> None:
    meter = metered()
    call = meter.begin()
    with suppress(ConnectionError), call:
        call.saw(MODEL, Usage(5))
        raise ConnectionError("gone")
    with meter.begin() as call:
        call.fail()
        call.fail()
    assert (meter.snapshot()["requests"], meter.snapshot()["failed"], meter.snapshot()["input_tokens"]) == (2, 2, 5)


def test_a_budget_is_compared_before_each_request() -> None:
    meter = metered(3.0)
    first, second = meter.begin(), meter.begin()
    first.saw(MODEL, Usage(MILLION - 1))
    assert meter.snapshot()["budget_exhausted"] is False
    meter.begin()
    second.saw(MODEL, Usage(1))
    assert meter.budget_exhausted
    assert meter.snapshot()["budget_exhausted"] is True
    with pytest.raises(
        BudgetExhausted, match=r"^budget used up: .* 3\.0000 of 3 USD \(claude\.max_budget_usd\); raise"
    ):
        meter.begin()
    assert meter.snapshot()["requests"] == 3


def test_a_task_without_a_budget_is_never_refused() -> None:
    meter = metered()
    meter.begin().saw(MODEL, Usage(10**12))
    meter.begin()
    assert meter.snapshot()["budget_exhausted"] is False


def test_another_worker_goes_on_from_what_was_stored() -> None:
    before = metered(4.0)
    before.begin().saw(MODEL, Usage(MILLION, 0, 7, 8))
    before.begin().fail()
    stored = json.loads(json.dumps(before.take_changes()))
    after = metered(4.0)
    after.load(stored)
    assert after.take_changes() is None
    assert after.snapshot() == stored
    after.begin().saw(MODEL, Usage(MILLION))
    assert (after.snapshot()["requests"], after.snapshot()["failed"]) == (3, 1)
    assert after.snapshot()["models"][MODEL]["requests"] == 2
    with pytest.raises(BudgetExhausted):
        after.begin()
    again = metered(4.0)
    again.load(after.snapshot())
    assert again.budget_exhausted
    empty = metered()
    empty.load({})
    assert empty.snapshot() == metered().snapshot()


def test_changes_are_told_once() -> None:
    meter = metered()
    assert meter.take_changes() is None
    call = meter.begin()
    assert meter.take_changes() == meter.snapshot()
    assert meter.take_changes() is None
    call.saw(MODEL, Usage(1))
    changed = meter.take_changes()
    assert changed is not None
    assert changed["input_tokens"] == 1
    call.saw(MODEL, Usage(1))
    assert meter.take_changes() is None
    call.fail()
    assert meter.take_changes() is not None


def test_the_number_of_models_and_the_length_of_their_names_are_bounded() -> None:
    meter = metered()
    for number in range(1000):
        meter.add(f"{number}-" + "x" * 1000, Usage(1), requests=1)
    meter.add(None, Usage(1), requests=1)
    found = meter.snapshot()
    assert len(found["models"]) == MAX_MODELS + 1
    assert found["models"][OTHERS]["requests"] == 1001 - MAX_MODELS
    assert found["input_tokens"] == 1001
    assert max(map(len, found["models"])) == MAX_NAME_CHARACTERS
    one = metered()
    one.add(None, Usage(1))
    assert set(one.snapshot()["models"]) == {UNKNOWN}
    assert one.spent_usd == BUILT_IN.dearest.input / MILLION


def test_many_threads_lose_nothing() -> None:
    meter = metered()

    def use() -> None:
        for number in range(1, 201):
            with meter.begin() as call:
                call.saw(MODEL, Usage(1))
                call.saw(MODEL, Usage(1, number))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = meter.snapshot()
    assert (found["requests"], found["input_tokens"], found["output_tokens"]) == (1600, 1600, 8 * 20_100)
