"""A second Docker Engine with the image that the suite's tasks use, for faults of the engine itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.engine import Engine, save_images

IMAGE = "sandbox/basic:latest"


@contextmanager
def loaded_engine(archive: Path | None = None) -> Iterator[Engine]:
    """A running engine with live-restore. `archive` holds the image; without, it is saved from the host's engine."""
    # Not below pytest's directory: a socket's path is short.
    directory = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        with Engine(directory / "own") as engine:
            engine.start(live_restore=True)
            engine.load(archive or save_images(directory / "images.tar", IMAGE))
            yield engine
    finally:
        shutil.rmtree(directory)
