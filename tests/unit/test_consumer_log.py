"""What Celery says while its broker goes down: a warning with the error, and no page of its own insides."""

from __future__ import annotations

import logging

import pytest

from orchestrator.broker import consumer


@pytest.mark.parametrize("name", ["celery.worker.request", "celery.worker.loops"])
def test_a_broken_connection_is_a_warning_without_a_traceback(name: str, caplog: pytest.LogCaptureFixture) -> None:
    consumer._keep_celery_quiet()
    logger = logging.getLogger(name)
    error = ConnectionResetError(104, "Connection reset by peer")
    logger.critical("Couldn't ack 2, reason:%r", error, exc_info=error)
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "Connection reset by peer" in record.getMessage()
