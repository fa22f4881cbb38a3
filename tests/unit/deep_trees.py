"""Trees that no path can name whole."""

from __future__ import annotations

import os
from pathlib import Path


def make_deep(top: Path, depth: int) -> None:
    """Nested directories `d/d/d…`, each with a file `f`: deeper than any path may be long."""
    directory = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
