"""The product's own log: one line an event, ids as fields, on stderr."""

from __future__ import annotations

import logging
import sys

from orchestrator import clock

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """`time level logger: message key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        told = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        line = f"{clock.text(clock.now())} {record.levelname.lower()} {record.name}: {record.getMessage()}{told}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in ' "=')
    return text if plain and text else repr(text)


def install(level: str = "INFO") -> None:
    """Send all logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for quiet in ("urllib3", "docker", "celery", "kombu", "alembic", "amqp", "httpx"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
