"""Submit an ended or running task's definition once more, changed by a JSON merge patch (RFC 7396)."""

from __future__ import annotations

import copy
from typing import Any

import sqlalchemy as sa

from orchestrator import manifest
from orchestrator.access import ANYBODY, Caller
from orchestrator.manifest import ManifestPolicy
from orchestrator.models import Resumption, Task
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.resume import SessionNotKept, resumption
from orchestrator.services.submit import submit
from orchestrator.store import tasks


def rerun(
    product: Product, task_id: str, patch: dict[str, Any], policy: ManifestPolicy, *, by: Caller = ANYBODY
) -> Task:
    """Return the new task, which is `by`'s owner's. Its id is new unless the patch names one.

    The rerun of a task that went on from another goes on from the same one. Raises what `submit` raises,
    `TaskNotFound`, and `SessionNotKept` when that other is not there to go on from any more.
    """
    with product.database.read() as tx:
        original = tasks.get(tx, task_id)
        if original is None:
            raise TaskNotFound(task_id)
        resumed = _resumption(tx, original)
    definition = copy.deepcopy(original.definition)
    definition["metadata"]["id"] = None
    changed = merge(definition, patch)
    return submit(product, manifest.check(changed, policy=policy), rerun_of=task_id, resumed=resumed, by=by)


def _resumption(tx: sa.Connection, original: Task) -> Resumption | None:
    if original.resumed_from is None:
        return None
    source = tasks.get(tx, original.resumed_from)
    if source is None:
        raise SessionNotKept(
            original.id, f"it went on from task {original.resumed_from}, which is not stored any more; submit it anew"
        )
    return resumption(tx, source)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, to the letter."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result
