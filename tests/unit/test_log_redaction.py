"""K5: no line of the worker's own log shows a secret: message, field, argument or traceback."""

from __future__ import annotations

import gc
import io
import logging
import threading

import pytest

from orchestrator.logs import FieldFormatter
from workers import log_redaction
from workers.log_redaction import LiveRedactors, RedactingFormatter

VALUE = "pa\"ss\\w'ord é"


@pytest.fixture
def live() -> LiveRedactors:
    return LiveRedactors()


def lines_of(live: LiveRedactors) -> tuple[logging.Logger, io.StringIO]:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(RedactingFormatter(FieldFormatter(), live))
    logger = logging.Logger("test")  # noqa: LOG001 - one that no other test shares
    logger.addHandler(handler)
    return logger, lines


def fail() -> None:
    raise RuntimeError(f"forced with {VALUE}")


def test_k5_message_argument_field_and_traceback_are_masked(live: LiveRedactors) -> None:
    logger, lines = lines_of(live)
    redactor = live.redactor([VALUE.encode()])
    logger.info("said %s", VALUE, extra={"error": f"it was {VALUE}", "object": ValueError(VALUE)})
    try:
        fail()
    except RuntimeError:
        logger.exception("it failed")
    told = lines.getvalue()
    assert "said ***" in told
    assert "it was ***" in told
    assert "RuntimeError: forced with ***" in told
    assert not any(part in told for part in (VALUE, repr(VALUE)[1:-1], "ord é"))
    assert redactor is not None


def test_the_record_itself_is_left_as_it_was_for_other_handlers(live: LiveRedactors) -> None:
    kept = live.redactor([VALUE.encode()])
    record = logging.LogRecord("test", logging.INFO, "file", 1, "said %s", (VALUE,), None)
    assert RedactingFormatter(FieldFormatter(), live).format(record).endswith("test: said ***")
    assert (record.msg, record.args, record.getMessage()) == ("said %s", (VALUE,), f"said {VALUE}")
    assert kept.values == (VALUE.encode(),)


def test_a_redactor_that_nobody_uses_is_forgotten(live: LiveRedactors) -> None:
    kept = live.redactor([VALUE.encode()])
    assert live.redact(f"<{VALUE}>") == "<***>"
    del kept
    gc.collect()
    assert not live
    assert live.redact(f"<{VALUE}>") == f"<{VALUE}>"


def test_without_secrets_there_is_nothing_to_keep(live: LiveRedactors) -> None:
    assert live.redactor(()).redact("x") == "x"
    assert not live


def test_k5_what_a_thread_dies_of_is_a_line_of_the_guarded_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(FieldFormatter())
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr("sys.excepthook", None)
    monkeypatch.setattr(threading, "excepthook", None)
    log_redaction.install()
    kept = log_redaction.LIVE.redactor([VALUE.encode()])

    thread = threading.Thread(target=fail, name="dying")
    thread.start()
    thread.join()
    told = lines.getvalue()
    assert "thread_name=dying" in told
    assert "RuntimeError: forced with ***" in told
    assert "ord é" not in told
    assert kept is not None
