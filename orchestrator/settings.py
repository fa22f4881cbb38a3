"""The only reader of the environment (contract §9). A bad value stops the start and names every error."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator import model_settings, secret_settings, web_names
from orchestrator.artifacts import UnusableArtifactsUrl, parse_location
from orchestrator.fault_points import Fault, parse
from orchestrator.profiles import Profile, load_profiles

MAX_RETENTION_DAYS = 36_500
STOPPING_SECONDS = 5.0
"""Added to half a lease: time for a keeper to kill sandboxes before another host may start a retry."""


class InvalidSettings(Exception):
    """One or more settings are not usable; the message lists each with what to do."""

    exit_code = 2

    def __init__(self, errors: list[str]) -> None:
        super().__init__("the settings are not usable:\n" + "\n".join(f"  - {error}" for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings in force. Sizes are bytes, times seconds; defaults are the contract's."""

    data_dir: Path
    store_url: str
    broker_url: str
    artifacts_url: str
    host: str = "127.0.0.1"
    port: int = 8122
    stream_port: int | None = 8121
    allow_open: bool = False
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    rate_limit_per_minute: int = 600
    tls_cert: Path | None = None
    tls_key: Path | None = None
    worker_name: str = "worker"
    concurrency: int = 4
    cpu_overcommit: float = 4.0
    memory_overcommit: float = 1.0
    disk_overcommit: float = 1.0
    heartbeat_seconds: float = 5.0
    lease_seconds: float = 30.0
    adopt_seconds: float = 900.0
    stop_after_seconds: float = 30.0
    file_repositories: bool | tuple[str, ...] = False
    file_repositories_named: bool = False
    egress_private_cidrs: tuple[str, ...] = ()
    webhook_private_cidrs: tuple[str, ...] = ()
    allow_full_network: bool = False
    full_network_dns: tuple[str, ...] = ()
    secrets_env_prefix: str = secret_settings.ENV_PREFIX
    secrets_env: tuple[str, ...] = ()
    secrets_dir: Path | None = None
    vault_url: str | None = None
    vault_mount: str = "secret"
    vault_token_file: Path | None = None
    ssh_known_hosts: Path = Path("/etc/ssh/ssh_known_hosts")
    registry_config: Path | None = None
    model_api_url: str = model_settings.URL
    model_api_key_file: Path | None = None
    model_api_auth: str = model_settings.X_API_KEY
    model_api_headers_file: Path | None = None
    model_api_ca_file: Path | None = None
    model_prices_file: Path | None = None
    log_max_bytes: int = 1 << 30
    artifact_max_bytes: int = 10 << 30
    artifact_max_count: int = 10_000
    retention_days: int = 30
    log_retention_days: int = 30
    artifact_retention_days: int = 30
    archive_after_seconds: float = 3600.0
    preserve_max_seconds: int = 604_800
    engine_log_driver: str = "json-file"
    stop_wait_seconds: float = 0.0
    disk_reap_percent: float = 10.0
    disk_stop_percent: float = 5.0
    disk_stop_bytes: int | None = None
    keeper_service: bool = False
    embedded: bool = False
    test_faults: tuple[Fault, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    @property
    def keeper_lease_seconds(self) -> float:
        """How long sandboxes run without a word from their worker.

        Half a lease longer than `stop_after_seconds`: a store that is away for that time costs nobody a sandbox.
        """
        return self.stop_after_seconds + self.lease_seconds / 2

    @property
    def takeover_seconds(self) -> float:
        """How long a worker must be silent before others may take over: its keeper has stopped everything by then."""
        return self.lease_seconds + self.stop_after_seconds + STOPPING_SECONDS

    @property
    def stopping_seconds(self) -> float:
        """What a keeper may need to stop sandboxes once their time is over."""
        return self.lease_seconds / 2 + STOPPING_SECONDS

    @property
    def is_local(self) -> bool:
        """The API listens on a loopback address: only this machine reaches it, and proxies on it."""
        return self.host in LOOPBACK

    @property
    def run_dir(self) -> Path:
        """Where sockets and process ids lie."""
        return self.data_dir / "run"

    @property
    def work_dir(self) -> Path:
        """Where the workspaces of attempts lie."""
        return self.data_dir / "work"


class _Reader:
    """Reads typed values from a mapping and collects every error."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.names: set[str] = set()
        self.errors: list[str] = []

    def text(self, name: str, default: str) -> str:
        self.names.add(name)
        return self._environment.get(name) or default

    def number(self, name: str, default: float, low: float, high: float) -> float:
        raw = self.text(name, "")
        if not raw:
            return default
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            self.errors.append(f"{name}={raw!r} is no number from {low:g} to {high:g}; correct it or unset it")
            return default
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if value != int(value):
            self.errors.append(f"{name}={value:g} is no whole number; correct it or unset it")
        return int(value)

    def flag(self, name: str) -> bool:
        raw = self.text(name, "0").lower()
        if raw not in {"0", "1", "true", "false"}:
            self.errors.append(f"{name}={raw!r} is neither 1 nor 0; correct it or unset it")
        return raw in {"1", "true"}

    def words(self, name: str, separator: str = ",") -> tuple[str, ...]:
        return tuple(part.strip() for part in self.text(name, "").split(separator) if part.strip())

    def path(self, name: str) -> Path | None:
        raw = self.text(name, "")
        if raw and not Path(raw).is_absolute():
            self.errors.append(f"{name}={raw!r} is no absolute path; write it from the root, beginning with /")
        return Path(raw) if raw else None

    def networks(self, name: str) -> tuple[str, ...]:
        found = self.words(name)
        for one in found:
            try:
                ipaddress.ip_network(one)
            except ValueError as error:
                self.errors.append(f"{name}: {one!r} is no network: {error}; write it like 10.1.0.0/16")
        return found

    def addresses(self, name: str) -> tuple[str, ...]:
        """IPv4 addresses; a sandbox has no IPv6 to ask others by."""
        found = self.words(name)
        for one in found:
            try:
                ipaddress.IPv4Address(one)
            except ValueError as error:
                self.errors.append(f"{name}: {one!r} is no IPv4 address: {error}; write it like 10.1.0.53")
        return found


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def load(environment: Mapping[str, str] | None = None, *, embedded: bool = False, **given: Any) -> Settings:
    """Return the settings in force: `given` (options) over the environment over the defaults.

    `embedded` selects the defaults of `sandbox up`. Raises `InvalidSettings` with every error at once.
    """
    read = _Reader(os.environ if environment is None else environment)
    chosen = {key: value for key, value in given.items() if value is not None}
    home = Path("~/.local/share/sandbox").expanduser()
    data_dir = Path(chosen.pop("data_dir", None) or read.text("SANDBOX_DATA_DIR", str(home))).expanduser().absolute()
    host = chosen.pop("host", None) or read.text("SANDBOX_HOST", "127.0.0.1")
    port = chosen.pop("port", None) or read.integer("SANDBOX_PORT", 8122, 1, 65535)
    embedded = embedded or read.flag("SANDBOX_EMBEDDED")
    lease = read.number("SANDBOX_LEASE_SECONDS", 30, 0.1, 86_400)
    wide = (2.0, 4.0) if embedded else (1.0, 1.0)
    retention_days = read.integer("SANDBOX_RETENTION_DAYS", 30, 0, MAX_RETENTION_DAYS)
    values: dict[str, Any] = {
        "data_dir": data_dir,
        "store_url": read.text("SANDBOX_STORE_URL", f"sqlite:///{data_dir}/store.db"),
        "broker_url": read.text("SANDBOX_BROKER_URL", f"sandboxfs://{quote(str(data_dir))}/broker"),
        "artifacts_url": read.text("SANDBOX_ARTIFACTS_URL", f"file://{quote(str(data_dir))}/artifacts"),
        "host": host,
        "port": port,
        "stream_port": _stream_port(read, port),
        "allow_open": read.flag("SANDBOX_ALLOW_OPEN"),
        "allowed_origins": read.words("SANDBOX_ALLOWED_ORIGINS"),
        "allowed_hosts": tuple(name.lower() for name in read.words("SANDBOX_ALLOWED_HOSTS")),
        "trusted_proxies": read.networks("SANDBOX_TRUSTED_PROXIES"),
        "rate_limit_per_minute": read.integer("SANDBOX_RATE_LIMIT_PER_MINUTE", 600, 0, 1_000_000),
        "tls_cert": read.path("SANDBOX_TLS_CERT"),
        "tls_key": read.path("SANDBOX_TLS_KEY"),
        "worker_name": read.text("SANDBOX_WORKER_NAME", socket.gethostname()),
        "concurrency": read.integer("SANDBOX_CONCURRENCY", 4, 1, 1000),
        "cpu_overcommit": read.number("SANDBOX_CPU_OVERCOMMIT", 4, 0.01, 1000),
        "memory_overcommit": read.number("SANDBOX_MEMORY_OVERCOMMIT", wide[0], 0.01, 1000),
        "disk_overcommit": read.number("SANDBOX_DISK_OVERCOMMIT", wide[1], 0.01, 1000),
        "heartbeat_seconds": read.number("SANDBOX_HEARTBEAT_SECONDS", 5, 0.05, 3600),
        "lease_seconds": lease,
        "adopt_seconds": read.number("SANDBOX_ADOPT_SECONDS", 900, 0, 604_800),
        "stop_after_seconds": read.number("SANDBOX_STOP_AFTER_SECONDS", lease, 0.1, 604_800),
        "file_repositories": _file_repositories(read, open_by_default=embedded and host in LOOPBACK),
        "file_repositories_named": bool(read.text("SANDBOX_FILE_REPOSITORIES", "")),
        "egress_private_cidrs": read.networks("SANDBOX_EGRESS_PRIVATE_CIDRS"),
        "webhook_private_cidrs": read.networks("SANDBOX_WEBHOOK_PRIVATE_CIDRS"),
        "allow_full_network": read.flag("SANDBOX_ALLOW_FULL_NETWORK"),
        "full_network_dns": read.addresses("SANDBOX_FULL_NETWORK_DNS"),
        "secrets_env_prefix": read.text("SANDBOX_SECRETS_ENV_PREFIX", secret_settings.ENV_PREFIX),
        "secrets_env": read.words("SANDBOX_SECRETS_ENV"),
        "secrets_dir": read.path("SANDBOX_SECRETS_DIR"),
        "vault_url": read.text("SANDBOX_VAULT_URL", "").rstrip("/") or None,
        "vault_mount": read.text("SANDBOX_VAULT_MOUNT", "secret"),
        "vault_token_file": read.path("SANDBOX_VAULT_TOKEN_FILE"),
        "ssh_known_hosts": read.path("SANDBOX_SSH_KNOWN_HOSTS") or Path("/etc/ssh/ssh_known_hosts"),
        "registry_config": read.path("SANDBOX_REGISTRY_CONFIG"),
        "model_api_url": read.text("SANDBOX_MODEL_API_URL", model_settings.URL).rstrip("/"),
        "model_api_key_file": read.path("SANDBOX_MODEL_API_KEY_FILE"),
        "model_api_auth": read.text("SANDBOX_MODEL_API_AUTH", model_settings.X_API_KEY).lower(),
        "model_api_headers_file": read.path("SANDBOX_MODEL_API_HEADERS_FILE"),
        "model_api_ca_file": read.path("SANDBOX_MODEL_API_CA_FILE"),
        "model_prices_file": read.path("SANDBOX_MODEL_PRICES_FILE"),
        "log_max_bytes": read.integer("SANDBOX_LOG_MAX_BYTES", 1 << 30, 1, 1 << 50),
        "artifact_max_bytes": read.integer("SANDBOX_ARTIFACT_MAX_BYTES", 10 << 30, 0, 1 << 50),
        "artifact_max_count": read.integer("SANDBOX_ARTIFACT_MAX_COUNT", 10_000, 0, 1_000_000),
        "retention_days": retention_days,
        "log_retention_days": _shorter_retention(read, "SANDBOX_LOG_RETENTION_DAYS", retention_days),
        "artifact_retention_days": _shorter_retention(read, "SANDBOX_ARTIFACT_RETENTION_DAYS", retention_days),
        "archive_after_seconds": read.number("SANDBOX_ARCHIVE_AFTER_SECONDS", 3600, 0, 3_153_600_000),
        "preserve_max_seconds": read.integer("SANDBOX_PRESERVE_MAX_SECONDS", 604_800, 0, 3_153_600_000),
        "stop_wait_seconds": read.number("SANDBOX_STOP_WAIT_SECONDS", 0, 0, 604_800),
        "disk_reap_percent": read.number("SANDBOX_DISK_REAP_PERCENT", 10, 0, 99),
        "disk_stop_percent": read.number("SANDBOX_DISK_STOP_PERCENT", 5, 0, 98),
        "disk_stop_bytes": _given(read, "SANDBOX_DISK_STOP_BYTES", 1 << 50),
        "engine_log_driver": read.text("SANDBOX_ENGINE_LOG_DRIVER", "json-file"),
        "keeper_service": read.flag("SANDBOX_KEEPER_SERVICE"),
        "embedded": embedded,
        "test_faults": _test_faults(read),
        "profiles": load_profiles(read.text("SANDBOX_PROFILES", ""), read.errors),
    }
    values.update(chosen)
    read.errors += secret_settings.faults(values, read.names)
    read.errors += model_settings.faults(values)
    read.errors += web_names.host_faults("SANDBOX_ALLOWED_HOSTS", values["allowed_hosts"])
    read.errors += web_names.origin_faults("SANDBOX_ALLOWED_ORIGINS", values["allowed_origins"])
    try:
        parse_location(values["artifacts_url"])
    except UnusableArtifactsUrl as error:
        read.errors.append(str(error))
    if values["engine_log_driver"] not in {"json-file", "none"}:
        # `local` loses data on rotation and is not byte-exact (core-path.md §0, finding 2).
        read.errors.append("SANDBOX_ENGINE_LOG_DRIVER takes json-file (recoverable) or none (faster)")
    if values["heartbeat_seconds"] >= values["lease_seconds"]:
        read.errors.append(
            f"SANDBOX_HEARTBEAT_SECONDS={values['heartbeat_seconds']:g} is not below SANDBOX_LEASE_SECONDS="
            f"{values['lease_seconds']:g}: every worker would be lost between two heartbeats; make the lease longer"
        )
    if values["disk_stop_percent"] > values["disk_reap_percent"]:
        read.errors.append(
            f"SANDBOX_DISK_STOP_PERCENT={values['disk_stop_percent']:g} is above SANDBOX_DISK_REAP_PERCENT="
            f"{values['disk_reap_percent']:g}: no task would be taken before preserved sandboxes make room; lower it"
        )
    if (values["tls_cert"] is None) != (values["tls_key"] is None):
        read.errors.append(
            "SANDBOX_TLS_CERT and SANDBOX_TLS_KEY belong together, and one of them is not set: set both, or none for "
            "plain HTTP"
        )
    if read.errors:
        raise InvalidSettings(read.errors)
    return Settings(**values)


def secret_variable(settings: Settings, key: str, environment: Mapping[str, str] | None = None) -> bytes | None:
    """Return the value that `source: env` reads for `key`, or None: the prefixed variable, then the listed one.

    Looked up at each use and in no field of `Settings`: whatever prints the settings cannot print it.
    """
    found = os.environ if environment is None else environment
    value = found.get(settings.secrets_env_prefix + key)
    if value is None and key in settings.secrets_env:
        value = found.get(key)
    return None if value is None else os.fsencode(value)


def _shorter_retention(read: _Reader, name: str, retention_days: int) -> int:
    """Days of logs or artifacts; those of a task go with it, so they cannot be kept longer. 0: for ever."""
    days = read.integer(name, retention_days, 0, MAX_RETENTION_DAYS)
    if retention_days and not 0 < days <= retention_days:
        longer = f"{days} days" if days else "for ever (0)"
        read.errors.append(
            f"{name} keeps {longer} what SANDBOX_RETENTION_DAYS removes with its task after {retention_days} days; "
            "lower the first or raise the second"
        )
    return days


def _given(read: _Reader, name: str, high: int) -> int | None:
    """A whole number from 0, or None where the default is no number of its own."""
    return read.integer(name, 0, 0, high) if read.text(name, "") else None


def _stream_port(read: _Reader, port: int) -> int | None:
    """8121 beside 8122, else none unless asked for (contract, preamble)."""
    asked = read.integer("SANDBOX_STREAM_PORT", 8121 if port == 8122 else 0, 0, 65535)
    return asked or None


def _test_faults(read: _Reader) -> tuple[Fault, ...]:
    try:
        return parse(read.text("SANDBOX_TEST_FAULTS", ""))
    except ValueError as error:
        read.errors.append(f"SANDBOX_TEST_FAULTS: {error}; it is for the product's own tests: unset it")
        return ()


def _file_repositories(read: _Reader, *, open_by_default: bool) -> bool | tuple[str, ...]:
    raw = read.text("SANDBOX_FILE_REPOSITORIES", "true" if open_by_default else "false")
    if raw.lower() in {"true", "false"}:
        return raw.lower() == "true"
    directories = [part for part in raw.split(":") if part]
    for part in directories:
        if not Path(part).is_absolute():
            read.errors.append(
                f"SANDBOX_FILE_REPOSITORIES holds {part!r}: it takes true, false or absolute directories; correct it"
            )
    return tuple(os.path.realpath(part) for part in directories)
