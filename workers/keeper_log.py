"""The keeper's own log: one JSON line an event on stderr, without the weight of `logging`."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress


def log(event: str, **fields: object) -> None:
    """Write one event. A log that cannot be written (a full disk) must not end the keeper."""
    line = json.dumps({"at": round(time.time(), 3), "event": event, "pid": os.getpid(), **fields})
    with suppress(OSError):
        os.write(2, line.encode() + b"\n")
