"""Keeps the audit trail: every call that changes something, written to the store behind the answer's back.

A thread of its own writes, so that no answer waits for it, or fails with it. What the store does not take, and what
comes faster than it can be written, is in the log instead.
"""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import asdict

from flask import Response, g, request

from orchestrator import clock
from orchestrator.access import Caller
from orchestrator.store import audit
from orchestrator.store.audit import Entry
from orchestrator.store.database import Database

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
AT_ONCE = 500


class Trail:
    """Thread-safe; one a process. The thread begins with the first entry."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[Entry] = queue.Queue(MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, entry: Entry) -> None:
        """Have an entry written soon; returns at once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="audit-trail", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            _log_instead([entry], "too many wait to be written")

    def flush(self, timeout_seconds: float) -> None:
        """Wait until what was added is written, or the time is over."""
        waiter = threading.Thread(target=self._waiting.join, daemon=True)
        waiter.start()
        waiter.join(timeout_seconds)

    def _write(self) -> None:
        while True:
            entries = [self._waiting.get()]
            while len(entries) < AT_ONCE and not self._waiting.empty():
                entries.append(self._waiting.get())
            try:
                with self._database.write() as tx:
                    audit.insert(tx, entries)
            except Exception as error:  # noqa: BLE001 - whatever it is: the next entry may fare better
                _log_instead(entries, str(error))
            for _ in entries:
                self._waiting.task_done()


def entry_of(response: Response) -> Entry | None:
    """The entry for the present request; None for one that changes nothing, is passed over, or that no caller made.

    Refusals for want of a token are in the log alone: else anybody could fill the store.
    """
    action = g.rule.action if "rule" in g else None
    if g.get("caller") is None or action is None or request.method in {"GET", "HEAD", "OPTIONS"}:
        return None
    if g.get("passed_over"):
        return None
    named = request.view_args or {}
    in_address = named.get("task_id") or named.get("webhook_id") or named.get("name")
    subject = in_address or response.headers.get("Location", "").rpartition("/")[2]
    return entry(subject, response.status_code)


def entry(subject: str, status: int) -> Entry:
    """An entry of what the present request does to `subject`: for a request that changes more than it names."""
    who: Caller = g.caller
    return Entry(
        at=clock.now(),
        token=who.token_id,
        owner=who.owner,
        remote=g.peer.address,
        action=g.rule.action,
        subject=audit.plain(subject) or None,
        status=status,
        request_id=g.request_id,
    )


def pass_over() -> None:
    """Keep no entry of the present request: it only asks what would be."""
    g.passed_over = True


def _log_instead(entries: list[Entry], why: str) -> None:
    for one in entries:
        told = {key: str(value) for key, value in asdict(one).items()}
        log.warning("audit entry not stored", extra={"entry": told, "why": why})
