"""How far a pull is, from the engine's stream of events (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TELL_SECONDS = 5.0
TELL_PERCENT = 10
_FETCHED = frozenset({"Download complete", "Pull complete"})
_HERE = frozenset({"Pull complete", "Already exists"})
_LAYER = _FETCHED | _HERE | {"Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Extracting"}


@dataclass
class _Layer:
    done_bytes: int = 0
    total_bytes: int = 0
    here: bool = False


@dataclass
class PullProgress:
    """Feed every event to `take`. The total grows: the engine tells a layer's size when it begins to fetch it."""

    image: str
    began_at: float
    _layers: dict[str, _Layer] = field(default_factory=dict)
    _told_at: float = 0.0
    _told_percent: int = 0

    def __post_init__(self) -> None:
        self._told_at = self.began_at

    def take(self, event: Mapping[str, Any], now: float) -> str | None:
        """Return what is to be said now, every few seconds or each tenth; None for nothing. `now` is monotonic."""
        if event.get("status") not in _LAYER:
            return None
        self._count(str(event["status"]), str(event.get("id")), event.get("progressDetail") or {})
        percent = self._percent()
        if percent < self._told_percent + TELL_PERCENT and now < self._told_at + TELL_SECONDS:
            return None
        self._told_at, self._told_percent = now, max(percent, self._told_percent)
        return f"pulling image {self.image}: {self._bytes()} ({percent} %), {self._here()}"

    def end(self, now: float) -> str:
        """What is to be said when the image is here."""
        fetched = megabytes(sum(layer.done_bytes for layer in self._layers.values()))
        return f"pulled image {self.image}: {fetched} in {now - self.began_at:.1f} s, {self._here()}"

    def _count(self, status: str, name: str, detail: Mapping[str, Any]) -> None:
        layer = self._layers.setdefault(name, _Layer())
        if status == "Downloading":
            layer.done_bytes = int(detail.get("current") or 0)
            layer.total_bytes = max(int(detail.get("total") or 0), layer.done_bytes)
        elif status in _FETCHED:
            layer.done_bytes = layer.total_bytes
        layer.here = layer.here or status in _HERE

    def _percent(self) -> int:
        total = sum(layer.total_bytes for layer in self._layers.values())
        return 100 * sum(layer.done_bytes for layer in self._layers.values()) // total if total else 0

    def _bytes(self) -> str:
        done = sum(layer.done_bytes for layer in self._layers.values())
        return f"{megabytes(done)} of {megabytes(sum(layer.total_bytes for layer in self._layers.values()))}"

    def _here(self) -> str:
        here = sum(layer.here for layer in self._layers.values())
        return f"{here} of {len(self._layers)} layers are here"


def megabytes(count: int) -> str:
    """A number of bytes as a person reads it."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"
