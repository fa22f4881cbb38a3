"""A second Docker Engine with the image that the suite's tasks use, for faults of the engine itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.engine import Engine, save_images

IMAGE = "sandbox/basic:latest"


@contextmanager
def loaded_engine(archive: Path | None = None, **options: Any) -> Iterator[Engine]:
    """A running engine with live-restore. `archive` holds the image; without, it is saved from the host's engine.

    `options` are those of `Engine`.
    """
    # Not below pytest's directory: a socket's path is short.
    directory = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        directory.chmod(0o711)  # users of the host that an engine maps its own to must pass
        with Engine(directory / "own", **options) as engine:
            engine.start(live_restore=True)
            engine.load(archive or save_images(directory / "images.tar", IMAGE))
            yield engine
    finally:
        shutil.rmtree(directory)
