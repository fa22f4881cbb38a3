"""Access (tokens, owners, audit), and what sandboxes tried to reach on the network."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_PLACEMENT = 0x5A4DB0C6
"""The lock that every placing, ending and cancelling transaction takes first (`services.place.take_turn`)."""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # in the order in which writers take them, as in 0002
        op.execute(f"SELECT pg_advisory_xact_lock({_PLACEMENT})")
        op.execute("LOCK TABLE tasks, attempts, workers IN ACCESS EXCLUSIVE MODE")
    op.add_column("tasks", sa.Column("owner", sa.String(), nullable=True))
    _index_for_owners()
    for table in ("attempts", "workers"):
        op.add_column(table, _count("bytes_up"))
        op.add_column(table, _count("bytes_down"))
    op.create_table(
        "contacts",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        # CASCADE: a reaper of the version before forgets tasks during an upgrade, and knows nothing of this table.
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "attempt", "host", "port", "rule"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit",
        sa.Column("position", _position(), primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("remote", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_time", "audit", ["at"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("tokens")
    op.drop_table("contacts")
    for table in ("workers", "attempts"):
        op.drop_column(table, "bytes_down")
        op.drop_column(table, "bytes_up")
    for name in _LISTS:
        op.drop_index(name, table_name="tasks")
    op.drop_column("tasks", "owner")


_LISTS = {
    "tasks_by_owner": (["created_at", "id"], "1000000 50000 1 1"),
    "tasks_by_owner_state": (["state", "created_at", "id"], "1000000 50000 10000 1 1"),
    "tasks_by_owner_name": (["name", "id"], "1000000 50000 50 1"),
    "tasks_by_owner_start": (["started_at", "id"], "1000000 50000 1 1"),
    "tasks_by_owner_change": (["state_changed_at", "id"], "1000000 50000 1 1"),
}
"""What follows the owner in each index, and what 0002 says of its own: rows, and how many share its first columns."""


def _index_for_owners() -> None:
    """The lists of one owner, in each order. Partial: a task that nobody owns is in none of them."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    where = sa.text("owner IS NOT NULL")
    for name, (columns, count) in _LISTS.items():
        op.create_index(name, "tasks", ["owner", *columns], sqlite_where=where, postgresql_where=where)
        if is_sqlite:
            row = sa.text("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('tasks', :name, :count)")
            op.execute(row.bindparams(name=name, count=count))
    if is_sqlite:
        op.execute("ANALYZE sqlite_schema")  # reads it


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _position() -> Any:
    """SQLite gives rowids to INTEGER primary keys only."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")
