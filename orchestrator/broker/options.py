"""What each kind of broker needs to be told; pure functions of its URL."""

import ssl
from typing import Any
from urllib.parse import urlsplit

from orchestrator.broker.queues import MESSAGE_TTL_SECONDS

_EMBEDDED = ("sandboxfs",)
_AMQP = ("amqp", "amqps", "pyamqp")
_REDIS = ("redis", "rediss")

_ANSWER_SECONDS = 5
"""How long RabbitMQ may take to answer anything on an open connection."""

_MAX_MESSAGES = 10_000

_ONE_CONNECTION_ATTEMPT = {
    # Else kombu waits 2 s, 4 s, … between attempts inside a publish; a message that fails is rung again.
    "max_retries": 0,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}


def transport_options(url: str) -> dict[str, Any]:
    """Celery's `broker_transport_options` for `url`. Raises `ValueError` for an unsupported URL."""
    scheme = _scheme(url)
    if scheme in _AMQP:
        return {
            # Without confirmation a publish into a broker that is just dying counts as sent.
            "confirm_publish": True,
            # py-amqp waits for the answers to "open a channel", "declare" and "confirm" without a limit: on a
            # half-open connection for ever. Its own option, read_timeout, does not end that wait (it sets
            # SO_RCVTIMEO and then tries again on EAGAIN).
            "on_open": _limit_waits,
            **_ONE_CONNECTION_ATTEMPT,
        }
    if scheme in _REDIS:
        return {
            # Early acknowledgement makes redelivery rare; the shortest value of all apps on a broker wins.
            "visibility_timeout": 3600,
            # Without it a publish on a half-open connection waits for ever. Bounds what a sender waits, and
            # what a worker that was asked to end does; above the second its blocking read takes.
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            # A worker whose connection went silent without being closed takes another after
            # 1 s + 2 × this: 51 s.
            "health_check_interval": 25,
            # Fan-out messages of one database number stay inside it, and go only to workers that listen. We
            # send none; it keeps others' on the same server away from us.
            "fanout_prefix": True,
            "fanout_patterns": True,
            **_ONE_CONNECTION_ATTEMPT,
        }
    return {}


def broker_settings(url: str) -> dict[str, Any]:
    """Celery settings that only this kind of broker has. Raises `ValueError` as `transport_options` does."""
    scheme = _scheme(url)
    if scheme in _AMQP:
        # The default, 120 s, takes up to four minutes to see that a host has vanished.
        return {"broker_heartbeat": 30, "broker_use_ssl": _amqp_tls(scheme)}
    if scheme in _REDIS:
        return {
            # Takes nothing off the queue before a thread is free; only Redis has it, the others warn about it.
            "worker_disable_prefetch": True,
            # Its client looks at a pooled connection before using it, so a restarted server needs no second
            # attempt; after a timeout that attempt would cost the caller another 5 s.
            "task_publish_retry": False,
            # Without it kombu does not check the server's certificate.
            "broker_use_ssl": _redis_tls(scheme),
        }
    return {}


def queue_arguments(url: str) -> dict[str, int]:
    """Bounds of a worker's queue, for workers that never return. Raises `ValueError` as `transport_options` does.

    RabbitMQ refuses a worker whose queue exists with other arguments; who changes these renames the queue.
    """
    scheme = _scheme(url)
    if scheme in _EMBEDDED:
        return {}  # drops messages by their age
    # With an expiry kombu declares the queue at each publish, so none is sent to a queue that is gone.
    expires = {"x-expires": MESSAGE_TTL_SECONDS * 1000}
    if scheme in _REDIS:
        return expires  # the list goes so long after the last message; there is no bound per message
    return expires | {
        # Declaring a queue counts as using it: one that is rung for ever does not expire, its messages do.
        "x-message-ttl": MESSAGE_TTL_SECONDS * 1000,
        # The oldest makes room. Far above what one worker can have placed on it.
        "x-max-length": _MAX_MESSAGES,
    }


def _amqp_tls(scheme: str) -> dict[str, Any] | bool:
    if scheme != "amqps":
        return False
    # server_hostname None means the URL's host; left out, py-amqp accepts any valid certificate of any host.
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}


def _redis_tls(scheme: str) -> dict[str, Any] | bool:
    if scheme != "rediss":
        return False
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}


def _limit_waits(connection: Any) -> None:
    # Called by py-amqp when a connection is open. The worker's event loop reads without waiting, so this
    # limits what is asked and answered, not how long it may be idle.
    connection.transport.sock.settimeout(_ANSWER_SECONDS)


def _scheme(url: str) -> str:
    scheme, _, path, *_ = urlsplit(url)
    if scheme not in (*_EMBEDDED, *_AMQP, *_REDIS):
        raise ValueError(
            f"The broker URL was not accepted: its scheme {scheme!r} is not supported. Use amqp://, "
            "amqps://, redis:// or rediss://, or leave SANDBOX_BROKER_URL empty for the broker in the data "
            "directory."
        )
    if scheme in _EMBEDDED and not path.strip("/"):
        raise ValueError(
            f"The broker URL {url} was not accepted: it names no directory. Use sandboxfs:///absolute/directory."
        )
    if scheme not in _EMBEDDED:
        for one in url.split(";"):  # alternatives, tried in turn
            _check_port(one)
    return scheme


def _check_port(url: str) -> None:
    try:
        port_is_valid = urlsplit(url).port != 0
    except ValueError:  # its text holds what stands after the colon: a part of the password
        port_is_valid = False
    if not port_is_valid:
        raise ValueError(
            "The broker URL was not accepted: what follows the host and a colon is no port number. If the "
            "password holds one of / ? # @ : [ ] %, percent-encode it."
        )
