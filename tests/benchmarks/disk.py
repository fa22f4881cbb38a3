"""What a task's disk costs: made and mounted before it, thrown away after it, also with a gigabyte to be written."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.engine import docker_run_ms
from tests.benchmarks.stack import BenchmarkFailed
from tests.benchmarks.table import Row, from_samples
from workers.task_disk import ImageDisk, destroy, why_no_images

SIZE_BYTES = 10 << 30
DIRTY_BYTES = 1 << 30
_PIECE = b"x" * (1 << 20)


def task_disk(image: str, samples: int = 30) -> list[Row]:
    """Interleaved with `docker run`; the last row is D4: unmounted and deleted with a gigabyte that is not written."""
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as place:
        why = why_no_images(Path(place), lambda _: True)
        if why:
            raise BenchmarkFailed(why)
        root = Path(place, "attempt")
        made, removed, runs = [], [], []
        try:
            for _ in range(samples):
                made.append(_ms(lambda: _make(root)))
                removed.append(_ms(lambda: destroy(root)))
                runs.append(docker_run_ms(image))
            dirty = [_dirty_ms(root) for _ in range(max(3, samples // 10))]
        finally:
            destroy(root)
    figures = {
        "disk of a task, 10 GiB: made and mounted": made,
        "disk of a task: unmounted and deleted": removed,
        "disk of a task: unmounted and deleted with 1 GiB dirty": dirty,
    }
    return [from_samples(what, figure, beside="docker run", limits=runs) for what, figure in figures.items()]


def _make(root: Path) -> None:
    root.mkdir()
    ImageDisk().create(root, SIZE_BYTES)


def _dirty_ms(root: Path) -> float:
    _make(root)
    with (root / "disk" / "dirty").open("wb") as file:
        for _ in range(DIRTY_BYTES // len(_PIECE)):
            file.write(_PIECE)
    return _ms(lambda: destroy(root))


def _ms(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
