"""What the use of a model costs (pure but for reading the operator's file).

`BUILT_IN` are the provider's list prices that were known when this was written (November 2026): without long-prompt,
fast-mode and region surcharges, without server tools and without anybody's discount. `SANDBOX_MODEL_PRICES_FILE`
overrides them. A model that no pattern knows is priced as the dearest known: a budget ends early rather than never.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import yaml

from orchestrator.settings import InvalidSettings, Settings
from workers.model_api.usage import Usage

SETTING = "SANDBOX_MODEL_PRICES_FILE"
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. `cache_write_1h`: of those written to the cache, the ones kept for an hour."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    cache_write_1h: float

    @classmethod
    def listed(cls, input: float, output: float, **others: float) -> Price:  # noqa: A002 - the provider's own word
        """What is not in `others` stands in the provider's usual proportion to `input`."""
        usual = {"cache_read": input * 0.1, "cache_write": input * 1.25, "cache_write_1h": input * 2}
        return cls(input, output, **(usual | others))

    def cost_usd(self, usage: Usage) -> float:
        """Linear in the usage, so that the parts of a request may be priced one by one."""
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * self.cache_write
            + usage.cache_write_1h_tokens * self.cache_write_1h
        ) / _MILLION


@dataclass(frozen=True)
class Prices:
    """Pairs of a pattern (`*`, `?`, `[…]`) of a model's name in lower case, and a price; the first that fits counts."""

    rules: Sequence[tuple[str, Price]]

    def of(self, model: str) -> Price:
        name = model.lower()
        return next((price for pattern, price in self.rules if fnmatch.fnmatchcase(name, pattern)), self.dearest)

    @cached_property
    def dearest(self) -> Price:
        """The highest known price of each kind of token."""
        return Price(*(max(getattr(price, one.name) for _, price in self.rules) for one in fields(Price)))

    def under(self, others: Mapping[str, Price]) -> Prices:
        """These prices, with `others` before them."""
        return Prices([*_by_precision(others), *self.rules])


def _by_precision(prices: Mapping[str, Price]) -> list[tuple[str, Price]]:
    """The longest pattern says the most of a name."""
    return sorted(prices.items(), key=lambda one: -len(one[0]))


_OPUS_4_0 = Price.listed(15, 75)
_OPUS_4_5 = Price.listed(5, 25)
_SONNET_3_AND_4 = Price.listed(3, 15)

BUILT_IN = Prices(
    _by_precision(
        {
            "*claude-3-opus*": _OPUS_4_0,
            "*claude-opus-4*": _OPUS_4_0,
            "*claude-opus-4-5*": _OPUS_4_5,
            "*claude-opus-4-6*": _OPUS_4_5,
            "*claude-opus-4-7*": _OPUS_4_5,
            "*claude-opus-4-8*": _OPUS_4_5,
            "*claude-opus-5*": _OPUS_4_5,
            "*claude-opus-5-5*": Price.listed(4, 20, cache_read=0.2),
            "*claude-3-sonnet*": _SONNET_3_AND_4,
            "*claude-3-5-sonnet*": _SONNET_3_AND_4,
            "*claude-3-7-sonnet*": _SONNET_3_AND_4,
            "*claude-sonnet-4*": _SONNET_3_AND_4,
            "*claude-sonnet-5*": Price.listed(2, 10),
            "*claude-sonnet-5-5*": Price.listed(2, 10, cache_read=0.1),
            "*claude-3-haiku*": Price.listed(0.25, 1.25, cache_read=0.03, cache_write=0.3),
            "*claude-3-5-haiku*": Price.listed(0.8, 4),
            "*claude-haiku-4-5*": Price.listed(1, 5),
            "*claude-haiku-5-5*": Price.listed(0.1, 0.5),
            "*claude-fable-5*": Price.listed(10, 50),
            "*claude-fable-5-1*": Price.listed(10, 50, cache_read=0.25),
            "*claude-fable-5-2*": Price.listed(8, 40, cache_read=0.2),
            "*claude-mythos-5*": Price.listed(10, 50),
            "*claude-mythos-5-1*": Price.listed(10, 50, cache_read=0.25),
            "*claude-mythos-5-2*": Price.listed(8, 40, cache_read=0.2),
        }
    )
)


def read_prices(settings: Settings) -> Prices:
    """The prices in force on this worker. Raises `InvalidSettings` with every error of the operator's file."""
    file = settings.model_prices_file
    if file is None:
        return BUILT_IN
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSettings([f"{SETTING}={file} cannot be read: {error}; correct the file or unset it"]) from None
    errors: list[str] = []
    prices = dict(_read(document, errors))
    if errors:
        raise InvalidSettings([f"{SETTING}={file}: {error}" for error in errors])
    return BUILT_IN.under(prices)


def _read(document: Any, errors: list[str]) -> Iterator[tuple[str, Price]]:
    if not isinstance(document, dict):
        errors.append("it must be a map: pattern of a model's name -> {input, output}, in USD per million tokens")
        return
    known = {one.name for one in fields(Price)}
    for pattern, given in document.items():
        if not isinstance(given, dict) or not {"input", "output"} <= given.keys() <= known:
            errors.append(f"{pattern!r} must be a map of input and output, and of {', '.join(sorted(known))} at most")
        elif bad := [key for key, value in given.items() if not _is_price(value)]:
            errors.append(f"{pattern!r}: {' and '.join(bad)} must be a number from 0, in USD per million tokens")
        else:
            yield str(pattern).lower(), Price.listed(**given)


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
