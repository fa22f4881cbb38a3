"""Publishes messages while two other threads of the process never rest.

So the publishing thread loses the interpreter between any two steps: what can be seen half done, is.
Arguments: broker directory, worker name, number of messages.
"""

import sys
import threading
from pathlib import Path

from orchestrator.broker.app import BrokerSettings, create_app
from orchestrator.broker.messages import Broker


def main() -> None:
    directory, name, count = sys.argv[1:4]
    sys.setswitchinterval(0.0002)  # the default, 5 ms, only makes the same interleaving take two minutes
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            sum(range(100))

    spinners = [threading.Thread(target=spin) for _ in range(2)]
    for spinner in spinners:
        spinner.start()
    broker = Broker(create_app(BrokerSettings(directory=Path(directory))))
    try:
        for number in range(int(count)):
            broker.send_attempt(name, f"t{number}", 1)
    finally:
        done.set()
        broker.close()


if __name__ == "__main__":
    main()
