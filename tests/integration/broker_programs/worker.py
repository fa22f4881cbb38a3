"""A worker process for the broker's tests: writes a line for everything it receives.

Arguments: broker directory, worker name, file to append to, seconds each attempt takes.
"""

import os
import sys
import threading
import time
from pathlib import Path

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.consumer import run_worker


def main() -> None:
    directory, name, journal, seconds = sys.argv[1:5]
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(*words: object) -> None:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())

    def on_attempt(task_id: str, attempt: int) -> None:
        time.sleep(float(seconds))
        write("attempt", task_id, attempt)

    # A supervisor thread that would outlive the longest shutdown: it must not delay the exit.
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    run_worker(
        create_app(BrokerSettings(directory=Path(directory))),
        name,
        on_attempt=on_attempt,
        on_cancel=lambda task_id, attempt: write("cancel", task_id, attempt),
        on_ready=lambda: write("ready"),
        on_stopping=lambda: write("stopping"),
    )
    write("returned")


if __name__ == "__main__":
    main()
