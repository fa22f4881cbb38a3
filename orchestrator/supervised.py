"""What `sandbox up` and the parts it supervises agree on."""

from __future__ import annotations

import ctypes
import os
import signal

END_SANDBOXES = "end-sandboxes"
"""A file in the run directory: when the worker stops while it is there, it ends what runs too."""

PARENT = "SANDBOX_UP_PID"
"""The environment variable that tells a part the process id of its `up`."""

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have this process get TERM when its `up` dies, however it dies; without one, do nothing."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
