"""What a helper is given reaches it as far as the engine takes it, and nobody waits for an engine that hangs."""

from __future__ import annotations

import os
import socket
import threading
import time
from itertools import count

import pytest

from workers.helper import HelperStopped, _send

MUCH = bytes(8 << 20)
NEVER = float("inf")


def test_an_engine_that_takes_nothing_is_waited_for_until_the_deadline_or_the_end_of_the_task() -> None:
    looks = count()
    ours, engine = socket.socketpair()
    with ours, engine:
        with pytest.raises(HelperStopped, match="was asked to end"):
            _send(ours.fileno(), MUCH, lambda: next(looks) > 3, NEVER)
        with pytest.raises(HelperStopped, match="its time is over"):
            _send(ours.fileno(), MUCH, lambda: False, time.monotonic() + 0.1)
        assert os.get_blocking(ours.fileno())


def test_all_of_it_is_sent_however_slowly_it_is_taken_and_an_end_is_no_error() -> None:
    ours, engine = socket.socketpair()
    taken = bytearray()

    def take() -> None:
        while data := engine.recv(100_000):
            taken.extend(data)

    with ours, engine:
        thread = threading.Thread(target=take)
        thread.start()
        _send(ours.fileno(), MUCH, lambda: False, NEVER)
        ours.shutdown(socket.SHUT_WR)
        thread.join(60)
        assert bytes(taken) == MUCH
        engine.close()
        _send(ours.fileno(), MUCH, lambda: False, NEVER)
