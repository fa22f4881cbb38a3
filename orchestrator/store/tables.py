"""The tables. Migrations build them; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970: exact, sortable, the same on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else (value - EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:  # noqa: ARG002 - as above
        return None if value is None else EPOCH + timedelta(microseconds=value)


# SQLite gives rowids to INTEGER primary keys only.
Position = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData()

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("transaction_base", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("told_transaction_id", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("told_position", sa.BigInteger, nullable=False, server_default="0"),
)


def _where(condition: str) -> dict[str, Any]:
    """A partial index. A query uses it only if its own words say the same: literals, not bound parameters."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _flagged(column: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(f"{column} = 1"), "postgresql_where": sa.text(column)}


_Fact = sa.JSON(none_as_null=True)
"""What is not known is NULL, which a condition finds, and not JSON's own null."""
_WAITING = _where("state = 'pending' AND worker IS NULL AND not_before IS NULL")
_OWNED = _where("owner IS NOT NULL")

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("parent_id", sa.String),
    sa.Column("rerun_of", sa.String),
    sa.Column("definition", sa.JSON, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("state_message", sa.String),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("worker", sa.String),
    sa.Column("sent_at", Instant),
    sa.Column("not_before", Instant),
    sa.Column("queue_deadline", Instant),
    sa.Column("cpus", sa.Float, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("disk_bytes", sa.BigInteger, nullable=False),
    sa.Column("profile", sa.String, nullable=False),
    sa.Column("network_mode", sa.String, nullable=False),
    sa.Column("agent", sa.String, nullable=False),
    sa.Column("demand", sa.String, nullable=False, server_default=""),
    sa.Column("held_cpus", sa.Float),
    sa.Column("held_memory_bytes", sa.BigInteger),
    sa.Column("held_disk_bytes", sa.BigInteger),
    sa.Column("counted_attempts", sa.Integer, nullable=False),
    sa.Column("uncounted_losses", sa.Integer, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("state_changed_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("preserve_until", Instant),
    sa.Column("purged_at", Instant),
    sa.Column("exit_code", sa.Integer),
    sa.Column("outcome", sa.JSON),
    sa.Column("outcome_reason", sa.String),
    sa.Column("applied", sa.JSON),
    sa.Column("cancellation", sa.JSON),
    sa.Column("output_bytes", sa.BigInteger, nullable=False),
    sa.Column("last_activity_at", Instant),
    sa.Column("next_seq", sa.BigInteger, nullable=False),
    sa.Column("archived_at", Instant),
    sa.Column("owner", sa.String),
    sa.Column("tool_calls", sa.Integer, nullable=False, server_default="0"),
    sa.Column("current_tool", sa.String),
    sa.Column("resumed_from", sa.String),
    sa.Column("resumed_cost_usd", sa.Float),
    sa.Column("input_closed", sa.Integer),
    sa.Column("next_aside", sa.BigInteger, nullable=False, server_default="-1"),
    sa.Column("progress_percent", sa.Float),
    sa.Column("progress_text", sa.String),
    sa.Column("outputs", _Fact),
    # Lists, each in one order: a page is read from its end of an index, however many tasks there are.
    sa.Index("tasks_by_creation", "created_at", "id"),
    sa.Index("tasks_by_start", "started_at", "id"),
    sa.Index("tasks_by_change", "state_changed_at", "id"),
    sa.Index("tasks_by_name", "name", "id"),
    sa.Index("tasks_by_state", "state", "created_at", "id"),
    sa.Index("tasks_by_parent", "parent_id", "created_at", "id"),
    # The same lists of one owner; where the API is open nobody owns a task, and they cost nothing.
    sa.Index("tasks_by_owner", "owner", "created_at", "id", **_OWNED),
    sa.Index("tasks_by_owner_state", "owner", "state", "created_at", "id", **_OWNED),
    sa.Index("tasks_by_owner_name", "owner", "name", "id", **_OWNED),
    sa.Index("tasks_by_owner_start", "owner", "started_at", "id", **_OWNED),
    sa.Index("tasks_by_owner_change", "owner", "state_changed_at", "id", **_OWNED),
    # Placement: the most urgent that wait, the most urgent of each demand, and what each worker holds.
    sa.Index("tasks_waiting", sa.text("priority DESC"), "created_at", "id", **_WAITING),
    sa.Index("tasks_waiting_alike", "demand", sa.text("priority DESC"), "created_at", "id", **_WAITING),
    sa.Index(
        "tasks_held", "worker", "held_cpus", "held_memory_bytes", "held_disk_bytes",
        **_where("worker IS NOT NULL AND finished_at IS NULL"),
    ),
    # The reaper's questions of each second: each index holds only what may be due.
    sa.Index("tasks_unclaimed", "sent_at", **_where("state = 'pending' AND worker IS NOT NULL")),
    sa.Index("tasks_expiring", "queue_deadline", **_where("state = 'pending'")),
    sa.Index("tasks_backing_off", "not_before", **_where("not_before IS NOT NULL")),
    sa.Index("tasks_by_finish", "finished_at", "id", **_where("finished_at IS NOT NULL")),
    sa.Index("tasks_unarchived", "finished_at", "id", **_where("finished_at IS NOT NULL AND archived_at IS NULL")),
    # What `/metrics` counts.
    sa.Index("tasks_ended", "outcome_reason", "output_bytes", **_where("finished_at IS NOT NULL")),
)  # fmt: skip

waits = sa.Table(
    "waits",
    metadata,
    sa.Column("demand", sa.String, primary_key=True),
    sa.Column("reason", sa.String, nullable=False),
)

labels = sa.Table(
    "task_labels",
    metadata,
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False, server_default="0"),
    sa.Index("task_labels_by_value", "key", "value", "created_at", "task_id"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("worker", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("claimed_at", Instant, nullable=False),
    sa.Column("running_at", Instant),
    sa.Column("running_clock", sa.String),
    sa.Column("finished_at", Instant),
    sa.Column("outcome", sa.JSON),
    sa.Column("applied", sa.JSON),
    sa.Column("image", sa.String),
    sa.Column("image_digest", sa.String),
    sa.Column("commit", sa.String),
    sa.Column("sandbox", sa.String),
    sa.Column("verdict", sa.JSON),
    sa.Column("spool_offset", sa.String),
    sa.Column("output_bytes", sa.BigInteger, nullable=False),
    sa.Column("dropped_bytes", sa.BigInteger, nullable=False),
    sa.Column("preserved", sa.Boolean, nullable=False),
    sa.Column("uncollected", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("bytes_up", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_down", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("agent", _Fact),
    sa.Column("model_usage", _Fact),
    sa.Column("session", _Fact),
    sa.Column("cpu_seconds", sa.Float),
    sa.Column("memory_peak_bytes", sa.BigInteger),
    sa.Column("disk_peak_bytes", sa.BigInteger),
    sa.Index("attempts_by_worker", "worker", "finished_at"),
    # What a worker asks at each heartbeat: what it still has, not what it ever had.
    sa.Index("attempts_uncollected", "worker", **_flagged("uncollected")),
    sa.Index("attempts_preserved", "worker", **_flagged("preserved")),
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("position", Position, primary_key=True, autoincrement=True),
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("first_seq", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("stream", sa.String),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("data", sa.LargeBinary),
    sa.Column("transaction_id", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("records_by_sequence", "task_id", "last_seq", unique=True),
    sa.Index("records_by_commit", "transaction_id", "position"),
    # The event stream of one task, and the state that it was in.
    sa.Index("records_by_task", "task_id", "transaction_id", "position"),
    sa.Index("state_changes", "task_id", "position", **_where("kind = 'state_change'")),
    sqlite_autoincrement=True,
)

horizons = sa.Table(
    "horizons",
    metadata,
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("transaction_id", sa.BigInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
)

log_segments = sa.Table(
    "log_segments",
    metadata,
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("first_seq", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.BigInteger, primary_key=True),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("content_type", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("key", sa.String, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("cpus", sa.Float, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("disk_bytes", sa.BigInteger, nullable=False),
    sa.Column("overcommit", sa.JSON, nullable=False),
    sa.Column("profiles", sa.JSON, nullable=False),
    sa.Column("network_modes", sa.JSON, nullable=False),
    sa.Column("agents", sa.JSON, nullable=False),
    sa.Column("trouble", sa.String),
    sa.Column("heartbeat", sa.BigInteger, nullable=False),
    sa.Column("heartbeat_at", Instant, nullable=False),
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("adopt_until", Instant),
    sa.Column("host_id", sa.String),
    sa.Column("version", sa.String),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("drain_until", Instant),
    sa.Column("bytes_up", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_down", sa.BigInteger, nullable=False, server_default="0"),
)

contacts = sa.Table(
    "contacts",
    metadata,
    # CASCADE: a reaper of the version before forgets tasks during an upgrade, and knows nothing of this table.
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("host", sa.String, primary_key=True),
    sa.Column("port", sa.Integer, primary_key=True),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("first_at", Instant, nullable=False),
    sa.Column("last_at", Instant, nullable=False),
)

questions = sa.Table(
    "questions",
    metadata,
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),  # as above
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("asked_at", Instant, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("text", sa.String, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("answered_at", Instant),
    sa.Column("withdrawn_at", Instant),
    sa.Index("questions_open", "task_id", "attempt", **_where("answered_at IS NULL AND withdrawn_at IS NULL")),
)

inputs = sa.Table(
    "inputs",
    metadata,
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),  # as above
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("text", sa.String),
    sa.Column("question_id", sa.String),
    sa.Column("answer", sa.String),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("sent_by", sa.String, nullable=False),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id", ondelete="CASCADE")),
    sa.Column("owner", sa.String),
    sa.Column("created_by", sa.String),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("events", sa.JSON, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("secret", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("failing_since", Instant),
    sa.Column("disabled_at", Instant),
    sa.Column("disabled_reason", sa.String),
    sa.Column("next_delivery", sa.BigInteger, nullable=False, server_default="1"),
    sa.Index("webhooks_of_task", "task_id", **_where("task_id IS NOT NULL")),
    sa.Index("webhooks_by_creation", "created_at", "id", **_where("task_id IS NULL")),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("webhook_id", sa.String, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event_id", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("task_id", sa.String, nullable=False),
    sa.Column("body", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_at", Instant),
    sa.Column("tried_at", Instant),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.String),
    sa.Column("last_milliseconds", sa.Integer),
    sa.Index("deliveries_due", "next_at", **_where("next_at IS NOT NULL")),
    sa.Index("deliveries_waiting", "webhook_id", **_where("next_at IS NOT NULL")),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("secret_sha256", sa.String, nullable=False),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("position", Position, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("token", sa.String),
    sa.Column("owner", sa.String),
    sa.Column("remote", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("subject", sa.String),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("request_id", sa.String, nullable=False),
    sa.Index("audit_by_time", "at"),
    sqlite_autoincrement=True,
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("task_id", sa.String, sa.ForeignKey("tasks.id"), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("idempotency_keys_by_task", "task_id"),  # or each task that goes would be looked for in all of them
)
