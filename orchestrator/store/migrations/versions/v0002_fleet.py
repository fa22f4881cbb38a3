"""Several hosts: which machine a worker is, drains, work left behind, commit order, archived output."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("installation", sa.Column("transaction_base", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("running_clock", sa.String(), nullable=True))
    op.add_column("attempts", sa.Column("uncollected", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("attempts_uncollected", "attempts", ["worker", "uncollected"])
    op.add_column("workers", sa.Column("host_id", sa.String(), nullable=True))
    op.add_column("workers", sa.Column("version", sa.String(), nullable=True))
    op.add_column("workers", sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("workers", sa.Column("drain_until", sa.BigInteger(), nullable=True))
    op.add_column("records", sa.Column("transaction_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("records_by_commit", "records", ["transaction_id", "position"])
    op.add_column("tasks", sa.Column("archived_at", sa.BigInteger(), nullable=True))
    op.create_index("tasks_by_finish", "tasks", ["finished_at"])
    pending = sa.text("state = 'pending' AND worker IS NULL")
    op.create_index(
        "tasks_waiting",
        "tasks",
        [sa.text("priority DESC"), "created_at", "id"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
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
    op.drop_index("tasks_waiting", table_name="tasks")
    op.drop_index("tasks_by_finish", table_name="tasks")
    op.drop_column("tasks", "archived_at")
    op.drop_index("records_by_commit", table_name="records")
    op.drop_column("records", "transaction_id")
    for name in ("drain_until", "draining", "version", "host_id"):
        op.drop_column("workers", name)
    op.drop_index("attempts_uncollected", table_name="attempts")
    op.drop_column("attempts", "uncollected")
    op.drop_column("attempts", "running_clock")
    op.drop_column("installation", "transaction_base")
