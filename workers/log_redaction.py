"""The worker's own log shows no secret of an attempt that it has in hand, whoever writes the line."""

from __future__ import annotations

import copy
import logging
import sys
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType

from workers.redaction import NOTHING_SECRET, Redactor

log = logging.getLogger(__name__)

_STANDARD = frozenset(vars(logging.makeLogRecord({})))
"""A record's own attributes; all others are fields of ours, of which a line shows the text."""


class LiveRedactors:
    """The redactors that are in use: one is forgotten with its attempt. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[Redactor] = weakref.WeakSet()

    def redactor(self, values: Sequence[bytes]) -> Redactor:
        """A redactor of these values; from now on the log is without them, too."""
        if not values:
            return NOTHING_SECRET
        made = Redactor(values)
        with self._lock:
            self._all.add(made)
        return made

    def redact(self, text: str) -> str:
        with self._lock:
            present = list(self._all)
        for one in present:
            text = one.redact(text)
        return text

    def __bool__(self) -> bool:
        return len(self._all) > 0


LIVE = LiveRedactors()


class RedactingFormatter(logging.Formatter):
    """Formats as another one does, without the secrets: tracebacks and fields included."""

    def __init__(self, formatter: logging.Formatter, live: LiveRedactors = LIVE) -> None:
        super().__init__()
        self._formatter = formatter
        self._live = live

    def format(self, record: logging.LogRecord) -> str:
        if not self._live:
            return self._formatter.format(record)
        # Each part before the line is made, for quoting can change a value; and the line, for what is no text yet.
        clean = copy.copy(record)
        clean.msg, clean.args = record.getMessage(), None
        for name, value in vars(clean).items():
            if isinstance(value, str) or name not in _STANDARD:
                setattr(clean, name, self._live.redact(str(value)))
        return self._live.redact(self._formatter.format(clean))


def install() -> None:
    """Guard every handler of this process's log; what would go to stderr past it becomes a line of it."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter()))
    sys.excepthook = _uncaught
    threading.excepthook = lambda raised: _uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, (KeyboardInterrupt, SystemExit)):
        sys.__excepthook__(kind, error or kind(), trace)
        return
    thread = threading.current_thread().name
    log.critical("unexpected error", extra={"thread_name": thread}, exc_info=(kind, error or kind(), trace))
