"""Pages of the list of tasks: cut from an index in its order, whatever is asked for and however many there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from orchestrator.states import State
from orchestrator.store.tables import labels, tasks

_ENOUGH = 50_000
"""Where so many match, no filter is rare: it is not counted how many more there are."""


def belongs_to(owner: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    """What a query on tasks adds for who may touch `owner`'s tasks only; None: everybody's, nothing is added."""
    return () if owner is None else (tasks.c.owner == owner,)


@dataclass(frozen=True, slots=True)
class Query:
    """What `GET /tasks` may ask for. `owner`: the list holds, and counts, this owner's tasks only."""

    states: tuple[State, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    parent_id: str | None = None
    limit: int = 100
    offset: int = 0
    sort: str = "created_at"
    descending: bool = True
    owner: str | None = None


class Matching:
    """The tasks that a query asks for. Pages are cut from an index in its order, and only then the rows are read.

    An index is of the tasks or of one label: the rarest of what is asked for leads, the rest is looked up for each.
    """

    def __init__(self, tx: sa.Connection, query: Query) -> None:
        self._query = query
        of_tasks: list[sa.ColumnElement[bool]] = [*belongs_to(query.owner)]
        if query.states:
            of_tasks.append(tasks.c.state.in_([state.value for state in query.states]))
        if query.parent_id is not None:
            of_tasks.append(tasks.c.parent_id == query.parent_id)
        leading = _rarest_label(tx, query.labels, of_tasks)
        self._from: sa.FromClause = tasks
        self._id, self._order, self._where = tasks.c.id, tasks.c[query.sort], of_tasks
        if leading:
            self._id = labels.c.task_id
            self._where = [*of_tasks, *_is(labels, leading)]
            by_creation = query.sort == "created_at"
            self._order = labels.c.created_at if by_creation else self._order
            self._from = labels if by_creation and not of_tasks else labels.join(tasks, tasks.c.id == self._id)
        for label in query.labels:
            if label != leading:
                other = labels.alias()
                same = (other.c.task_id == self._id, *_is(other, label))
                self._where.append(sa.select(other.c.task_id).where(*same).exists())

    def page(self, tx: sa.Connection) -> list[str]:
        """The ids of the page. What has no value to be sorted by comes last in both directions."""
        query = self._query
        if not tasks.c[query.sort].nullable:
            return self._cut(tx, query.limit, query.offset)
        with_value, without = self._order.is_not(None), self._order.is_(None)
        found = self._cut(tx, query.limit, query.offset, with_value)
        if len(found) == query.limit:
            return found
        behind = query.offset - self.count(tx, with_value) if query.offset else 0
        return found + self._cut(tx, query.limit - len(found), max(behind, 0), without)

    def _cut(self, tx: sa.Connection, limit: int, offset: int, *also: sa.ColumnElement[bool]) -> list[str]:
        order = (self._order, self._id)
        directed = [column.desc() if self._query.descending else column.asc() for column in order]
        found = sa.select(self._id).select_from(self._from).where(*self._where, *also)
        return list(tx.scalars(found.order_by(*directed).limit(limit).offset(offset)))

    def count(self, tx: sa.Connection, *also: sa.ColumnElement[bool]) -> int:
        found = sa.select(sa.func.count()).select_from(self._from).where(*self._where, *also)
        return int(tx.scalar(found) or 0)


def _is(table: sa.FromClause, label: tuple[str, str]) -> tuple[sa.ColumnElement[bool], ...]:
    return (table.c.key == label[0], table.c.value == label[1])


def _rarest_label(
    tx: sa.Connection, asked: tuple[tuple[str, str], ...], of_tasks: list[sa.ColumnElement[bool]]
) -> tuple[str, str] | None:
    """The label that fewest tasks have; None when none is asked for, or the conditions on tasks leave fewer."""
    if len(asked) + bool(of_tasks) < 2:
        return asked[0] if asked else None

    def count(source: sa.FromClause, where: Iterable[sa.ColumnElement[bool]]) -> int:
        some = sa.select(sa.literal(1)).select_from(source).where(*where).limit(_ENOUGH).subquery()
        return int(tx.scalar(sa.select(sa.func.count()).select_from(some)) or 0)

    counts = [(count(labels, _is(labels, label)), label) for label in asked]
    fewest, label = min(counts)
    return None if of_tasks and count(tasks, of_tasks) < fewest else label
