"""Rows of results and the table they make."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measured figure and what it is measured against in the same run.

    `limit` is the figure of the thing named in `beside`, in the same `unit`; the ratio is `value / limit`.
    """

    what: str
    value: float
    unit: str
    samples: int
    p95: float | None = None
    beside: str = ""
    limit: float | None = None
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row as text, one element for each column of `COLUMNS`."""
        ratio = f"{self.value / self.limit:.2f}" if self.limit else ""
        limit = f"{_number(self.limit)} ({self.beside})" if self.limit is not None else self.beside
        p95 = _number(self.p95) if self.p95 is not None else ""
        return (
            self.what,
            str(self.samples),
            f"{_number(self.value)} {self.unit}",
            p95,
            limit,
            ratio,
            self.note,
        )


COLUMNS = ("what", "n", "median", "p95", "beside it", "ratio", "note")


def from_samples(
    what: str,
    milliseconds: Sequence[float],
    *,
    beside: str = "",
    limits: Sequence[float] = (),
    note: str = "",
) -> Row:
    """A row of durations in milliseconds: medians of `milliseconds` and of `limits`."""
    limit = statistics.median(limits) if limits else None
    median = statistics.median(milliseconds)
    return Row(what, median, "ms", len(milliseconds), percentile(milliseconds, 0.95), beside, limit, note)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def render(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
