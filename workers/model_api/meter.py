"""What one task uses of the model API, and what of its budget is left. Bounded, whatever the sandbox does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from types import TracebackType
from typing import Any, Self

from workers.model_api.prices import Prices
from workers.model_api.usage import Usage

MAX_MODELS = 20
"""Told apart; those beyond are counted together as `OTHERS`."""
MAX_NAME_CHARACTERS = 128
OTHERS = "others"
UNKNOWN = "unknown"
"""The model of an answer that names none."""


class BudgetExhausted(Exception):
    """The task may not use the model API any more; the message says why, and what to do."""


@dataclass
class _Count:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0

    def add(self, usage: Usage, cost_usd: float) -> None:
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cache_read_tokens += usage.cache_read_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.cost_usd += cost_usd

    def told(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "cost_usd": round(self.cost_usd, 8),
        }


class Meter:
    """Thread-safe. Its numbers are of the whole attempt, so storing them is repeatable.

    `budget_usd` is compared before each request, so that what is under way when it is used up may exceed it.
    """

    def __init__(self, budget_usd: float | None, prices: Prices) -> None:
        self._budget_usd = budget_usd
        self._prices = prices
        self._all = _Count()
        self._models: dict[str, _Count] = {}
        self._failed = 0
        self._has_changed = False
        self._lock = threading.Lock()

    @property
    def budget_usd(self) -> float | None:
        return self._budget_usd

    @property
    def spent_usd(self) -> float:
        with self._lock:
            return self._all.cost_usd

    @property
    def budget_exhausted(self) -> bool:
        """The next request is refused."""
        with self._lock:
            return self._is_exhausted()

    def begin(self) -> Call:
        """Count one request that is about to be sent. Raises `BudgetExhausted`."""
        with self._lock:
            if self._is_exhausted():
                raise BudgetExhausted(
                    f"budget used up: this task has spent {self._all.cost_usd:.4f} of {self._budget_usd:g} USD "
                    "(claude.max_budget_usd); raise it in the manifest and run the task again"
                )
            self._all.requests += 1
            self._has_changed = True
        return Call(self)

    def add(self, model: str | None, usage: Usage, *, requests: int = 0) -> None:
        """Count what a request of `model` used, or used since it was last counted; `requests` are new ones of it."""
        cost_usd = self._prices.of(model or UNKNOWN).cost_usd(usage)
        with self._lock:
            self._all.add(usage, cost_usd)
            count = self._models.setdefault(self._name(model), _Count())
            count.requests += requests
            count.add(usage, cost_usd)
            self._has_changed = True

    def add_failure(self) -> None:
        """One of the requests that were begun was not answered, or with an error, or not to the end."""
        with self._lock:
            self._failed += 1
            self._has_changed = True

    def snapshot(self) -> dict[str, Any]:
        """What is known so far, as JSON can hold it."""
        with self._lock:
            return self._snapshot()

    def load(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from a `snapshot` that is stored: another worker process counted before this one."""
        with self._lock:
            self._all = _loaded(snapshot)
            self._failed = int(snapshot.get("failed", 0))
            self._models = {name: _loaded(count) for name, count in snapshot.get("models", {}).items()}
            self._has_changed = False

    def take_changes(self) -> dict[str, Any] | None:
        """What is to be stored since the last call; None when nothing changed."""
        with self._lock:
            if not self._has_changed:
                return None
            self._has_changed = False
            return self._snapshot()

    def _is_exhausted(self) -> bool:
        return self._budget_usd is not None and self._all.cost_usd >= self._budget_usd

    def _snapshot(self) -> dict[str, Any]:
        return {
            **self._all.told(),
            "failed": self._failed,
            "models": {name: count.told() for name, count in self._models.items()},
            "budget_exhausted": self._is_exhausted(),
        }

    def _name(self, model: str | None) -> str:
        name = (model or UNKNOWN)[:MAX_NAME_CHARACTERS]
        return name if name in self._models or len(self._models) < MAX_MODELS else OTHERS


@dataclass
class Call:
    """One request, for one thread. Left by an exception, it counts as failed; what was seen of it is counted anyway."""

    meter: Meter
    _seen: Usage = field(default_factory=Usage)
    _is_named: bool = False
    _has_failed: bool = False

    def saw(self, model: str | None, usage: Usage) -> None:
        """All that is known of it by now; what is new is counted."""
        if usage == self._seen and self._is_named:
            return
        if model is None and not any(astuple(usage)):
            return
        self.meter.add(model, usage.since(self._seen), requests=0 if self._is_named else 1)
        self._seen, self._is_named = usage, True

    def fail(self) -> None:
        """Its answer was an error. Idempotent."""
        if not self._has_failed:
            self._has_failed = True
            self.meter.add_failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.fail()


def _loaded(stored: Mapping[str, Any]) -> _Count:
    return _Count(
        requests=int(stored.get("requests", 0)),
        input_tokens=int(stored.get("input_tokens", 0)),
        output_tokens=int(stored.get("output_tokens", 0)),
        cache_read_tokens=int(stored.get("cache_read_tokens", 0)),
        cache_write_tokens=int(stored.get("cache_write_tokens", 0)),
        cost_usd=float(stored.get("cost_usd", 0)),
    )
