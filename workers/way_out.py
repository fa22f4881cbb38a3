"""The way out of a task's sandbox: opened before its gate, closed at its end, told of in its journal.

It has up to two doors: the proxy to the hosts that an `outbound` task names, and the relay to the model API for an
agent that needs one. Both belong to this process: when the worker dies, they are closed, and open tunnels are cut. A
worker that adopts the running sandbox opens them again.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import sqlalchemy as sa

from orchestrator.contacts import Traffic
from orchestrator.journal import StaleClaim
from orchestrator.manifest import Manifest
from orchestrator.store import contacts
from workers.attempt import Attempt
from workers.egress import EgressUnavailable, Listener, Policy, proxy
from workers.egress.namespace import ADDRESS, PROXY_PORT
from workers.holding import sandbox_of
from workers.model_api import relay
from workers.model_api.address import MODEL_PORT
from workers.sandbox.port import EngineUnavailable, SandboxError, SandboxGone

log = logging.getLogger(__name__)

OUTBOUND = "outbound"
FLUSH_SECONDS = 3.0
"""How old what is stored of a running sandbox's traffic may be."""
CALM_SECONDS = 0.2
"""Between two looks: a burst of denials goes into the log together."""
COUNTS_SECONDS = 60.0
REOPEN_SECONDS = 2.0
LOOK_SECONDS = 5.0
"""Between two questions to the engine whether the sidecar runs."""
PROXY = f"http://{ADDRESS[0]}:{ADDRESS[1]}"
NO_PROXY = "localhost,127.0.0.1,::1"


def proxy_environment(manifest: Manifest) -> dict[str, str]:
    """What tells programs of the way out. They help; the namespace enforces."""
    if manifest.vm.network_mode != OUTBOUND:
        return {}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), PROXY)
    return proxies | dict.fromkeys(("NO_PROXY", "no_proxy"), NO_PROXY)


def open_way_out(attempt: Attempt) -> None:
    """Open it in a sandbox that waits at its gate. Raises `EgressUnavailable`, `EngineUnavailable`."""
    if way_out := _with_its_undo(attempt):
        way_out.open()


def count_on(attempt: Attempt) -> None:
    """Take up the counting where a worker before us left it. Raises `StoreUnavailable`."""
    with attempt.equipment.product.database.read() as tx:
        found = contacts.of_task(tx, attempt.claim.task_id, attempt.claim.attempt)
        attempt.traffic.load(*contacts.bytes_of_attempt(tx, attempt.claim), found)


def reopen_way_out(attempt: Attempt) -> None:
    """Open it again in a sandbox that runs; what fails is tried again."""
    if way_out := _with_its_undo(attempt):
        way_out.keep_trying()


def _with_its_undo(attempt: Attempt) -> WayOut | None:
    """None where the sandbox has no way out."""
    doors = doors_of(attempt)
    if not doors:
        return None
    attempt.undo.callback(_abandon, attempt)
    attempt.way_out = WayOut(attempt, doors)
    return attempt.way_out


Door = Callable[[socket.socket], Listener]
"""Serves what comes in on a listening socket."""


def doors_of(attempt: Attempt) -> dict[int, Door]:
    """What the sandbox finds on its loopback, by port."""
    doors: dict[int, Door] = {}
    if attempt.manifest.vm.network_mode == OUTBOUND:
        doors[PROXY_PORT] = lambda server: proxy(server, policy_of(attempt), attempt.traffic)
    if attempt.agent.needs_model:
        access = attempt.equipment.model_access
        doors[MODEL_PORT] = lambda server: relay(server, access, attempt.meter)
    return doors


def close_way_out(attempt: Attempt) -> None:
    """Close it and store the last of what is known of it. Idempotent; harmless when there was none.

    Raises `StaleClaim`, and it is closed then too.
    """
    if attempt.way_out is not None:
        attempt.way_out.close()
        attempt.way_out = None
    _store(attempt, [])


def _abandon(attempt: Attempt) -> None:
    """Close it where nobody listens any more: an attempt that was given back may write nothing."""
    with suppress(StaleClaim):
        close_way_out(attempt)


def policy_of(attempt: Attempt) -> Policy:
    """Where the task's sandbox may connect to."""
    cidrs = attempt.equipment.product.settings.egress_private_cidrs
    return Policy.for_hosts(attempt.manifest.vm.allowed_hosts, cidrs, learning=attempt.profile.learn_egress)


class WayOut:
    """The listeners of one sandbox, and the thread that tells the journal of them."""

    def __init__(self, attempt: Attempt, doors: dict[int, Door]) -> None:
        self._attempt = attempt
        self._doors = doors
        self._entrance = attempt.entrance(sandbox_of(attempt), tuple(doors))
        self._where = "the network" if PROXY_PORT in doors else "the model API"
        attempt.traffic.learning = attempt.profile.learn_egress
        self._listeners: list[Listener] = []
        self._gone = False
        self._told_why = ""
        self._looked_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tell, name=f"way-out-{attempt.claim.task_id}", daemon=True)

    def open(self) -> None:
        """Raises `EgressUnavailable`, `EngineUnavailable`, `SandboxError`."""
        self._listeners = self._opened()
        self._thread.start()

    def keep_trying(self) -> None:
        """Open it in the thread that tells of it, again and again: a command may hold the port meanwhile."""
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._attempt.traffic.news.set()
        if self._thread.is_alive():
            self._thread.join()
        else:
            self._close_listeners()
        try:
            self._entrance.close()
        except (EngineUnavailable, SandboxError) as error:  # what belongs to no live attempt is removed later
            log.warning("sidecar not removed yet", extra={"task": self._attempt.claim.task_id, "error": str(error)})

    def _tell(self) -> None:
        task, failed, told = self._attempt.claim.task_id, "", ""
        try:
            while not self._closing.is_set():
                try:
                    if failed != told:
                        told = failed
                        self._attempt.say(f"the way to {self._where} was not looked after for a moment: {failed}")
                    self._until_closed()
                except StaleClaim:
                    raise
                except Exception as error:  # the way itself stands; nobody would open it again, or tell of it
                    log.exception("way out not looked after", extra={"task": task})
                    failed = f"{type(error).__name__}: {error}"
                    self._closing.wait(REOPEN_SECONDS)
        except StaleClaim:
            log.info("way out closed: another one has this attempt", extra={"task": task})
        finally:
            self._close_listeners()

    def _until_closed(self) -> None:
        traffic = self._attempt.traffic
        counts_due = time.monotonic() + COUNTS_SECONDS
        while not self._closing.is_set():
            self._look_after()
            traffic.news.wait(FLUSH_SECONDS if self._listeners else REOPEN_SECONDS)
            if self._closing.wait(CALM_SECONDS):
                break
            lines = traffic.take_lines()
            if time.monotonic() > counts_due:
                lines += traffic.take_counts()
                counts_due = time.monotonic() + COUNTS_SECONDS
            _store(self._attempt, lines)
        self._close_listeners()
        _store(self._attempt, traffic.take_lines() + traffic.take_counts())

    def _look_after(self) -> None:
        """Open what is not open, close and open what does not work any more, and say so once. Raises `StaleClaim`."""
        ended = self._ended()
        if ended:
            log.warning("way out ended", extra={"task": self._attempt.claim.task_id, "why": ended})
            self._close_listeners()
        if self._listeners or self._gone:
            return
        why = self._try_to_open()
        if why and why != self._told_why:
            because = f"{ended}; {why}" if ended else why
            self._attempt.say(f"the way to {self._where} is closed: {because}; it is tried again")
        elif ended and not why and not self._gone:
            self._attempt.say(f"the way to {self._where} was closed: {ended}; it is open again")
        elif self._told_why and not why:
            self._attempt.say(f"the way to {self._where} is open again")
        self._told_why = why

    def _ended(self) -> str:
        """Why the way that was opened leads nowhere any more, if so."""
        if not self._listeners:
            return ""
        for listener in self._listeners:
            if listener.fault is not None:
                return listener.fault
        if time.monotonic() >= self._looked_at + LOOK_SECONDS:
            self._looked_at = time.monotonic()
            with suppress(EngineUnavailable, SandboxError):  # an engine that does not answer says nothing of it
                if not self._entrance.stands():
                    return "its sidecar ended"
        return ""

    def _opened(self) -> list[Listener]:
        """Open all doors. Raises `EgressUnavailable`, `EngineUnavailable`, `SandboxError`."""
        servers = self._entrance.open()
        return [door(server) for door, server in zip(self._doors.values(), servers, strict=True)]

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _try_to_open(self) -> str:
        """Return what keeps it closed, if anything."""
        try:
            self._listeners = self._opened()
        except SandboxGone:  # its end is being told elsewhere
            self._gone = True
            return ""
        except (EgressUnavailable, EngineUnavailable, SandboxError) as error:
            return str(error)
        log.info("way out opened again", extra={"task": self._attempt.claim.task_id})
        return ""


def _store(attempt: Attempt, lines: list[str]) -> None:
    """Lines for the log, and what is known of the traffic, in one transaction. Raises `StaleClaim`."""
    traffic, used = attempt.traffic.take_traffic(), attempt.meter.take_changes()
    if traffic is None and used is None and not lines:
        return
    beside = partial(_save, attempt, traffic) if traffic is not None else None
    words = [attempt.words(line) for line in lines]
    attempt.equipment.writer.write(attempt.claim, words, beside=beside, **({"model_usage": used} if used else {}))


def _save(attempt: Attempt, traffic: Traffic, tx: sa.Connection) -> None:
    contacts.save(tx, attempt.claim, attempt.equipment.product.settings.worker_name, traffic)
