"""Coding agents: what is known of their runs, what they ask, what people send them, and sessions to go on from."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_PLACEMENT = 0x5A4DB0C6
"""The lock that every placing, ending and cancelling transaction takes first (`services.place.take_turn`)."""
_OPEN = "answered_at IS NULL AND withdrawn_at IS NULL"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # in the order in which writers take them, as in 0002
        op.execute(f"SELECT pg_advisory_xact_lock({_PLACEMENT})")
        op.execute("LOCK TABLE tasks, attempts IN ACCESS EXCLUSIVE MODE")
    op.add_column("tasks", sa.Column("tool_calls", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("current_tool", sa.String(), nullable=True))
    op.add_column("tasks", sa.Column("resumed_from", sa.String(), nullable=True))
    op.add_column("tasks", sa.Column("resumed_cost_usd", sa.Float(), nullable=True))
    op.add_column("tasks", sa.Column("input_closed", sa.Integer(), nullable=True))
    for name in ("agent", "model_usage", "session"):
        op.add_column("attempts", sa.Column(name, sa.JSON(), nullable=True))
    op.create_table(
        "questions",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        # CASCADE: a reaper of the version before forgets tasks during an upgrade, and knows nothing of this table.
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "attempt", "id"),
    )
    where: dict[str, Any] = {"sqlite_where": sa.text(_OPEN), "postgresql_where": sa.text(_OPEN)}
    op.create_index("questions_open", "questions", ["task_id", "attempt"], **where)
    op.create_table(
        "inputs",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("question_id", sa.String(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("sent_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], ondelete="CASCADE"),  # as above
        sa.PrimaryKeyConstraint("task_id", "number"),
    )


def downgrade() -> None:
    op.drop_table("inputs")
    op.drop_table("questions")
    for name in ("session", "model_usage", "agent"):
        op.drop_column("attempts", name)
    for name in ("input_closed", "resumed_cost_usd", "resumed_from", "current_tool", "tool_calls"):
        op.drop_column("tasks", name)
