"""Which scopes each endpoint asks for: the one table. A route that is not in it is the administrator's."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.access import Scope


@dataclass(frozen=True, slots=True)
class Rule:
    """What an endpoint asks for. The last scope decides whose tasks it reaches (`task:create`: one's own alone, since
    it has no `:all`); none: everybody may ask, unnamed.

    `action` is the audit trail's name for a call that changes something.
    """

    scopes: tuple[Scope, ...] = ()
    action: str | None = None

    @property
    def is_open(self) -> bool:
        return not self.scopes


OPEN = Rule()
READ = Rule((Scope.TASK_READ,))
ARTIFACTS = Rule((Scope.TASK_ARTIFACTS,))
FLEET = Rule((Scope.WORKER_READ,))
UNKNOWN = Rule((Scope.ADMIN,), "unknown")

RULES: dict[str, Rule] = {
    "tasks.submit_task": Rule((Scope.TASK_CREATE,), "task.submit"),
    "tasks.list_tasks": READ,
    "tasks.get_task": READ,
    "tasks.cancel_task": Rule((Scope.TASK_CANCEL,), "task.cancel"),
    "tasks.purge_task": Rule((Scope.TASK_CANCEL,), "task.purge"),
    "tasks.rerun_task": Rule((Scope.TASK_CREATE, Scope.TASK_READ), "task.rerun"),
    # Whoever talks to an agent, or goes on from what it left, has the use of its secrets: its owner alone.
    "tasks.send_input": Rule((Scope.TASK_CREATE,), "task.input"),
    "tasks.resume_task": Rule((Scope.TASK_READ, Scope.TASK_CREATE), "task.resume"),
    "network.get_network": READ,
    "logs.get_logs": READ,
    "stream.get_stream": READ,
    "stream.open_websocket": READ,
    "artifacts.list_artifacts": ARTIFACTS,
    "artifacts.get_artifact": ARTIFACTS,
    "artifacts.get_archive": ARTIFACTS,
    "fleet.list_workers": FLEET,
    "fleet.get_worker": FLEET,
    "fleet.drain_worker": Rule((Scope.WORKER_WRITE,), "worker.drain"),
    "fleet.resume_worker": Rule((Scope.WORKER_WRITE,), "worker.resume"),
    "fleet.remove_worker": Rule((Scope.WORKER_WRITE,), "worker.remove"),
    "webhooks.list_webhooks": READ,
    "webhooks.get_webhook": READ,
    "webhooks.list_deliveries": READ,
    "webhooks.create_webhook": Rule((Scope.TASK_CREATE, Scope.TASK_READ), "webhook.create"),
    "webhooks.delete_webhook": Rule((Scope.TASK_CREATE, Scope.TASK_READ), "webhook.delete"),
    "webhooks.redeliver": Rule((Scope.TASK_CREATE, Scope.TASK_READ), "webhook.redeliver"),
    "metrics.metrics": FLEET,
    "page.index": OPEN,
    "page.asset": OPEN,
    "health.health": OPEN,
    "health.live": OPEN,
    "health.ready": OPEN,
    "health.task_schema": OPEN,
    "health.openapi": OPEN,
}


def rule_of(endpoint: str | None) -> Rule:
    """The endpoint's rule; who forgets to add one gets a route that only `admin` may use."""
    return RULES.get(endpoint or "", UNKNOWN)
