"""What the sandbox of an attempt has used: columns that only grow, in whatever order they are stored."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.store.tables import attempts


def at_least(
    *, cpu_seconds: float | None, memory_peak_bytes: int | None, disk_peak_bytes: int | None
) -> dict[str, sa.ColumnElement[Any]]:
    """Columns for `journal.append` and `attempts.note`; what is None is not known, and stays as it is.

    A look at the sandbox is stored by the thread that looks, its end by the attempt's own, and a worker that goes on
    after another one has seen less than is stored.
    """
    seen = {"cpu_seconds": cpu_seconds, "memory_peak_bytes": memory_peak_bytes, "disk_peak_bytes": disk_peak_bytes}
    return {name: _larger(attempts.c[name], value) for name, value in seen.items() if value is not None}


def _larger(column: sa.Column[Any], value: float) -> sa.ColumnElement[Any]:
    new = sa.literal(value, column.type)
    return sa.case((sa.or_(column.is_(None), column < new), new), else_=column)
