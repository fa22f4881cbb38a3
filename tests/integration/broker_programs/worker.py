"""A worker process for the broker's tests: writes a line for everything it receives.

Arguments: broker URL, worker name, file to append to, seconds each attempt takes, Celery settings as JSON.
What it logs goes to its standard error, fields included.
"""

import json
import logging
import os
import sys
import threading
import time

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.consumer import run_worker


class AllFields(logging.Formatter):
    """Whatever a log record holds, so that a test can look for what must not be in it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {vars(record)}"


def main() -> None:
    url, name, journal, seconds, overrides = sys.argv[1:6]
    handler = logging.StreamHandler()
    handler.setFormatter(AllFields())
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(*words: object) -> None:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())

    def on_attempt(task_id: str, attempt: int) -> None:
        time.sleep(float(seconds))
        write("attempt", task_id, attempt)

    # A supervisor thread that would outlive the longest shutdown: it must not delay the exit.
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    app = create_app(BrokerSettings(url=url))
    app.conf.update(json.loads(overrides))
    write("started")
    run_worker(
        app,
        name,
        on_attempt=on_attempt,
        on_cancel=lambda task_id, attempt: write("cancel", task_id, attempt),
        on_ready=lambda: write("ready"),
        on_stopping=lambda: write("stopping"),
    )
    write("returned")


if __name__ == "__main__":
    main()
