"""Submit an ended or running task's definition once more, changed by a JSON merge patch (RFC 7396)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from orchestrator import manifest
from orchestrator.access import ANYBODY, Caller, Scope
from orchestrator.manifest import InvalidManifest, Manifest, ManifestError, ManifestPolicy
from orchestrator.manifest.sections import Repository
from orchestrator.models import Resumption, Task
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.resume import SessionNotKept, may_resume, resumption
from orchestrator.services.submit import GoingOn, submit
from orchestrator.store import tasks


def rerun(
    product: Product,
    task_id: str,
    patch: dict[str, Any],
    policy: ManifestPolicy,
    *,
    idempotency_key: str | None = None,
    by: Caller = ANYBODY,
) -> Task:
    """Return the new task, which is `by`'s owner's. Its id is new unless the patch names one. Whom the original's owner
    had told of it (`notify`) hears of a rerun by somebody else only when the patch says so.

    The rerun of a task that went on from another goes on from the same one, so it keeps its agent and its repository:
    a patch that changes those is an `InvalidManifest`. Raises what `submit` raises, `TaskNotFound`, and
    `SessionNotKept` when that other is not there any more for `by` to go on from.
    """
    with product.database.read() as tx:
        original = tasks.get(tx, task_id)
        if original is None:
            raise TaskNotFound(task_id)
    definition = copy.deepcopy(original.definition)
    definition["metadata"]["id"] = None
    if by.reach(Scope.TASK_CREATE) not in (None, original.owner):
        # Else anybody who reads a task could have its owner's receivers told, in the owner's name, of what he likes.
        definition.pop("notify", None)
    checked = manifest.check(merge(definition, patch), policy=policy)
    going_on = None
    if original.resumed_from is not None:
        _check_fits(original, checked)
        going_on = GoingOn(original.resumed_from, lambda tx: _resumption(tx, original, by))
    return submit(product, checked, idempotency_key=idempotency_key, rerun_of=task_id, going_on=going_on, by=by)


def _check_fits(original: Task, changed: Manifest) -> None:
    """A workspace of another repository, or another program's session, is nothing to go on from."""
    before = Manifest.from_definition(original.definition)
    advice = f"rerun task {original.resumed_from} with it instead, or submit a task of its own"
    errors = [
        ManifestError(field, f"/{field}", None, None, "resumed", f"{why}; {advice}")
        for field, is_other, why in (
            ("repository", _cloned(before) != _cloned(changed), f"task {original.id} went on in another repository"),
            (
                changed.agent,
                before.agent != changed.agent,
                f"task {original.id} went on from a session of another agent",
            ),
        )
        if is_other
    ]
    if errors:
        raise InvalidManifest(errors)


def _cloned(of: Manifest) -> Repository | None:
    """What is cloned, by whatever credential."""
    return replace(of.repository, credential=None) if of.repository else None


def _resumption(tx: sa.Connection, original: Task, by: Caller) -> Resumption:
    source = tasks.get(tx, original.resumed_from or "")
    # A younger one has the id again after retention; neither that nor somebody else's is told from one that is gone.
    if source is None or source.created_at > original.created_at or not may_resume(by, source):
        raise SessionNotKept(
            original.id,
            f"it went on from task {original.resumed_from}, which is not stored any more, or is not yours to go on "
            "from; submit it anew",
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
