"""Who has stopped beating: by our own clock, after a lease, and never all at once on our own mistake."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.leases import Absence, LeaseWatch, StoppedWatch

LEASE = 30.0
FIVE = ("a", "b", "c", "d", "e")


class Fleet:
    """Heartbeat counters and a clock that moves only when told to; `look` is called once a second, as in life."""

    def __init__(self, names: Iterable[str]) -> None:
        self.watch = LeaseWatch(LEASE)
        self.counters = dict.fromkeys(names, 1)
        self.now = 1000.0
        self.silent: set[str] = set()

    def pass_time(self, seconds: int) -> dict[str, Absence]:
        """Let time go by, everybody beating but `silent`; return what the last look said."""
        gone: dict[str, Absence] = {}
        for _ in range(seconds):
            self.now += 1
            for name in self.counters:
                if name not in self.silent:
                    self.counters[name] += 1
            gone = self.watch.look(self.counters, self.now)
        return gone


def test_who_beats_is_never_lost() -> None:
    fleet = Fleet(FIVE)
    assert all(fleet.pass_time(1) == {} for _ in range(200))


def test_a_silent_worker_is_lost_only_after_its_lease() -> None:
    fleet = Fleet(FIVE)
    fleet.pass_time(10)
    fleet.silent = {"a"}
    assert fleet.pass_time(30) == {}
    assert fleet.pass_time(1) == {"a": Absence(11, 31)}
    assert fleet.pass_time(10) == {"a": Absence(11, 41)}


def test_a_worker_that_beats_again_is_back_at_once() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = {"a"}
    assert "a" in fleet.pass_time(40)
    fleet.silent = set()
    assert fleet.pass_time(1) == {}


def test_a_counter_that_moved_backwards_is_a_sign_of_life_too() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = {"a"}
    fleet.pass_time(29)
    fleet.counters["a"] = 0  # the store was restored from a copy
    assert fleet.pass_time(20) == {}


def test_a_worker_that_was_removed_and_came_back_starts_anew() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = {"a"}
    fleet.pass_time(25)
    counter = fleet.counters.pop("a")
    fleet.pass_time(1)
    fleet.counters["a"] = counter
    assert fleet.pass_time(29) == {}


def test_after_a_pause_of_our_own_the_observation_starts_anew() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = {"a"}
    fleet.pass_time(20)
    fleet.now += 3600
    fleet.silent = set(FIVE)  # whoever stopped us may have stopped them
    assert fleet.pass_time(31) == {}
    fleet.silent = {"a"}
    assert set(fleet.pass_time(2)) == {"a"}


def test_a_slow_round_is_no_pause() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = {"a"}
    fleet.pass_time(25)
    fleet.now += 10
    assert set(fleet.pass_time(1)) == {"a"}


def test_when_more_than_half_seem_lost_at_once_they_are_believed_one_lease_later() -> None:
    fleet = Fleet(FIVE)
    fleet.pass_time(1)
    fleet.silent = {"a", "b", "c"}
    assert fleet.pass_time(60) == {}
    assert set(fleet.pass_time(1)) == {"a", "b", "c"}


def test_when_they_come_back_within_that_lease_nobody_is_lost() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = set(FIVE)
    assert fleet.pass_time(50) == {}
    fleet.silent = set()
    assert fleet.pass_time(1) == {}
    fleet.silent = {"e"}
    assert fleet.pass_time(30) == {}
    assert set(fleet.pass_time(1)) == {"e"}


def test_exactly_half_is_no_mass_loss() -> None:
    fleet = Fleet("abcd")
    fleet.pass_time(1)
    fleet.silent = {"a", "b"}
    assert set(fleet.pass_time(31)) == {"a", "b"}


def test_the_only_worker_is_given_the_second_lease_too() -> None:
    fleet = Fleet("a")
    fleet.pass_time(1)
    fleet.silent = {"a"}
    assert fleet.pass_time(60) == {}
    assert set(fleet.pass_time(1)) == {"a"}


def test_workers_lost_long_ago_neither_hide_nor_make_a_mass_loss() -> None:
    fleet = Fleet(FIVE)
    fleet.silent = {"a", "b", "c"}
    assert set(fleet.pass_time(100)) == {"a", "b", "c"}
    fleet.silent = set(FIVE)
    assert set(fleet.pass_time(60)) == {"a", "b", "c"}  # d and e fell silent at once: all that were left
    assert set(fleet.pass_time(2)) == set(FIVE)


def test_one_more_worker_is_lost_on_time_although_most_were_lost_long_ago() -> None:
    fleet = Fleet("abcdefg")
    fleet.silent = set("abcd")
    assert set(fleet.pass_time(100)) == set("abcd")
    fleet.silent = set("abcde")
    assert set(fleet.pass_time(31)) == set("abcde")


def test_a_stopped_worker_is_absent_since_it_was_first_seen_so_and_anew_after_each_goodbye() -> None:
    watch = StoppedWatch()
    assert watch.look({"a": 7}, 100) == {"a": Absence(7, 0)}
    assert watch.look({"a": 7}, 130) == {"a": Absence(7, 30)}
    assert watch.look({}, 140) == {}
    assert watch.look({"a": 9}, 150) == {"a": Absence(9, 0)}
