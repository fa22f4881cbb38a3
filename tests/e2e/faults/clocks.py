"""Another wall clock for some processes (fault F15). Monotonic clocks go on as they are."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import missing

_SLEEP = """\
import select
import time

# libfaketime 0.9.10 breaks sleeping until a monotonic instant, which is how Python sleeps: EINVAL at once.
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class FakeClock:
    """Processes that start with `environment` see the wall clock as `set` says, also while they run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._site = file.with_suffix(".site")
        self._site.mkdir()
        (self._site / "sitecustomize.py").write_text(_SLEEP)
        self.set("+0")

    def set(self, offset: str) -> None:
        """Shift the clock by an offset as faketime writes it: `+1h`, `-1d`, `+0`."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.rename(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs; its children (the keeper, too) inherit it."""
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            missing("libfaketime", "install the package faketime, or run .ci/install")
        return {
            "LD_PRELOAD": str(found[-1]),
            "PYTHONPATH": str(self._site),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
