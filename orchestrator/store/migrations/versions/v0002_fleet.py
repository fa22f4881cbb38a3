"""Several hosts: which machine a worker is, drains, work left behind, commit order, archived output."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_PLACEMENT = 0x5A4DB0C6
"""The lock that every placing, ending and cancelling transaction takes first (`services.place.take_turn`)."""


def upgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    if is_postgresql:  # in the order in which writers take them; theirs and ours would wait for each other
        op.execute(f"SELECT pg_advisory_xact_lock({_PLACEMENT})")
        op.execute(
            "LOCK TABLE tasks, attempts, task_labels, records, workers, idempotency_keys, installation "
            "IN ACCESS EXCLUSIVE MODE"
        )
    op.add_column("installation", sa.Column("transaction_base", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("running_clock", sa.String(), nullable=True))
    op.add_column("attempts", sa.Column("uncollected", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("workers", sa.Column("host_id", sa.String(), nullable=True))
    op.add_column("workers", sa.Column("version", sa.String(), nullable=True))
    op.add_column("workers", sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("workers", sa.Column("drain_until", sa.BigInteger(), nullable=True))
    op.add_column("records", sa.Column("transaction_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("records_by_commit", "records", ["transaction_id", "position"])
    if is_postgresql:  # an older version that still runs writes records without it
        op.execute("ALTER TABLE records ALTER transaction_id SET DEFAULT (pg_current_xact_id()::text)::bigint")
    op.add_column("tasks", sa.Column("archived_at", sa.BigInteger(), nullable=True))
    op.create_index("idempotency_keys_by_task", "idempotency_keys", ["task_id"])
    _index_for_scale()
    op.create_table(
        "log_segments",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"]),
        sa.PrimaryKeyConstraint("task_id", "last_seq"),
    )


def downgrade() -> None:
    op.drop_table("log_segments")
    op.drop_index("idempotency_keys_by_task", table_name="idempotency_keys")
    _index_as_before()
    op.drop_column("tasks", "archived_at")
    op.drop_index("records_by_commit", table_name="records")
    op.drop_column("records", "transaction_id")
    for name in ("drain_until", "draining", "version", "host_id"):
        op.drop_column("workers", name)
    op.drop_column("attempts", "uncollected")
    op.drop_column("attempts", "running_clock")
    op.drop_column("installation", "transaction_base")


_WAITING = "state = 'pending' AND worker IS NULL AND not_before IS NULL"
_LISTS = {
    "tasks_by_start": ["started_at", "id"],
    "tasks_by_change": ["state_changed_at", "id"],
    "tasks_by_name": ["name", "id"],
    "tasks_by_state": ["state", "created_at", "id"],
    "tasks_by_parent": ["parent_id", "created_at", "id"],
}
_PARTIAL: dict[str, tuple[list[Any], str]] = {
    "tasks_waiting": ([sa.text("priority DESC"), "created_at", "id"], _WAITING),
    "tasks_waiting_alike": (["demand", sa.text("priority DESC"), "created_at", "id"], _WAITING),
    "tasks_held": (
        ["worker", "held_cpus", "held_memory_bytes", "held_disk_bytes"],
        "worker IS NOT NULL AND finished_at IS NULL",
    ),
    "tasks_unclaimed": (["sent_at"], "state = 'pending' AND worker IS NOT NULL"),
    "tasks_expiring": (["queue_deadline"], "state = 'pending'"),
    "tasks_backing_off": (["not_before"], "not_before IS NOT NULL"),
    "tasks_by_finish": (["finished_at", "id"], "finished_at IS NOT NULL"),
    "tasks_unarchived": (["finished_at", "id"], "finished_at IS NOT NULL AND archived_at IS NULL"),
    "tasks_ended": (["outcome_reason", "output_bytes"], "finished_at IS NOT NULL"),
}
_COUNTS = {
    "tasks": {
        "sqlite_autoindex_tasks_1": "1000000 1",
        "tasks_by_creation": "1000000 1 1",
        "tasks_by_start": "1000000 1 1",
        "tasks_by_change": "1000000 1 1",
        "tasks_by_name": "1000000 1000 1",
        "tasks_by_state": "1000000 200000 1 1",
        "tasks_by_parent": "1000000 1000 1 1",
        "tasks_waiting": "100000 50000 1 1",
        "tasks_waiting_alike": "100000 10000 5000 1 1",
        "tasks_held": "4000 4 4 4 4",
        "tasks_unclaimed": "100 1",
        "tasks_expiring": "100000 1",
        "tasks_backing_off": "100 1",
        "tasks_by_finish": "1000000 1 1",
        "tasks_unarchived": "10000 1 1",
        "tasks_ended": "1000000 100000 100",
    },
    "attempts": {
        "sqlite_autoindex_attempts_1": "1000000 1 1",
        "attempts_by_worker": "1000000 1000 1",
        "attempts_uncollected": "100 10",
        "attempts_preserved": "100 10",
    },
    "task_labels": {
        "sqlite_autoindex_task_labels_1": "2000000 2 1",
        "task_labels_by_value": "2000000 400000 20000 1 1",
    },
}
"""Rows of an index, and how many share its first column, its first two, …: a store of a million tasks."""
_BEFORE = {
    "tasks_by_state": ["state", "priority", "created_at"],
    "tasks_by_worker": ["worker", "state"],
    "tasks_by_parent": ["parent_id"],
}


def _index_for_scale() -> None:
    """Lists, placement and the reaper look up an index each, however many tasks the store holds."""
    op.add_column("tasks", sa.Column("demand", sa.String(), nullable=False, server_default=""))
    # Any text does that is the same for tasks that ask for the same.
    parts = ("profile", "network_mode", "agent", "cpus", "memory_bytes", "disk_bytes")
    demand = " || '/' || ".join(f"CAST({part} AS VARCHAR)" for part in parts)
    tasks = sa.table("tasks", *map(sa.column, ("demand", "outcome_reason", "finished_at")))
    living = tasks.c.finished_at.is_(None)
    op.execute(tasks.update().where(living).values(demand=sa.text(demand)))
    op.add_column("tasks", sa.Column("outcome_reason", sa.String(), nullable=True))
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    reason = "json_extract(outcome, '$.reason')" if is_sqlite else "outcome ->> 'reason'"
    op.execute(tasks.update().where(~living).values(outcome_reason=sa.text(reason)))
    op.add_column("task_labels", sa.Column("created_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE task_labels SET created_at = (SELECT created_at FROM tasks WHERE tasks.id = task_id)")
    op.drop_index("task_labels_by_value", table_name="task_labels")
    op.create_index("task_labels_by_value", "task_labels", ["key", "value", "created_at", "task_id"])
    op.create_table(
        "waits",
        sa.Column("demand", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("demand"),
    )
    for name in _BEFORE:
        op.drop_index(name, table_name="tasks")
    for name, columns in _LISTS.items():
        op.create_index(name, "tasks", columns)
    for name, (columns, condition) in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, "tasks", columns, sqlite_where=where, postgresql_where=where)
    for flag in ("uncollected", "preserved"):
        sqlite_where, postgresql_where = sa.text(f"{flag} = 1"), sa.text(flag)
        op.create_index(
            f"attempts_{flag}", "attempts", ["worker"], sqlite_where=sqlite_where, postgresql_where=postgresql_where
        )
    if is_sqlite:
        _say_what_is_rare()


def _say_what_is_rare() -> None:
    """SQLite counts nothing by itself, and guesses that few tasks are in a state: so it would read all pending ones
    for what an index of the few that are due tells at once. `ANALYZE`, by an operator, puts true counts here."""
    op.execute("ANALYZE sqlite_schema")  # makes the table that it reads
    for table, counts in _COUNTS.items():
        for index, count in counts.items():
            row = sa.text("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (:table, :index, :count)")
            op.execute(row.bindparams(table=table, index=index, count=count))
    op.execute("ANALYZE sqlite_schema")  # reads it


def _index_as_before() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DELETE FROM sqlite_stat1")
    for flag in ("uncollected", "preserved"):
        op.drop_index(f"attempts_{flag}", table_name="attempts")
    for name in (*_LISTS, *_PARTIAL):
        op.drop_index(name, table_name="tasks")
    for name, columns in _BEFORE.items():
        op.create_index(name, "tasks", columns)
    op.drop_table("waits")
    op.drop_index("task_labels_by_value", table_name="task_labels")
    op.create_index("task_labels_by_value", "task_labels", ["key", "value", "task_id"])
    op.drop_column("task_labels", "created_at")
    op.drop_column("tasks", "outcome_reason")
    op.drop_column("tasks", "demand")
