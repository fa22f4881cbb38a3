"""`python -m tests.e2e.faults.soak --seconds 600 --tasks 300 --seed N`: random faults under load, then I1–I8.

Two workers, two API processes, PostgreSQL and RabbitMQ; `--store sqlite --broker folder` is the embedded pair. With
`--own-engine` the workers use a second Docker Engine, which is killed, too. The last line says how many violations
there were; the exit code is 1 when there was any.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import postgres_programs
from tests.e2e.faults.chaos import Cancellers, Chaos
from tests.e2e.faults.consistency import gather
from tests.e2e.faults.installation import Installation
from tests.e2e.faults.invariants import violations
from tests.e2e.faults.running import unjudged
from tests.e2e.faults.scripts import ticking_task
from tests.e2e.faults.second_engine import loaded_engine
from tests.e2e.submitting import Json
from tests.integration.store.cluster import Cluster, running_cluster

RETRIED = {"retry": {"max_attempts": 5, "backoff": "0s"}, "stop_grace": "1s"}
CANCELLED_SHARE = 0.15
FEWEST_FAULTS = 4
"""However long each of them takes."""
REST_SECONDS = 400.0


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: float
    tasks: int
    seed: int
    store: str = "postgres"
    broker: str = "rabbit"
    own_engine: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `violations` has one text for each."""

    endings: Counter[str]
    attempts: int
    starts: int
    faults: Counter[str]
    violations: list[str]

    def summary(self, plan: Plan) -> str:
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.endings.items()))
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"soak: seed {plan.seed}, {plan.seconds:g} s, {sum(self.endings.values())} tasks ({told}), "
            f"{self.attempts} attempts, {self.starts} sandboxes started, "
            f"{sum(self.faults.values())} faults ({faults}), violations = {len(self.violations)}"
        )


def soak(plan: Plan, directory: Path, cluster: Callable[[], Cluster]) -> Result:
    """Submit tasks and let faults happen for `plan.seconds`, then judge. Everything is healed in the end."""
    rng = random.Random(plan.seed)  # noqa: S311 - repeatable, not secret
    options: dict[str, Any] = {"store": plan.store, "broker": plan.broker, "apis": 2, "workers": ("w1", "w2")}
    with ExitStack() as stack:
        engine = stack.enter_context(loaded_engine()) if plan.own_engine else None
        it = stack.enter_context(unjudged(directory, cluster, engine=engine, **options))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        cancellers = Cancellers(it.api, random.Random(plan.seed + 1), CANCELLED_SHARE)  # noqa: S311
        chaos, until = Chaos(it, rng, engine), time.monotonic() + plan.seconds
        submitting = pool.submit(_submit_all, it, plan, cancellers)
        try:
            while time.monotonic() < until or chaos.happened.total() < FEWEST_FAULTS:
                chaos.one()
                time.sleep(rng.uniform(0.5, 3.0))
        finally:
            submitting.result()
            cancellers.join()
            chaos.close()
        evidence = gather(it, REST_SECONDS)
        views = [task.view for task in evidence.tasks if task.view]
        found = violations(evidence, allowed=it.allowed_tracebacks) + _broken_promises(views, cancellers)
        endings = Counter(str((view["outcome"] or {}).get("reason", view["state"])) for view in views)
        attempts = sum(len(view["attempts"]) for view in views)
        return Result(endings, attempts, len(evidence.lives), chaos.happened, found)


def _submit_all(it: Installation, plan: Plan, cancellers: Cancellers) -> None:
    rng = random.Random(plan.seed + 2)  # noqa: S311 - repeatable, not secret
    for _ in range(plan.tasks):
        seconds = rng.uniform(1.0, 5.0)
        task = ticking_task(
            round(seconds * 40), seconds, exit_code=rng.choice((0, 0, 0, 3)), artifact=True, lifecycle=RETRIED
        )
        cancellers.consider(it.api.submit(task))
        time.sleep(rng.uniform(0.5, 1.5) * plan.seconds / plan.tasks)


def _broken_promises(views: list[Json], cancellers: Cancellers) -> list[str]:
    state = {view["id"]: view["state"] for view in views}
    return [
        f"F18 task {task}: a cancellation was confirmed, and it is {state.get(task)}"
        for task in cancellers.promised
        if state.get(task) != "cancelled"
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.e2e.faults.soak", description="Random faults under load.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--store", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--broker", choices=("rabbit", "redis", "folder"), default="rabbit")
    parser.add_argument("--own-engine", action="store_true")
    plan = Plan(**vars(parser.parse_args(arguments)))
    print(f"soak: seed {plan.seed}", flush=True)
    with ExitStack() as stack:
        programs = postgres_programs()

        def cluster() -> Cluster:
            assert programs, "a PostgreSQL server is missing; install the package postgresql, or run .ci/install"
            return stack.enter_context(running_cluster(programs))

        directory = Path(tempfile.mkdtemp(prefix="sandbox-soak-"))
        result = soak(plan, directory, cluster)
    for text in result.violations:
        print(text)
    if result.violations:
        print(f"logs are in {directory}/logs")
    print(result.summary(plan))
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
