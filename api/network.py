"""What a task's sandbox sent over the network, and what it was refused (contract §10)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api.params import no_params
from api.parts import parts
from orchestrator import clock
from orchestrator.contacts import Contact, entries, merged
from orchestrator.manifest import Manifest
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import contacts, tasks

blueprint = Blueprint("network", __name__, url_prefix="/api/v1/tasks")


@blueprint.get("/<task_id>/network")
def get_network(task_id: str) -> Response:
    no_params()
    with parts().product.database.read() as tx:
        task = tasks.get(tx, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        found = merged(contacts.of_task(tx, task_id))
        bytes_up, bytes_down = contacts.bytes_of_task(tx, task_id)
    vm = Manifest.from_definition(task.definition).vm
    learned = [one for one in found if one.passed]
    body: dict[str, Any] = {
        "task_id": task_id,
        "mode": vm.network_mode,
        "allowed_hosts": list(vm.allowed_hosts),
        "denied": [_shown(one) for one in found if not one.passed],
        "bytes_up": bytes_up,
        "bytes_down": bytes_down,
    }
    if learned:
        body |= {"learned": [_shown(one) for one in learned], "suggested_allowed_hosts": entries(learned)}
    return jsonify(body)


def _shown(one: Contact) -> dict[str, Any]:
    return {
        "host": one.host,
        "port": one.port,
        "rule": one.rule,
        "count": one.count,
        "first_at": clock.text(one.first_at),
        "last_at": clock.text(one.last_at),
    }
