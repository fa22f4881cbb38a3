"""What a task has used, from what was noted of its attempts (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestrator.models import Attempt

Usage = dict[str, Any]

_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def of_attempt(one: Attempt, now: datetime, resumed_cost_usd: float | None) -> Usage:
    """What one attempt has used so far (contract §10); null is what is not measured.

    `wall_seconds` is from the start of its command to its end, or `now`; null before. `agent` is null where none ran.
    `resumed_cost_usd` is what the session that its agent went on from had cost before. What its sandbox used is as of
    the last look at it, and a peak is the highest that was seen.
    """
    wall_seconds = None
    if one.running_at is not None:
        wall_seconds = round(max(0.0, ((one.finished_at or now) - one.running_at).total_seconds()), 3)
    return {
        "wall_seconds": wall_seconds,
        "cpu_seconds": None if one.cpu_seconds is None else round(one.cpu_seconds, 3),
        "memory_peak_bytes": one.memory_peak_bytes,
        "disk_peak_bytes": one.disk_peak_bytes,
        "bytes_up": one.bytes_up,
        "bytes_down": one.bytes_down,
        "agent": _agent(one, resumed_cost_usd),
    }


def of_task(attempts: Iterable[Attempt], now: datetime, resumed_cost_usd: float | None) -> Usage:
    """What all attempts together have used; a peak is that of the one that needed most."""
    each = [of_attempt(one, now, resumed_cost_usd) for one in attempts]
    agents = [one["agent"] for one in each if one["agent"] is not None]
    return {
        "wall_seconds": _sum(one["wall_seconds"] for one in each),
        "cpu_seconds": _sum(one["cpu_seconds"] for one in each),
        "memory_peak_bytes": _largest(one["memory_peak_bytes"] for one in each),
        "disk_peak_bytes": _largest(one["disk_peak_bytes"] for one in each),
        "bytes_up": sum(one["bytes_up"] for one in each),
        "bytes_down": sum(one["bytes_down"] for one in each),
        "agent": _together(agents) if agents else None,
    }


def _agent(one: Attempt, resumed_cost_usd: float | None) -> Usage | None:
    """Turns are the agent's to count, tokens and requests the relay's, which saw them all."""
    if one.agent is None and one.model_usage is None:
        return None
    said, counted = one.agent or {}, one.model_usage or {}
    return {
        "turns": said.get("turns", 0),
        **{name: counted.get(name, 0) for name in _TOKENS},
        "cost_usd": _cost_usd(said, counted, resumed_cost_usd),
        "requests": counted.get("requests", 0),
        "models": counted.get("models", {}),
    }


def _cost_usd(said: Mapping[str, Any], counted: Mapping[str, Any], resumed_cost_usd: float | None) -> float | None:
    """The agent's own account if it gave one, which is of the whole session; else the relay's estimate."""
    if said.get("result") is not None and said.get("cost_usd") is not None:
        return round(max(0.0, float(said["cost_usd"]) - (resumed_cost_usd or 0.0)), 6)
    estimate: float | None = counted.get("cost_usd")
    return estimate


def _together(agents: list[Usage]) -> Usage:
    models: dict[str, Usage] = {}
    for one in agents:
        for name, used in one["models"].items():
            so_far = models.get(name, {})
            models[name] = {key: _sum((so_far.get(key), value)) for key, value in used.items()}
    return {
        "turns": sum(one["turns"] for one in agents),
        **{name: sum(one[name] for one in agents) for name in _TOKENS},
        "cost_usd": _sum(one["cost_usd"] for one in agents),
        "requests": sum(one["requests"] for one in agents),
        "models": models,
    }


def _sum(numbers: Iterable[float | None]) -> float | None:
    """None when there is no number at all. Rounded: decimal fractions do not add up exactly."""
    known = [number for number in numbers if number is not None]
    return round(sum(known), 6) if known else None


def _largest(numbers: Iterable[int | None]) -> int | None:
    """None when there is no number at all."""
    return max((number for number in numbers if number is not None), default=None)
