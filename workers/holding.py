"""A stream of a sandbox goes into the keeper's hands."""

from __future__ import annotations

import os

from workers.attempt import Attempt
from workers.secret_custody import keepsake


def sandbox_of(attempt: Attempt) -> str:
    if attempt.sandbox is None:
        raise ValueError(f"task {attempt.claim.task_id} has no sandbox yet")
    return attempt.sandbox


def stopped_by_keeper(attempt: Attempt) -> bool:
    """Tell whether the keeper ended the sandbox, because its worker said nothing."""
    return attempt.directory.stopped_by_keeper.exists()


def hand_over(attempt: Attempt, stream: int, *, output_only: bool = False) -> None:
    """Let the keeper hold a stream of the sandbox; the descriptor is closed here.

    Raises `KeeperUnavailable`, `KeeperRefused`, `OSError`.
    """
    equipment, sandbox = attempt.equipment, sandbox_of(attempt)
    try:
        # The mark says whose doing the end was: the keeper's, not the command's. On a full disk there is none, and
        # the stop must go on: a failed redirection of `:`, a special builtin, would end the shell.
        mark = attempt.directory.stopped_by_keeper
        marking = '{ true > "$0"; } 2> /dev/null; exec "$@"'
        stop = ["/bin/sh", "-c", marking, str(mark), *equipment.backend.stop_argv(sandbox)]
        kept = keepsake(attempt)
        equipment.keeper.hold(sandbox, stream, attempt.directory.spool, stop, output_only=output_only, keepsake=kept)
    finally:
        os.close(stream)
