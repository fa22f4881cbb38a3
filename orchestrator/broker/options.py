"""What each kind of broker needs to be told; pure functions of its URL."""

from typing import Any
from urllib.parse import urlsplit

_EMBEDDED = ("sandboxfs",)
_AMQP = ("amqp", "amqps", "pyamqp")
_REDIS = ("redis", "rediss")


def transport_options(url: str) -> dict[str, Any]:
    """Celery's `broker_transport_options` for `url`. Raises `ValueError` for an unsupported scheme."""
    scheme = _scheme(url)
    if scheme in _AMQP:
        # Without confirmation a publish into a broker that is just dying counts as sent.
        return {"confirm_publish": True}
    if scheme in _REDIS:
        return {
            # Early acknowledgement makes redelivery rare; the shortest value of all apps on a broker wins.
            "visibility_timeout": 3600,
            # Without it a publish on a half-open connection waits for ever.
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            # Control messages of one database number stay inside it, and go only to workers that listen.
            "fanout_prefix": True,
            "fanout_patterns": True,
        }
    return {}


def broker_settings(url: str) -> dict[str, Any]:
    """Celery settings that only this kind of broker has. Raises `ValueError` as `transport_options` does."""
    scheme = _scheme(url)
    if scheme in _AMQP:
        # The default, 120 s, takes up to four minutes to see that a host has vanished.
        return {"broker_heartbeat": 30}
    if scheme in _REDIS:
        # Takes nothing off the queue before a thread is free; only Redis has it, the others warn about it.
        return {"worker_disable_prefetch": True}
    return {}


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
    return scheme
