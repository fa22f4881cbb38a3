"""Places for long answers."""

from __future__ import annotations

from api.capacity import MOST_OF_ONE, MOST_TRUSTED, THREADS, Places


def test_each_has_its_own_places_and_gets_one_back_when_one_is_given_back() -> None:
    places = Places()
    mine = [places.take("a", 2) for _ in range(3)]
    assert mine[0]
    assert mine[1]
    assert mine[2] is None
    assert places.take("b", 2)
    mine[0].give_back()
    mine[0].give_back()
    assert places.take("a", 2)
    assert places.take("a", 2) is None
    assert places.taken() == 3


def test_a_thousand_followers_fit_where_nobody_needs_a_token_and_some_threads_are_left() -> None:
    assert 1000 < MOST_TRUSTED < THREADS
    assert 4 * MOST_OF_ONE < THREADS
