"""What a task uses and says of itself, how far back the event stream reaches, webhooks and their deliveries."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_PLACEMENT = 0x5A4DB0C6
"""The lock that every placing, ending and cancelling transaction takes first (`services.place.take_turn`)."""


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # in the order in which writers take them, as in 0002
        op.execute(f"SELECT pg_advisory_xact_lock({_PLACEMENT})")
        op.execute("LOCK TABLE tasks, attempts IN ACCESS EXCLUSIVE MODE")
    op.add_column("tasks", sa.Column("next_aside", sa.BigInteger(), nullable=False, server_default="-1"))
    op.add_column("tasks", sa.Column("progress_percent", sa.Float(), nullable=True))
    op.add_column("tasks", sa.Column("progress_text", sa.String(), nullable=True))
    op.add_column("tasks", sa.Column("outputs", sa.JSON(), nullable=True))
    op.add_column("attempts", sa.Column("cpu_seconds", sa.Float(), nullable=True))
    op.add_column("attempts", sa.Column("memory_peak_bytes", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("disk_peak_bytes", sa.BigInteger(), nullable=True))
    for name in ("told_transaction_id", "told_position"):
        op.add_column("installation", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "horizons",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind"),
    )
    op.create_index("records_by_task", "records", ["task_id", "transaction_id", "position"])
    op.create_index("state_changes", "records", ["task_id", "position"], **_where("kind = 'state_change'"))
    # What was archived or removed before was not noted: it may reach as far as the newest record.
    for kind in ("output", "system", "event", "artifact", "gap"):
        op.execute(
            f"INSERT INTO horizons SELECT '{kind}', max(transaction_id), max(position) FROM records "  # noqa: S608
            "HAVING max(position) IS NOT NULL AND (EXISTS (SELECT 1 FROM log_segments) "
            "OR EXISTS (SELECT 1 FROM tasks WHERE purged_at IS NOT NULL))"
        )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", sa.String(), nullable=True),
        sa.Column("next_delivery", sa.BigInteger(), nullable=False, server_default="1"),
        # CASCADE: a reaper of the version before forgets tasks during an upgrade, and knows nothing of this table.
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhooks_of_task", "webhooks", ["task_id"], **_where("task_id IS NOT NULL"))
    op.create_index("webhooks_by_creation", "webhooks", ["created_at", "id"], **_where("task_id IS NULL"))
    op.create_table(
        "deliveries",
        sa.Column("webhook_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("tried_at", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("last_milliseconds", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("webhook_id", "number"),
    )
    op.create_index("deliveries_due", "deliveries", ["next_at"], **_where("next_at IS NOT NULL"))
    op.create_index("deliveries_waiting", "deliveries", ["webhook_id"], **_where("next_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_table("horizons")
    op.drop_index("state_changes", "records")
    op.drop_index("records_by_task", "records")
    for name in ("told_position", "told_transaction_id"):
        op.drop_column("installation", name)
    for name in ("disk_peak_bytes", "memory_peak_bytes", "cpu_seconds"):
        op.drop_column("attempts", name)
    for name in ("outputs", "progress_text", "progress_percent", "next_aside"):
        op.drop_column("tasks", name)
