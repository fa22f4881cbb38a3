"""`sandbox admin`: look after the store. It works on the store itself, so it needs the operator's settings."""

from __future__ import annotations

from orchestrator.cli import LazyGroup, deferred

admin = LazyGroup(
    "admin",
    help="Look after the store: migrate, prune, requeue, back up, restore, audit. Works on the store itself, so run it "
    "with the settings of the other processes (SANDBOX_STORE_URL, SANDBOX_DATA_DIR, …).",
    deferred_commands={
        "migrate": deferred("orchestrator.commands.migrating:migrate", "Bring the store to this version's schema."),
        "prune": deferred("orchestrator.commands.pruning:prune", "Remove the data of tasks that ended long ago."),
        "requeue": deferred("orchestrator.commands.requeueing:requeue", "Place again what no worker has begun."),
        "backup": deferred("orchestrator.commands.backing_up:backup", "Copy the store to a file, while it is in use."),
        "restore": deferred("orchestrator.commands.backing_up:restore", "Bring the store back from such a file."),
        "audit": deferred("orchestrator.commands.auditing:audit", "Show who changed what."),
        "settings": deferred("orchestrator.commands.settings:settings", "Print the settings in force."),
    },
)
