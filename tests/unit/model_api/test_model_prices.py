"""What models cost: the list that is built in, and the operator's file over it."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest

from orchestrator.settings import InvalidSettings, load
from workers.model_api.prices import BUILT_IN, Price, Prices, read_prices
from workers.model_api.usage import Usage

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("claude-sonnet-4-5-20250929", (3, 15, 0.3, 3.75, 6)),
        ("claude-sonnet-4-20250514", (3, 15, 0.3, 3.75, 6)),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (3, 15, 0.3, 3.75, 6)),
        ("claude-3-5-sonnet@20241022", (3, 15, 0.3, 3.75, 6)),
        ("claude-sonnet-5", (2, 10, 0.2, 2.5, 4)),
        ("claude-sonnet-5-5", (2, 10, 0.1, 2.5, 4)),
        ("claude-opus-4-20250514", (15, 75, 1.5, 18.75, 30)),
        ("claude-opus-4-1-20250805", (15, 75, 1.5, 18.75, 30)),
        ("claude-opus-4-5-20251101", (5, 25, 0.5, 6.25, 10)),
        ("Claude-Opus-5[1m]", (5, 25, 0.5, 6.25, 10)),
        ("claude-opus-5-5", (4, 20, 0.2, 5, 8)),
        ("claude-haiku-4-5-20251001", (1, 5, 0.1, 1.25, 2)),
        ("claude-3-haiku-20240307", (0.25, 1.25, 0.03, 0.3, 0.5)),
        ("claude-fable-5-2", (8, 40, 0.2, 10, 16)),
        ("gpt-unheard-of", (15, 75, 1.5, 18.75, 30)),
        ("unknown", (15, 75, 1.5, 18.75, 30)),
        ("", (15, 75, 1.5, 18.75, 30)),
    ],
)
def test_a_model_has_its_familys_list_price_and_an_unknown_one_the_dearest(
    model: str, price: tuple[float, ...]
) -> None:
    assert astuple(BUILT_IN.of(model)) == pytest.approx(price)


def test_every_kind_of_token_is_charged_once() -> None:
    price = Price(1, 2, 3, 4, 5)
    for usage, cost in (
        (Usage(MILLION), 1), (Usage(0, MILLION), 2), (Usage(0, 0, MILLION), 3), (Usage(0, 0, 0, MILLION), 4),
        (Usage(0, 0, 0, MILLION, MILLION), 5), (Usage(0, 0, 0, 2 * MILLION, MILLION), 9), (Usage(), 0),
    ):  # fmt: skip
        assert price.cost_usd(usage) == pytest.approx(cost)


def given(tmp_path: Path, text: str) -> Prices:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    return read_prices(load({"SANDBOX_MODEL_PRICES_FILE": str(file)}, data_dir=tmp_path))


def test_without_a_file_the_list_is_in_force(tmp_path: Path) -> None:
    assert read_prices(load({}, data_dir=tmp_path)) is BUILT_IN


def test_the_operators_prices_go_before_the_list_and_the_longest_pattern_before_others(tmp_path: Path) -> None:
    prices = given(
        tmp_path,
        """
        "own-*": {input: 1, output: 2}
        "own-large*": {input: 10, output: 20, cache_read: 0, cache_write: 11}
        "*Sonnet*": {input: 2.5, output: 12.5, cache_write_1h: 7}
        """,
    )
    assert astuple(prices.of("own-small")) == pytest.approx((1, 2, 0.1, 1.25, 2))
    assert astuple(prices.of("own-large-3")) == (10, 20, 0, 11, 20)
    assert astuple(prices.of("claude-sonnet-5-5")) == pytest.approx((2.5, 12.5, 0.25, 3.125, 7))
    assert prices.of("claude-opus-5") == BUILT_IN.of("claude-opus-5")


def test_a_pattern_for_everything_leaves_no_model_unknown(tmp_path: Path) -> None:
    prices = given(tmp_path, '"*": {input: 0, output: 0}')
    assert prices.of("claude-opus-5").cost_usd(Usage(MILLION, MILLION)) == 0
    assert prices.of("own").cost_usd(Usage(MILLION, MILLION)) == 0


def test_a_dearer_price_of_the_operators_is_what_an_unknown_model_costs(tmp_path: Path) -> None:
    prices = given(tmp_path, "own: {input: 100, output: 1}")
    assert (prices.of("x").input, prices.of("x").output) == (100, 75)


def test_every_error_of_the_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        given(
            tmp_path,
            """
            right: {input: 1, output: 2}
            a: 3
            b: {input: 1}
            c: {input: 1, output: 2, per_image: 3}
            d: {input: -1, output: .inf}
            e: {input: "1", output: true}
            """,
        )
    found = caught.value.errors
    assert [error.partition("prices.yaml: ")[2][:3] for error in found] == ["'a'", "'b'", "'c'", "'d'", "'e'"]
    assert all(error.startswith("SANDBOX_MODEL_PRICES_FILE=/") for error in found)
    assert "input and output must be a number from 0" in found[3]
    assert "input and output must be a number from 0" in found[4]


@pytest.mark.parametrize("text", ["- a", "just text", "", "a: {b: [", "\tx"])
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSettings, match="SANDBOX_MODEL_PRICES_FILE="):
        given(tmp_path, text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    settings = load({"SANDBOX_MODEL_PRICES_FILE": str(tmp_path / "none")}, data_dir=tmp_path)
    with pytest.raises(InvalidSettings, match=r"none cannot be read: .*; correct the file or unset it"):
        read_prices(settings)
