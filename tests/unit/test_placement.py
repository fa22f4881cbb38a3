"""Which pending task goes to which worker, and why each other one waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models import Overcommit, Resources
from orchestrator.placement import (
    NAMED,
    NOTHING,
    Assignment,
    Demand,
    Host,
    Placement,
    Wanted,
    place,
    why_never,
    why_not_now,
    why_unplaceable,
    why_waiting,
)

GIB = 1 << 30
START = datetime(2026, 1, 29, tzinfo=UTC)
NO_OVERCOMMIT = Overcommit(1, 1, 1)


def task(task_id: str = "t", *, cpus: float = 1, memory: float = 1, disk: float = 1, **fields: Any) -> Wanted:
    requested = Resources(float(cpus), int(memory * GIB), int(disk * GIB))
    age = timedelta(seconds=fields.pop("second", 0))
    priority = fields.pop("priority", 0)
    demand = Demand(requested, **{"profile": "basic", "network_mode": "isolated", "agent": "run", **fields})
    return Wanted(task_id, priority, START + age, demand)


def lines_of(tasks: Sequence[Wanted]) -> dict[str, list[Wanted]]:
    lines: dict[str, list[Wanted]] = {}
    for one in sorted(tasks, key=lambda one: one.urgency):
        lines.setdefault(one.demand.key, []).append(one)
    return lines


def straightforward(tasks: Sequence[Wanted], hosts: Sequence[Host]) -> Placement:
    """What `place` does, said plainly: every task tries every worker."""
    result = Placement()
    fleet = {host.name: host for host in hosts}
    stuck: list[Wanted] = []
    for one in sorted(tasks, key=lambda one: (-one.priority, one.created_at, one.task_id)):
        fitting = [host for host in fleet.values() if host.ready and why_not_now(one.demand, host) is None]
        if not fitting:
            stuck.append(one)
            continue
        chosen = min(fitting, key=lambda host: (load(host), host.name))
        held = chosen.effective(one.demand.requested)
        fleet[chosen.name] = replace(chosen, used_slots=chosen.used_slots + 1, used=chosen.used + held)
        result.assignments.append(Assignment(one.task_id, chosen.name, held))
    named = sorted(fleet.values(), key=lambda host: host.name)[:NAMED]
    result.waiting.update({one.demand.key: why_waiting(one.demand, named, len(fleet)) for one in stuck})
    return result


def load(host: Host) -> float:
    return max(
        host.used_slots / host.slots,
        host.used.cpus / host.capacity.cpus,
        host.used.memory_bytes / host.capacity.memory_bytes,
    )


def host(name: str = "w", *, cpus: float = 4, memory: float = 8, disk: float = 100, **fields: Any) -> Host:
    known: dict[str, Any] = {
        "slots": 4,
        "overcommit": NO_OVERCOMMIT,
        "profiles": frozenset({"basic"}),
        "network_modes": frozenset({"isolated"}),
        "agents": frozenset({"run"}),
        **fields,
    }
    return Host(name=name, size=Resources(cpus, int(memory * GIB), int(disk * GIB)), **known)


def assigned(*tasks: Wanted, hosts: list[Host]) -> dict[str, str]:
    return {one.task_id: one.worker for one in place(lines_of(tasks), hosts).assignments}


def reason(wanted: Wanted, *hosts: Host) -> str:
    return place(lines_of([wanted]), hosts).waiting[wanted.demand.key]


def test_a_task_that_fits_is_assigned_and_holds_what_it_asked_for() -> None:
    (found,) = place(lines_of([task(cpus=2, memory=3, disk=4)]), [host()]).assignments
    assert (found.task_id, found.worker, found.held) == ("t", "w", Resources(2, 3 * GIB, 4 * GIB))


def test_higher_priority_goes_first_then_age_then_the_id() -> None:
    waiting = [
        task("young", second=2),
        task("old", second=1),
        task("urgent", second=3, priority=5),
        task("b", second=2, priority=-1),
        task("a", second=2, priority=-1),
    ]
    order = [one.task_id for one in place(lines_of(waiting), [host(slots=5, cpus=5)]).assignments]
    assert order == ["urgent", "old", "young", "a", "b"]


def test_a_task_that_does_not_fit_now_lets_a_smaller_one_pass() -> None:
    waiting = [task("large", cpus=4, priority=1), task("small", cpus=1)]
    result = place(lines_of(waiting), [host(cpus=4, used=Resources(1, 0, 0), used_slots=1)])
    assert [one.task_id for one in result.assignments] == ["small"]
    assert result.waiting == {waiting[0].demand.key: "waits: w: less than 4 of its 4 cpus are free"}


def test_tasks_are_spread_over_the_least_loaded_workers() -> None:
    tasks = [task(f"t{number}", second=number) for number in range(4)]
    found = assigned(*tasks, hosts=[host("a"), host("b")])
    assert sorted(found.values()) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("wanted", "worker", "why"),
    [
        (task(), host(used_slots=4), "all 4 slots are taken"),
        (task(cpus=2), host(used=Resources(3, 0, 0)), "less than 2 of its 4 cpus are free"),
        (task(memory=2), host(used=Resources(0, 7 * GIB, 0)), "less than 2G of its 8G of memory are free"),
        (task(disk=2), host(used=Resources(0, 0, 99 * GIB)), "less than 2G of its 100G of disk are free"),
        (task(cpus=5), host(), "5 cpus are asked for and it has 4"),
        (task(memory=9), host(), "9G of memory are asked for and it has 8G"),
        (task(disk=101), host(), "101G of disk are asked for and it has 100G"),
        (task(profile="gpu"), host(), "it does not offer the profile 'gpu'"),
        (task(network_mode="full"), host(), "it cannot enforce network_mode 'full'"),
        (task(agent="claude"), host(), "it runs no 'claude' tasks"),
        (task(), host(ready=False, trouble="the engine is away"), "the engine is away"),
        (task(), host(ready=False), "it is not running"),
    ],
)
def test_a_task_that_waits_is_told_what_its_worker_lacks(wanted: Wanted, worker: Host, why: str) -> None:
    assert reason(wanted, worker) == f"waits: w: {why}"


def test_without_any_worker_a_task_waits_and_is_told_how_to_start_one() -> None:
    assert "no worker is registered; start one with `sandbox worker`" in reason(task())


def test_the_reason_names_three_workers_and_counts_the_others() -> None:
    hosts = [host(name, used_slots=4) for name in "edcba"]
    text = reason(task(), *hosts)
    assert text == "waits: " + "; ".join(f"{name}: all 4 slots are taken" for name in "abc") + "; and 2 more workers"


def test_a_request_beyond_the_host_that_overcommit_allows_is_clamped_to_the_host() -> None:
    worker = host(cpus=2, memory=4, overcommit=Overcommit(4, 2, 1))
    (found,) = place(lines_of([task(cpus=8, memory=8, disk=1)]), [worker]).assignments
    assert found.held == Resources(2, 4 * GIB, GIB)


def test_overcommit_promises_a_host_more_than_once() -> None:
    worker = host(cpus=2, memory=100, overcommit=Overcommit(2, 1, 1))
    result = place(lines_of([task(f"t{n}", cpus=2, second=n) for n in range(3)]), [worker])
    assert [one.task_id for one in result.assignments] == ["t0", "t1"]
    assert list(result.waiting.values()) == ["waits: w: less than 2 of its 4 cpus are free"]


def test_an_overcommit_below_one_keeps_a_part_of_the_host_back() -> None:
    worker = host(cpus=4, overcommit=Overcommit(0.5, 1, 1))
    assert assigned(task(cpus=2), hosts=[worker]) == {"t": "w"}
    assert why_never(task(cpus=3).demand, worker) == "3 cpus are asked for and it has 2"


@pytest.mark.parametrize("cpus", [0.1, 0.3, 0.7, 1.1, 2.3])
def test_as_many_fractions_of_a_cpu_fit_as_arithmetic_says(cpus: float) -> None:
    count = 30
    worker = host(cpus=round(cpus * count, 6), memory=100, slots=100)
    result = place(lines_of([task(f"t{n}", cpus=cpus, second=n) for n in range(count + 1)]), [worker])
    assert len(result.assignments) == count


def test_nobody_could_ever_hold_it_only_when_no_registered_worker_could() -> None:
    small, large = host("small", cpus=2), host("large", cpus=8)
    assert why_unplaceable(task(cpus=9).demand, [small, large]) == (
        "small: 9 cpus are asked for and it has 2; large: 9 cpus are asked for and it has 8"
    )
    assert why_unplaceable(task(cpus=8).demand, [small, large]) is None
    assert why_unplaceable(task(cpus=9).demand, []) is None


@pytest.mark.parametrize("state", [{"used_slots": 4}, {"used": Resources(4, 0, 0)}, {"ready": False}])
def test_a_worker_that_is_full_or_stopped_could_hold_it_later(state: dict[str, Any]) -> None:
    assert why_unplaceable(task(cpus=4).demand, [host(**state)]) is None


@pytest.mark.parametrize("asked", [{"agent": "claude"}, {"profile": "gpu"}, {"network_mode": "full"}])
def test_what_no_worker_offers_can_never_be_placed(asked: dict[str, Any]) -> None:
    assert why_unplaceable(task(**asked).demand, [host("a"), host("b")]) is not None


CPUS = st.integers(1, 80).map(lambda tenths: tenths / 10)
SIZES = st.integers(1, 16)
PROFILES = st.sampled_from(["basic", "agentic-dev"])


@st.composite
def wanted_tasks(draw: st.DrawFn) -> list[Wanted]:
    count = draw(st.integers(0, 12))
    return [
        task(
            f"t{number}",
            cpus=draw(CPUS),
            memory=draw(SIZES),
            disk=draw(SIZES),
            priority=draw(st.integers(-2, 2)),
            second=draw(st.integers(0, 3)),
            profile=draw(PROFILES),
        )
        for number in range(count)
    ]


@st.composite
def fleets(draw: st.DrawFn) -> list[Host]:
    factor = st.sampled_from([0.5, 1.0, 2.0, 4.0])
    return [
        host(
            f"w{number}",
            cpus=draw(CPUS),
            memory=draw(SIZES),
            disk=draw(SIZES),
            slots=draw(st.integers(1, 4)),
            overcommit=Overcommit(draw(factor), draw(factor), draw(factor)),
            profiles=frozenset(draw(st.sets(PROFILES, min_size=1))),
            ready=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 4)))
    ]


@given(tasks=wanted_tasks(), hosts=fleets())
def test_no_worker_is_ever_filled_beyond_its_capacity(tasks: list[Wanted], hosts: list[Host]) -> None:
    assignments = place(lines_of(tasks), hosts).assignments
    for worker in hosts:
        held = [one.held for one in assignments if one.worker == worker.name]
        total = sum(held, NOTHING)
        assert len(held) <= worker.slots
        assert total.cpus <= worker.capacity.cpus + 1e-6
        assert total.memory_bytes <= worker.capacity.memory_bytes
        assert total.disk_bytes <= worker.capacity.disk_bytes
        assert all(one.cpus <= worker.size.cpus and one.memory_bytes <= worker.size.memory_bytes for one in held)
        assert worker.ready or not held


@given(tasks=wanted_tasks(), hosts=fleets())
def test_every_task_is_assigned_or_its_demand_has_a_reason(tasks: list[Wanted], hosts: list[Host]) -> None:
    result = place(lines_of(tasks), hosts)
    placed = {one.task_id for one in result.assignments}
    assert len(placed) == len(result.assignments)
    assert {one.demand.key for one in tasks if one.task_id not in placed} == set(result.waiting)
    assert all(why.startswith("waits: ") and "it is free" not in why for why in result.waiting.values())


@given(tasks=wanted_tasks(), hosts=fleets(), used=fleets())
def test_a_round_gives_what_trying_every_task_on_every_worker_gives(
    tasks: list[Wanted], hosts: list[Host], used: list[Host]
) -> None:
    sizes = chain((other.size for other in used), repeat(NOTHING))
    busy = [replace(one, used=one.effective(size), used_slots=1) for one, size in zip(hosts, sizes, strict=False)]
    assert place(lines_of(tasks), busy) == straightforward(tasks, busy)


@given(tasks=wanted_tasks(), hosts=fleets())
def test_workers_without_room_that_no_reason_names_may_be_left_out(tasks: list[Wanted], hosts: list[Host]) -> None:
    full = [replace(one, name=f"full-{one.name}", used_slots=one.slots) for one in hosts]
    named = sorted([*hosts, *full], key=lambda one: one.name)[:NAMED]
    part = [one for one in [*hosts, *full] if one.has_room or one in named]
    assert place(lines_of(tasks), part, registered=2 * len(hosts)) == straightforward(tasks, [*hosts, *full])


def test_a_line_is_read_no_further_than_its_tasks_are_assigned() -> None:
    read: list[str] = []

    def line() -> Iterator[Wanted]:
        for number in range(100_000):
            read.append(f"t{number}")
            yield task(f"t{number}", second=number)

    result = place({"alike": line()}, [host(slots=3)])
    assert [one.task_id for one in result.assignments] == ["t0", "t1", "t2"]
    assert read == ["t0", "t1", "t2", "t3"]


def test_who_could_hold_it_is_looked_for_no_further_than_to_the_first() -> None:
    def fleet() -> Iterator[Host]:
        yield host("small", cpus=1)
        yield host("large", cpus=8)
        raise AssertionError("a third worker was looked at")

    assert why_unplaceable(task(cpus=8).demand, fleet()) is None


def test_demands_have_the_same_key_only_when_they_are_equal() -> None:
    one = task("a", cpus=1, priority=3, second=9).demand
    assert one.key == task("b", cpus=1.0).demand.key
    others = [task(cpus=2), task(memory=2), task(disk=2), task(profile="p"), task(network_mode="n"), task(agent="a")]
    assert len({one.key, *(other.demand.key for other in others)}) == 7


@given(tasks=wanted_tasks(), hosts=fleets(), random=st.randoms(use_true_random=False))
def test_the_same_tasks_and_workers_give_the_same_placement_in_any_order(
    tasks: list[Wanted], hosts: list[Host], random: Any
) -> None:
    expected = place(lines_of(tasks), hosts)
    shuffled_tasks, shuffled_hosts = list(tasks), list(hosts)
    random.shuffle(shuffled_tasks)
    random.shuffle(shuffled_hosts)
    assert place(lines_of(shuffled_tasks), shuffled_hosts) == expected


@given(tasks=wanted_tasks(), hosts=fleets())
def test_what_waits_for_room_fits_an_idle_worker_and_what_is_507_fits_none(
    tasks: list[Wanted], hosts: list[Host]
) -> None:
    for wanted in tasks:
        idle = [replace(one, ready=True) for one in hosts]
        fits = bool(assigned(wanted, hosts=idle))
        assert fits == (bool(hosts) and why_unplaceable(wanted.demand, hosts) is None)


@given(tasks=wanted_tasks(), hosts=fleets(), used=fleets())
def test_the_room_of_a_worker_is_exactly_what_fits_on_it_now(
    tasks: list[Wanted], hosts: list[Host], used: list[Host]
) -> None:
    for worker, other in zip(hosts, used, strict=False):
        busy = replace(worker, used=worker.effective(other.size))
        for wanted in tasks:
            assert busy.room.holds(wanted.demand) == (why_not_now(wanted.demand, busy) is None)
