"""The checks of `sandbox doctor` on what a machine says of itself: read from tables, decided without it."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.access import Scope
from orchestrator.profiles import Profile
from orchestrator.services import tokens
from orchestrator.settings import Settings, load
from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate
from tests.servers.vault import TOKEN, Vault, running_vault
from workers.checkup import engine, machine, profiles, secret_sources, servers, sockets
from workers.checkup.mounts import Mount, mounts
from workers.finding import Level

MOUNT_INFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /srv/a\\040b rw,nosuid shared:5 master:2 - nfs4 host:/export rw,vers=4.2
31 22 254:1 / /var/lib/docker rw - xfs /dev/vdb rw,attr2,pquota
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   108        0 2071 1
   1: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   108        0 2072 1
   2: 0A01A8C0:C350 0101A8C0:0050 01 00000000:00000000 00:00000000 00000000     0        0 2073 1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:1628 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1 1
   1: 0000000000000000FFFF00000100007F:1629 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1 1
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({}, data_dir=tmp_path)


def test_mounts_are_read_with_their_kind_and_options() -> None:
    root, network, disk = mounts(MOUNT_INFO)
    assert root == Mount("/", "ext4", frozenset({"rw"}))
    assert (network.point, network.kind) == ("/srv/a b", "nfs4")
    assert "pquota" in disk.options


def test_listeners_are_read_in_both_tables_and_connections_are_not() -> None:
    assert sockets.listeners_in(TCP) == [
        (ipaddress.ip_address("127.0.0.1"), 5432),
        (ipaddress.IPv4Address(0), 6379),
    ]
    assert sockets.listeners_in(TCP6) == [
        (ipaddress.ip_address("::1"), 5672),
        (ipaddress.ip_address("127.0.0.1"), 5673),
    ]


def test_a_server_of_this_machine_that_is_open_to_the_network_is_noted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "listeners", lambda: sockets.listeners_in(TCP))
    urls = {"SANDBOX_STORE_URL": "postgresql://localhost/s", "SANDBOX_BROKER_URL": "redis://127.0.0.1/0"}
    found = list(sockets.listening(load(urls, data_dir=settings.data_dir)))
    assert [(one.level, one.subject) for one in found] == [(Level.OK, "api"), (Level.NOTE, "broker port")]
    elsewhere = load({"SANDBOX_BROKER_URL": "redis://192.0.2.1/0"}, data_dir=settings.data_dir)
    assert [one.subject for one in sockets.listening(elsewhere)] == ["api"]


def test_an_api_that_others_reach_is_noted_until_it_has_a_token_and_tls(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "listeners", list)
    wide = replace(settings, host="0.0.0.0", allow_open=True)  # noqa: S104 - what is tested
    (found,) = sockets.listening(wide)
    assert (found.level, "without an access token" in found.seen) == (Level.PROBLEM, True)
    database = Database(settings.store_url)
    migrate(database)
    tokens.create(database, name="n", owner="o", scopes=[Scope.ADMIN])
    database.close()
    (found,) = sockets.listening(wide)
    assert (found.level, "in clear" in found.seen) == (Level.NOTE, True)
    (found,) = sockets.listening(replace(wide, tls_cert=Path("/c.pem"), tls_key=Path("/k.pem")))
    assert found.level is Level.OK


@pytest.mark.parametrize("port", [8122, 8121])
def test_an_api_is_judged_by_what_listens_and_not_by_doctor_s_own_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setattr(sockets, "listeners", lambda: [(ipaddress.ip_address("0.0.0.0"), port)])  # noqa: S104
    assert settings.is_local
    (found,) = sockets.listening(settings)
    assert (found.level, f"port {port} of this machine is open" in found.seen) == (Level.PROBLEM, True)
    assert "without an access token" in found.seen
    database = Database(settings.store_url)
    migrate(database)
    tokens.create(database, name="n", owner="o", scopes=[Scope.ADMIN])
    database.close()
    (found,) = sockets.listening(settings)
    assert (found.level, "in clear" in found.seen) == (Level.NOTE, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_loopback_is_not_the_network(settings: Settings, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(sockets, "listeners", lambda: [(ipaddress.ip_address(host), 6379)])
    here = load({"SANDBOX_BROKER_URL": "redis://127.0.0.1/0"}, data_dir=settings.data_dir)
    assert [one.subject for one in sockets.listening(here)] == ["api"]


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"maxmemory_policy": "noeviction", "maxmemory": 0}, Level.OK),
        ({"maxmemory_policy": "volatile-lru", "maxmemory": 0}, Level.NOTE),
        ({"maxmemory_policy": "volatile-lru", "maxmemory": 1 << 20}, Level.PROBLEM),
        ({}, Level.OK),
    ],
)
def test_a_redis_that_may_throw_messages_away_is_told(info: dict[str, Any], level: Level) -> None:
    [found] = servers.redis_findings({"redis_version": "7.0.15", **info})
    assert found.level is level
    assert "7.0.15" in found.seen
    assert bool(found.advice) is (level is not Level.OK)


@pytest.mark.parametrize(
    ("version", "level"), [("3.7.28", Level.NOTE), ("3.8.0", Level.OK), ("3.13.7", Level.OK), ("4.0.1", Level.OK)]
)
def test_a_rabbitmq_nobody_tried_is_noted(version: str, level: Level) -> None:
    found = servers.rabbitmq_finding({"product": "RabbitMQ", "version": version})
    assert (found.level, version in found.seen) == (level, True)
    assert servers.rabbitmq_finding({}).level is Level.OK


@pytest.mark.parametrize(("percent", "level"), [(50, Level.OK), (7, Level.NOTE), (2, Level.PROBLEM)])
def test_free_space_is_held_against_the_worker_s_own_marks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, percent: int, level: Level
) -> None:
    usage = type(shutil.disk_usage("/"))(100 << 30, (100 - percent) << 30, percent << 30)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    [found] = machine.disk(settings)
    assert (found.level, f"({percent} %)" in found.seen) == (level, True)


def test_to_look_at_a_directory_that_is_not_there_looks_at_the_one_above(tmp_path: Path) -> None:
    assert machine.nearest(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "file").touch()
    assert machine.nearest(tmp_path / "file" / "b") == tmp_path


def test_a_keeper_that_does_not_answer_is_a_problem_only_while_its_worker_runs(settings: Settings) -> None:
    [found] = machine.keeper(settings)
    assert (found.level, "does not run here now" in found.seen) == (Level.OK, True)
    settings.run_dir.mkdir()
    lock = os.open(settings.run_dir / f"worker-{settings.worker_name}.lock", os.O_CREAT | os.O_RDWR)
    try:
        assert next(machine.keeper(settings)).level is Level.OK
        fcntl.flock(lock, fcntl.LOCK_EX)
        [found] = machine.keeper(settings)
    finally:
        os.close(lock)
    assert found.level is Level.PROBLEM
    assert "no keeper listens" in found.seen


def test_a_keeper_that_is_a_service_must_answer(tmp_path: Path) -> None:
    [found] = machine.keeper(load({"SANDBOX_KEEPER_SERVICE": "1"}, data_dir=tmp_path))
    assert found.level is Level.PROBLEM
    assert "start the keeper's service" in str(found.advice)


@pytest.mark.parametrize(
    ("state", "level", "word"), [(0, Level.OK, "right"), (5, Level.NOTE, "chrony"), (-1, Level.OK, "cannot be seen")]
)
def test_a_clock_that_nothing_keeps_right_is_noted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, state: int, level: Level, word: str
) -> None:
    monkeypatch.setattr(machine, "_clock_state", lambda: state)
    [found] = machine.clock(settings)
    assert (found.level, word in f"{found.seen} {found.advice}") == (level, True)


class Engine:
    """An engine that answers what a test says."""

    def __init__(self, **info: Any) -> None:
        self._info = info

    def info(self) -> dict[str, Any]:
        return self._info


EngineCheck = Callable[..., Any]
REMAPPED = {"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/200000.200000"}


@pytest.mark.parametrize(
    ("check", "infos"),
    [
        (engine.restarts, ({"LiveRestoreEnabled": True}, {"LiveRestoreEnabled": False})),
        (
            engine.user_ids,
            ({"SecurityOptions": ["name=userns"], "DockerRootDir": "/d/7.7"}, {"SecurityOptions": ["name=seccomp"]}),
        ),
        (engine.logs, ({"LoggingDriver": "journald"}, {"LoggingDriver": "json-file"})),
        (engine.swap, ({"SwapLimit": True}, {"SwapLimit": False})),
    ],
)
def test_what_the_engine_does_not_do_is_noted_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, check: EngineCheck, infos: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    settings, (good, bad) = load({}, data_dir=tmp_path), infos
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nSwapTotal:     2048 kB\n")
    monkeypatch.setattr(engine, "MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(engine, "CONFIGURATION", tmp_path / "daemon.json")
    assert [one.level for one in check(Engine(**good), settings)] == [Level.OK]
    [found] = check(Engine(**bad), settings)
    assert found.level is Level.NOTE
    assert found.advice


def test_a_log_size_in_the_engine_s_configuration_is_enough(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "CONFIGURATION", tmp_path / "daemon.json")
    for text, level in (('{"log-opts": {"max-size": "10m"}}', Level.OK), ("{", Level.NOTE), ("[]", Level.NOTE)):
        (tmp_path / "daemon.json").write_text(text)
        [found] = engine.logs(Engine(LoggingDriver="json-file"), settings)  # type: ignore[arg-type]
        assert found.level is level


def test_without_swap_nothing_has_to_be_accounted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text("SwapTotal:        0 kB\n")
    monkeypatch.setattr(engine, "MEMORY_INFO", tmp_path / "meminfo")
    [found] = engine.swap(Engine(SwapLimit=False), settings)  # type: ignore[arg-type]
    assert found.level is Level.OK


def test_a_runtime_that_the_engine_lacks_or_holds_to_no_limit_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "profiles.yaml").write_text("strict: {image: 'sandbox/basic:latest', runtime: runsc}\n")
    wanting = load({"SANDBOX_PROFILES": str(tmp_path / "profiles.yaml")}, data_dir=tmp_path)
    assert isinstance(wanting.profiles["strict"], Profile)

    def found(**runtimes: Any) -> list[Any]:
        return list(profiles.runtimes(Engine(Runtimes=runtimes), wanting))  # type: ignore[arg-type]

    lacking = found(runc={"path": "runc"})
    assert [one.level for one in lacking] == [Level.OK, Level.PROBLEM]
    assert "does not know the runtime runsc" in lacking[1].seen
    assert lacking[1].advice.startswith('name it under "runtimes"')
    boundless = found(runsc={"path": "/usr/bin/runsc", "runtimeArgs": ["--network=host", "--ignore-cgroups"]})
    assert [one.level for one in boundless] == [Level.OK, Level.PROBLEM]
    own_network = found(runsc={"path": "/usr/bin/runsc", "runtimeArgs": ["--platform=ptrace"]})
    assert [one.level for one in own_network] == [Level.OK, Level.NOTE]
    good = found(runsc={"path": "/usr/bin/runsc", "runtimeArgs": ["--network=host"]})
    assert [one.level for one in good] == [Level.OK]
    assert "runsc is there" in good[0].seen


@pytest.mark.parametrize(
    ("mode", "text", "level"),
    [
        (0o600, '{"auths": {"r.example": {"auth": "dTpw"}}}', Level.OK),
        (0o644, '{"auths": {}}', Level.NOTE),
        (0o600, "{", Level.PROBLEM),
    ],
)
def test_credentials_for_registries_are_looked_at_and_not_shown(
    tmp_path: Path, mode: int, text: str, level: Level
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    path.chmod(mode)
    settings = load({"SANDBOX_REGISTRY_CONFIG": str(path)}, data_dir=tmp_path)
    [found] = profiles.registries(Engine(), settings)  # type: ignore[arg-type]
    assert found.level is level
    assert "dTpw" not in found.seen


def test_sources_of_secrets_that_cannot_be_read_are_problems(settings: Settings, tmp_path: Path) -> None:
    gone, url = tmp_path / "gone", "http://127.0.0.1:1"
    wrong = replace(settings, secrets_dir=gone, vault_url=url, vault_token_file=gone)
    variables, *found = secret_sources.sources(wrong)
    assert (variables.level, "SANDBOX_SECRET_" in variables.seen) == (Level.OK, True)
    assert [one.level for one in found] == [Level.PROBLEM, Level.PROBLEM]
    directory, token = tmp_path / "secrets", tmp_path / "token"
    directory.mkdir()
    directory.chmod(0o755)
    token.write_text("\n")
    open_ = replace(settings, secrets_dir=directory, vault_url=url, vault_token_file=token)
    assert [one.level for one in secret_sources.sources(open_)][1:] == [Level.NOTE, Level.PROBLEM]
    directory.chmod(0o700)
    assert [one.level for one in secret_sources.sources(open_)][1:] == [Level.OK, Level.PROBLEM]


def test_vault_is_asked_once_whether_it_takes_the_token(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    with running_vault(Vault()) as server:
        named = replace(settings, vault_url=f"http://127.0.0.1:{server.port}", vault_token_file=file)
        _, *found = secret_sources.sources(named)
        assert server.requests == ["/v1/auth/token/lookup-self"]
        file.write_text("hvs.hunter2\n")
        _, *refused = secret_sources.sources(named)
    _, *away = secret_sources.sources(named)
    assert [one.level for one in found] == [Level.OK]
    assert [one.level for one in (*refused, *away)] == [Level.PROBLEM, Level.PROBLEM]
    assert "does not accept the worker's token" in refused[0].seen
    assert "does not answer" in away[0].seen
    assert not {TOKEN, "hvs.hunter2"} & set(str([found, refused, away]).replace("'", " ").split())


def test_variables_that_are_listed_and_not_set_here_are_noted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN", "a-value")
    monkeypatch.setenv("SANDBOX_SECRET_PREFIXED", "a-value")
    monkeypatch.delenv("LACKING", raising=False)
    listed = replace(settings, secrets_env=("PLAIN", "PREFIXED", "LACKING"))
    variables, *lacking = secret_sources.sources(listed)
    assert (variables.level, "SANDBOX_SECRET_" in variables.seen, "PLAIN" in variables.seen) == (Level.OK, True, True)
    [found] = lacking
    assert (found.level, "LACKING" in found.seen) == (Level.NOTE, True)
    assert "the worker's environment" in str(found.advice)
    assert "a-value" not in str([variables, found])


def test_ssh_hosts_nobody_knows_are_noted(settings: Settings, tmp_path: Path) -> None:
    known = tmp_path / "known"
    [absent] = secret_sources.ssh_hosts(replace(settings, ssh_known_hosts=known))
    known.write_text("git.example ssh-ed25519 AAAA\n")
    [present] = secret_sources.ssh_hosts(replace(settings, ssh_known_hosts=known))
    assert (absent.level, present.level) == (Level.NOTE, Level.OK)
