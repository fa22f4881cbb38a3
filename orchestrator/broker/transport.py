"""The embedded broker: kombu's file-system transport without the parts that lose messages or end the worker.

The stock one reads files that are still being written (and the worker then exits: kombu issue 1551), orders
by a number that is compared as text, moves taken messages through the system's temporary directory, polls.
URL: ``sandboxfs:///absolute/directory``; `register()` makes kombu know the scheme.
"""

# ruff: noqa: ARG002 (the methods' signatures are kombu's)

import json
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual

from orchestrator.broker.arrivals import FALLBACK_SECONDS, Arrivals
from orchestrator.broker.message_files import MessageFiles

SCHEME = "sandboxfs"


def register() -> None:
    """Make ``sandboxfs://`` a URL kombu and Celery understand. Safe to call again."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


class QoS(virtual.QoS):
    """Prefetch accounting that tells the waiting consumer when there is room again.

    While the prefetch window is full a queue is not asked, and the acknowledgement that frees a place comes
    from a pool thread and makes no file event: without this, waiting messages would sit until the next poll.
    """

    def ack(self, delivery_tag: str) -> None:
        """Free one place in the window. Any thread."""
        super().ack(delivery_tag)
        connection: Any = self.channel.connection
        if connection is not None:  # None once the channel is closed
            connection.wake()


class Channel(filesystem.Channel):
    """One kombu channel on the message files. Exchange types and their rules stay kombu's."""

    QoS = QoS
    connection: Any  # a `Transport`; kombu's type names its own base class

    def __init__(self, connection: "Transport", **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._files = MessageFiles(connection.directory)

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Begin to consume; gives back first what a consumer that died had taken."""
        self._open_queue(queue)
        return super().basic_consume(queue, *args, **kwargs)

    def reopen_queues(self, directories: list[Path]) -> None:
        """Make, bind and watch again those of this channel's queues whose directory was removed."""
        for queue in self._active_queues:
            if self._files.queue_directory(queue) in directories:
                self._open_queue(queue)

    def _open_queue(self, queue: str) -> None:
        self._files.make_queue(queue)
        for exchange, routing_key, arguments in self.state.queue_bindings(queue):
            meta = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
            self._queue_bind(exchange, *meta)  # type: ignore[call-arg]  # meta: routing key, pattern, queue
        self.connection.watch(self._files.queue_directory(queue))
        self._files.restore_taken(queue)

    def _put(self, queue: str, payload: dict[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        try:
            self._files.put(queue, json.dumps(payload).encode())
        except OSError as error:
            raise ChannelError(
                f"A message to queue {queue} was not published: {error}. Check the broker directory "
                f"{self.connection.directory} (does it exist, is the disk full?)."
            ) from error

    def _put_fanout(self, exchange: str, payload: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        for _key, _pattern, queue in self._files.bindings(exchange):
            self._put(queue, payload)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        while True:
            try:
                payload = self._files.take(queue)
            except FileNotFoundError:
                self._open_queue(queue)
                raise Empty from None
            except OSError as error:
                # No ChannelError: that would end the worker. A lost connection is waited for.
                raise OSError(
                    error.errno, f"Queue {queue} was not read: {error}. Check {self.connection.directory}."
                ) from error
            if payload is None:
                raise Empty
            message = self._decoded(queue, payload)
            if message is not None:
                return message

    def _decoded(self, queue: str, payload: bytes) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = json.loads(payload)
            self.Message(message, channel=self)
        except Exception as error:  # noqa: BLE001 (whatever kombu trips over here would end the worker later)
            self._files.reject(queue, payload, f"{type(error).__name__}: {error}")
            return None
        return message

    def _new_queue(self, queue: str, **_kwargs: Any) -> None:
        self._files.make_queue(queue)

    def _size(self, queue: str) -> int:
        return self._files.size(queue)

    def _purge(self, queue: str) -> int:
        return self._files.purge(queue)

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_args: Any, **_kw: Any) -> None:
        self._purge(queue)
        self._files.unbind(exchange, (routing_key or "", pattern or "", queue))

    def get_table(self, exchange: str) -> list[filesystem.exchange_queue_t]:  # type: ignore[override]
        """The bindings of `exchange`, those of other processes included."""
        return [filesystem.exchange_queue_t(*binding) for binding in self._files.bindings(exchange)]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        self._files.bind(exchange, (routing_key or "", pattern or "", queue))


class Transport(filesystem.Transport):
    """One connection to the broker directory.

    Publishing connections hold no descriptors; one that consumes holds an inotify and an eventfd.
    """

    Channel = Channel
    driver_type = SCHEME
    driver_name = SCHEME
    # An unreadable disk is a broker that is away for a while: the worker tries again instead of ending.
    connection_errors = (*filesystem.Transport.connection_errors, OSError)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # Stock connections share one state per process; a binding made in one directory would then be taken
        # as made in every other.
        self.state = virtual.BrokerState()
        self.directory = Path("/", client.virtual_host)
        self._arrivals: Arrivals | None = None
        self._delivering = True

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """Nothing: there is no host, and kombu would warn that it assumes one."""
        return {}

    def establish_connection(self) -> Any:
        """Open the directory. Raises `BrokerDirectoryRefused`, or `OSError` when it cannot be made."""
        MessageFiles(self.directory).prepare()
        return super().establish_connection()

    def verify_connection(self, connection: Any) -> bool:
        """Whether messages can be written and read at this moment."""
        return self.directory.is_dir()

    def watch(self, directory: Path) -> None:
        """Wake this connection's `drain_events` when a message arrives in `directory`."""
        if self._arrivals is None:
            self._arrivals = Arrivals()
        self._arrivals.watch(directory)

    def wake(self) -> None:
        """Make `drain_events` return at once, as if its time were over. Any thread, and signal handlers."""
        if self._arrivals is not None:
            self._arrivals.wake()

    def stop_delivering(self) -> None:
        """From now on `drain_events` delivers nothing and does not wait. Any thread, and signal handlers.

        Celery's loop drains once more after it has noticed that it must stop: that would cost two seconds, or
        begin a task.
        """
        self._delivering = False
        self.wake()

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver one message.

        Raises `TimeoutError` when none came within `timeout` seconds (None: for ever) or `wake` was called.
        """
        deadline = None if timeout is None else monotonic() + timeout
        cycle: Any = self.cycle
        while self._delivering:
            try:
                cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = FALLBACK_SECONDS if deadline is None else deadline - monotonic()
                if left <= 0 or self._wait(left):
                    raise TimeoutError from None
            else:
                return
        raise TimeoutError

    def close_connection(self, connection: Any) -> None:
        """Close all channels, which puts back what was delivered and not acknowledged."""
        super().close_connection(connection)
        arrivals, self._arrivals = self._arrivals, None
        if arrivals is not None:
            arrivals.close()

    def _wait(self, seconds: float) -> bool:
        if self._arrivals is None:
            self._arrivals = Arrivals()
        woken = self._arrivals.wait(seconds)
        lost = self._arrivals.take_lost()
        if lost:
            channels: list[Any] = self.channels or []
            for channel in channels:
                channel.reopen_queues(lost)
        return woken
