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
    op.create_index("tasks_by_owner", "tasks", ["owner", "created_at", "id"])
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
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"]),
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
    op.drop_index("tasks_by_owner", table_name="tasks")
    op.drop_column("tasks", "owner")


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _position() -> Any:
    """SQLite gives rowids to INTEGER primary keys only."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")
