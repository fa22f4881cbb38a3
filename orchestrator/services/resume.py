"""Go on in a new task from the workspace and the agent session of one that has ended."""

from __future__ import annotations

import copy

import sqlalchemy as sa

from orchestrator import manifest
from orchestrator.access import ANYBODY, Caller, Scope
from orchestrator.manifest import ManifestPolicy
from orchestrator.models import Resumption, Task
from orchestrator.product import Product
from orchestrator.services.cancel import TaskNotFound
from orchestrator.services.submit import GoingOn, submit
from orchestrator.store import attempts, tasks

DEFAULT_PROMPT = "Continue where you left off."


class SessionNotKept(Exception):
    """There is no session of this task that another could go on from."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f"task {task_id} cannot be resumed: {why}")


def resume(
    product: Product,
    task_id: str,
    prompt: str | None,
    policy: ManifestPolicy,
    *,
    idempotency_key: str | None = None,
    by: Caller = ANYBODY,
) -> Task:
    """Return the new task, which is `by`'s owner's: the same definition with another prompt, below the old task.

    Raises what `submit` raises, `TaskNotFound`, `SessionNotKept`.
    """
    with product.database.read() as tx:
        original = tasks.get(tx, task_id)
    if original is None:
        raise TaskNotFound(task_id)
    _check_agent(original)
    definition = copy.deepcopy(original.definition)
    definition["metadata"]["id"] = None
    definition["parent_id"] = task_id
    definition["claude"]["prompt"] = DEFAULT_PROMPT if prompt is None else prompt
    checked = manifest.check(definition, policy=policy)

    def find(tx: sa.Connection) -> Resumption:
        source = tasks.get(tx, task_id)
        if source is None or source.created_at != original.created_at:  # it went, and its id may be another's
            raise TaskNotFound(task_id)
        return resumption(tx, source)

    going_on = GoingOn(task_id, find)
    return submit(product, checked, idempotency_key=idempotency_key, going_on=going_on, by=by)


def may_resume(by: Caller, task: Task) -> bool:
    """True for the owner, and who may do everything: what an agent left has the use of its secrets in it."""
    return by.reach(Scope.TASK_CREATE) in (None, task.owner)


def resumption(tx: sa.Connection, task: Task) -> Resumption:
    """How to go on from a task. Raises `SessionNotKept`."""
    _check_agent(task)
    if not task.is_terminal:
        raise SessionNotKept(
            task.id, f"it is {task.state}, and only what has ended can be gone on from; wait for its end, or cancel it"
        )
    if task.purged_at is not None:
        raise SessionNotKept(task.id, f"what it left was removed; run it anew: `sandbox task rerun {task.id}`")
    found = attempts.session_of(tx, task.id)
    if found is None:
        raise SessionNotKept(
            task.id,
            "no session of it is stored; one is kept with lifecycle.keep_session: true, and of a failed task with "
            "lifecycle.failure_action: preserve, until the retention of artifacts is over; set one and run it anew: "
            f"`sandbox task rerun {task.id} --set lifecycle.keep_session=true`",
        )
    return Resumption(task.id, found[1].get("cost_usd"))


def _check_agent(task: Task) -> None:
    if "claude" not in task.definition:
        raise SessionNotKept(task.id, f"it runs a command, not an agent; run it again: `sandbox task rerun {task.id}`")
