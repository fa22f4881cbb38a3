"""The settings in force: contract §9, and every error at once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orchestrator.settings import InvalidSettings, Settings, load

DATA = "/srv/sandbox data"


def loaded(**environment: str) -> Settings:
    return load({"SANDBOX_DATA_DIR": DATA, **environment})


def loaded_by_up(**environment: str) -> Settings:
    return load({"SANDBOX_DATA_DIR": DATA, **environment}, embedded=True)


def errors(**environment: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        loaded(**environment)
    return caught.value.errors


def test_the_defaults_are_the_contracts() -> None:
    found = loaded()
    assert (found.host, found.port, found.stream_port) == ("127.0.0.1", 8122, 8121)
    assert found.worker_name == socket.gethostname()
    assert found.concurrency == 4
    assert (found.cpu_overcommit, found.memory_overcommit, found.disk_overcommit) == (4, 1, 1)
    assert (found.heartbeat_seconds, found.lease_seconds) == (5, 30)
    assert (found.adopt_seconds, found.stop_after_seconds) == (900, 30)
    assert found.file_repositories is False
    assert (found.log_max_bytes, found.artifact_max_bytes, found.artifact_max_count) == (1 << 30, 10 << 30, 10_000)
    assert (found.retention_days, found.log_retention_days, found.artifact_retention_days) == (30, 30, 30)
    assert (found.archive_after_seconds, found.preserve_max_seconds) == (3600, 604_800)
    assert (found.allowed_origins, found.egress_private_cidrs, found.webhook_private_cidrs) == ((), (), ())
    assert set(found.profiles) == {"agentic-dev", "basic"}


def test_the_defaults_of_up_differ_where_the_contract_says_so() -> None:
    found = loaded_by_up()
    assert (found.cpu_overcommit, found.memory_overcommit, found.disk_overcommit) == (4, 2, 4)
    assert found.file_repositories is True
    assert loaded(SANDBOX_EMBEDDED="1") == found  # what `up` hands to the processes it starts


def test_up_on_an_open_address_trusts_no_file_repository() -> None:
    assert loaded_by_up(SANDBOX_HOST="192.0.2.1", SANDBOX_ALLOW_OPEN="1").file_repositories is False


def test_the_data_directory_is_the_users_own_and_everything_lies_in_it() -> None:
    home = load({}).data_dir
    assert home == Path("~/.local/share/sandbox").expanduser()
    found = loaded()
    assert found.store_url == f"sqlite:///{DATA}/store.db"
    assert found.artifacts_url == "file:///srv/sandbox%20data/artifacts"
    assert found.broker_url == "sandboxfs:///srv/sandbox%20data/broker"
    assert found.run_dir == Path(DATA) / "run"


def test_a_lease_is_also_the_time_after_which_the_keeper_stops_sandboxes() -> None:
    assert loaded(SANDBOX_LEASE_SECONDS="90").stop_after_seconds == 90
    assert loaded(SANDBOX_LEASE_SECONDS="90", SANDBOX_STOP_AFTER_SECONDS="7").stop_after_seconds == 7


def test_an_option_wins_over_the_environment_over_the_default() -> None:
    environment = {"SANDBOX_DATA_DIR": DATA, "SANDBOX_PORT": "9000", "SANDBOX_CONCURRENCY": "2"}
    found = load(environment, port=9001, concurrency=None)
    assert (found.port, found.concurrency) == (9001, 2)


@pytest.mark.parametrize(
    ("environment", "stream_port"),
    [
        ({"SANDBOX_PORT": "8122"}, 8121),
        ({"SANDBOX_PORT": "9000"}, None),
        ({"SANDBOX_PORT": "9000", "SANDBOX_STREAM_PORT": "9001"}, 9001),
        ({"SANDBOX_STREAM_PORT": "0"}, None),
    ],
)
def test_the_stream_port_is_8121_beside_8122_and_else_none_unless_asked_for(
    environment: dict[str, str], stream_port: int | None
) -> None:
    assert loaded(**environment).stream_port == stream_port


def test_every_error_is_named_at_once_with_the_variable_and_its_value() -> None:
    found = errors(
        SANDBOX_PORT="70000",
        SANDBOX_CONCURRENCY="many",
        SANDBOX_RETENTION_DAYS="1.5",
        SANDBOX_ALLOW_OPEN="perhaps",
        SANDBOX_CPU_OVERCOMMIT="nan",
        SANDBOX_ENGINE_LOG_DRIVER="local",
        SANDBOX_FILE_REPOSITORIES="repositories",
        SANDBOX_PROFILES="/nowhere/profiles.yaml",
    )
    for variable in (
        "SANDBOX_PORT='70000'", "SANDBOX_CONCURRENCY='many'", "SANDBOX_RETENTION_DAYS=1.5",
        "SANDBOX_ALLOW_OPEN='perhaps'", "SANDBOX_CPU_OVERCOMMIT='nan'", "SANDBOX_ENGINE_LOG_DRIVER",
        "SANDBOX_FILE_REPOSITORIES holds 'repositories'", "SANDBOX_PROFILES=/nowhere/profiles.yaml",
    ):  # fmt: skip
        assert sum(variable in error for error in found) == 1, (variable, found)
    assert len(found) == 8


def test_the_message_lists_every_error() -> None:
    with pytest.raises(InvalidSettings, match=r"(?s)- SANDBOX_PORT='x'.*- SANDBOX_CONCURRENCY='0'") as caught:
        loaded(SANDBOX_PORT="x", SANDBOX_CONCURRENCY="0")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["", "inf", "-1", "1e400", "0x10", "٣x"])
def test_a_number_out_of_its_range_is_refused_and_an_empty_one_is_unset(value: str) -> None:
    if value == "":
        assert loaded(SANDBOX_CONCURRENCY=value).concurrency == 4
    else:
        assert len(errors(SANDBOX_CONCURRENCY=value)) == 1


def test_a_lease_that_a_heartbeat_cannot_keep_is_refused() -> None:
    (error,) = errors(SANDBOX_HEARTBEAT_SECONDS="30", SANDBOX_LEASE_SECONDS="10")
    assert "make the lease longer" in error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.test"])  # noqa: S104 - what is tested
def test_a_host_that_is_not_loopback_is_not_local(host: str) -> None:
    """Whether it may be served is the store's to say: `services.tokens.check_host`."""
    assert not loaded(SANDBOX_HOST=host).is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_is_local(host: str) -> None:
    assert load({"SANDBOX_DATA_DIR": DATA}, host=host).is_local


def test_access_is_set_by_its_variables() -> None:
    found = loaded(
        SANDBOX_RATE_LIMIT_PER_MINUTE="0",
        SANDBOX_ALLOWED_HOSTS="Builds.example.org, other.example.org",
        SANDBOX_TRUSTED_PROXIES="10.0.0.0/8,::1/128",
        SANDBOX_TLS_CERT="/c.pem",
        SANDBOX_TLS_KEY="/k.pem",
    )
    assert found.rate_limit_per_minute == 0
    assert found.allowed_hosts == ("builds.example.org", "other.example.org")
    assert found.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert (found.tls_cert, found.tls_key) == (Path("/c.pem"), Path("/k.pem"))
    assert loaded().rate_limit_per_minute == 600


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("builds:443", "builds"), ("https://Builds.example.org/x", "builds.example.org"), ("a.org.", "a.org"),
        ("[::1]", "::1"), ("*", "builds.example.org"), ("*.a.org", "builds.example.org"), ("[", "builds.example.org"),
    ],
)  # fmt: skip
def test_an_allowed_host_that_no_request_would_match_is_refused_with_the_right_spelling(given: str, right: str) -> None:
    (error,) = errors(SANDBOX_ALLOWED_HOSTS=f"api,{given}")
    assert error.startswith(f"SANDBOX_ALLOWED_HOSTS: {given.lower()!r} is no host name")
    assert error.endswith(f"; write {right}")


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("https://x.org/", "https://x.org"), ("HTTPS://X.org:8443", "https://x.org:8443"), ("x.org", "https://x.org"),
        ("https://x.org:443", "https://x.org"), ("http://[::1]:80/", "http://[::1]"),
        ("*", "https://console.example.org"), ("null", "https://console.example.org"),
        ("https://x.org:y", "https://console.example.org"),
    ],
)  # fmt: skip
def test_an_allowed_origin_that_no_browser_sends_is_refused_with_the_right_spelling(given: str, right: str) -> None:
    (error,) = errors(SANDBOX_ALLOWED_ORIGINS=f"https://a.test,{given}")
    assert error.startswith(f"SANDBOX_ALLOWED_ORIGINS: {given!r} is no origin")
    assert error.endswith(f"; write {right}")


def test_names_addresses_and_origins_as_requests_hold_them_are_taken() -> None:
    hosts, origins = "api,my_api,10.0.0.1,::1,xn--bcher-kva.example", "http://localhost:3000,http://[::1]:8080"
    found = loaded(SANDBOX_ALLOWED_HOSTS=hosts, SANDBOX_ALLOWED_ORIGINS=origins)
    assert ",".join(found.allowed_hosts) == hosts
    assert ",".join(found.allowed_origins) == origins


def test_a_certificate_without_its_key_is_refused_and_so_is_a_proxy_that_is_no_network() -> None:
    for lone in ("SANDBOX_TLS_CERT", "SANDBOX_TLS_KEY"):
        (error,) = errors(**{lone: "/x.pem"})
        assert "SANDBOX_TLS_CERT and SANDBOX_TLS_KEY belong together" in error
    (error,) = errors(SANDBOX_TRUSTED_PROXIES="proxy.example.org")
    assert "SANDBOX_TRUSTED_PROXIES" in error


def test_directories_of_file_repositories_are_stored_without_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    assert loaded(SANDBOX_FILE_REPOSITORIES=f"{link}:{tmp_path}").file_repositories == (str(real), str(tmp_path))
    assert loaded(SANDBOX_FILE_REPOSITORIES="TRUE").file_repositories is True


def test_lists_are_split_at_commas_and_trimmed() -> None:
    found = loaded(
        SANDBOX_ALLOWED_ORIGINS=" https://a.test , https://b.test,", SANDBOX_EGRESS_PRIVATE_CIDRS="10.0.0.0/8"
    )
    assert found.allowed_origins == ("https://a.test", "https://b.test")
    assert found.egress_private_cidrs == ("10.0.0.0/8",)


def test_a_private_range_that_is_no_network_stops_the_start() -> None:
    with pytest.raises(InvalidSettings, match=r"10\.0\.0\.1/8"):
        load({"SANDBOX_EGRESS_PRIVATE_CIDRS": "192.168.0.0/16, 10.0.0.1/8"})


def test_logs_and_artifacts_are_kept_as_long_as_their_task_unless_told_otherwise() -> None:
    found = loaded(SANDBOX_RETENTION_DAYS="7", SANDBOX_LOG_RETENTION_DAYS="2")
    assert (found.log_retention_days, found.artifact_retention_days) == (2, 7)
    found = loaded(SANDBOX_RETENTION_DAYS="0", SANDBOX_ARTIFACT_RETENTION_DAYS="90")
    assert (found.log_retention_days, found.artifact_retention_days) == (0, 90)


@pytest.mark.parametrize(("days", "told"), [("31", "keeps 31 days"), ("0", "keeps for ever (0)")])
def test_what_goes_with_its_task_cannot_be_kept_longer(days: str, told: str) -> None:
    (error,) = errors(SANDBOX_LOG_RETENTION_DAYS=days)
    assert error.startswith(f"SANDBOX_LOG_RETENTION_DAYS {told} what SANDBOX_RETENTION_DAYS removes")
    assert error.endswith("lower the first or raise the second")


def test_the_full_network_is_off_unless_the_operator_turns_it_on(tmp_path: Path) -> None:
    assert load({}, data_dir=tmp_path).allow_full_network is False
    found = load(
        {"SANDBOX_ALLOW_FULL_NETWORK": "1", "SANDBOX_FULL_NETWORK_DNS": "10.0.0.53, 9.9.9.9"}, data_dir=tmp_path
    )
    assert (found.allow_full_network, found.full_network_dns) == (True, ("10.0.0.53", "9.9.9.9"))


@pytest.mark.parametrize("address", ["dns.example", "fd00::53", "10.0.0.0/8", "10.0.0.53:53"])
def test_a_name_server_that_no_sandbox_could_ask_is_refused_at_the_start(tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidSettings, match="SANDBOX_FULL_NETWORK_DNS"):
        load({"SANDBOX_FULL_NETWORK_DNS": address}, data_dir=tmp_path)
