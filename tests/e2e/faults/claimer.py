"""`python -m tests.e2e.faults.claimer WORKER ATTEMPT`: claim every task named on stdin; print those that were given.

A process of its own: what is tried is the store between processes, not a lock within one.
"""

from __future__ import annotations

import sys

from orchestrator.product import open_product
from orchestrator.services.claim import claim
from orchestrator.settings import load


def main(worker: str, attempt: int) -> None:
    product = open_product(load(worker_name=worker))
    print("ready", flush=True)
    for line in sys.stdin:
        if claim(product, worker, line.strip(), attempt):
            print(line.strip())
    product.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
