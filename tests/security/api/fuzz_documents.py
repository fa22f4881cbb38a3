"""Reads changed manifests until one does something that is neither a document nor the declared refusal.

`python -m tests.security.api.fuzz_documents FILE COUNT SEED`. Each text is in FILE before it is read: a process that a
signal ended can tell nothing any more. An alarm ends the process when a text takes more than `SECONDS`.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

from orchestrator import documents
from tests.integration.api.waiting import chance
from tests.security.api.mutations import mutated

SECONDS = 10
KINDS = ("application/yaml", "application/json")


def fuzz(file: Path, count: int, seed: int) -> tuple[int, int]:
    """Return how many texts were read, and how many refused."""
    dice = chance(seed)
    good = 0
    with file.open("wb", buffering=0) as told:
        for _ in range(count):
            text = mutated(dice)
            told.seek(0)
            told.truncate()
            told.write(text)
            for kind in KINDS:
                signal.alarm(SECONDS)
                with contextlib.suppress(documents.InvalidDocument):
                    documents.read(text, kind).locate()
                    good += 1
    return good, count * len(KINDS) - good


if __name__ == "__main__":
    print(*fuzz(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
