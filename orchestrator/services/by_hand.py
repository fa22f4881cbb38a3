"""Acts of who works on the store itself, as its operator, in the audit trail."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from orchestrator.store import audit

DONE = 200
"""The status of an act that no request asked for."""


def here() -> str:
    """Where an act comes from that goes to the store itself: not from a token, but from a user of this host."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        user = str(os.getuid())
    return f"this host (user {user})"


def note(tx: sa.Connection, action: str, subjects: Iterable[str], at: datetime) -> None:
    """Keep an entry for each of what was acted on."""
    remote = here()
    entries = [audit.Entry(at, None, None, remote, action, audit.plain(one), DONE, "-") for one in subjects]
    if entries:
        audit.insert(tx, entries)
