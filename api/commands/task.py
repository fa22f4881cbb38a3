"""`sandbox task`: what users do with tasks. Each verb is imported only when it is used."""

from __future__ import annotations

from orchestrator.cli import LazyGroup, deferred

task = LazyGroup(
    "task",
    help="Submit tasks, watch them, fetch what they made, cancel them.",
    deferred_commands={
        "submit": deferred("api.commands.submit:submit", "Submit a manifest."),
        "rerun": deferred("api.commands.submit:rerun", "Run a task again, perhaps changed."),
        "send": deferred("api.commands.send:send", "Answer an agent, or send it a message."),
        "resume": deferred("api.commands.submit:resume", "Go on from what an agent left."),
        "validate": deferred("api.commands.validate:validate", "Check a manifest without a server."),
        "list": deferred("api.commands.listing:list_tasks", "List tasks."),
        "status": deferred("api.commands.listing:status", "Show one task."),
        "watch": deferred("api.commands.watch:watch", "Watch what tasks do, as it happens."),
        "logs": deferred("api.commands.logs:logs", "Read or follow a task's log."),
        "network": deferred("api.commands.network:network", "Show what a task was refused on the network."),
        "cancel": deferred("api.commands.cancel:cancel", "Cancel tasks."),
        "purge": deferred("api.commands.cancel:purge", "Remove what an ended task left."),
        "artifacts": deferred("api.commands.transfer:artifacts", "List a task's artifacts."),
        "download": deferred("api.commands.transfer:download", "Download artifacts."),
    },
)
