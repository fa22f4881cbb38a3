"""E1–E6, E9: the way out of a sandbox leads to `vm.allowed_hosts` and nowhere else (isolation-and-faults.md §1.4).

The servers are the tests' own, in a network namespace that only this machine reaches.
"""

# ruff: noqa: F811 - fixtures are imported, and asked for by their names

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.contacts import EgressRule
from tests.conftest import missing
from tests.e2e.stack import Product, eventually, running_product
from tests.e2e.submitting import ended, raw_output, run_manifest, submit
from tests.integration.sandbox.conftest import (  # noqa: F401 - fixtures
    EntranceOf,
    RunInside,
    _nothing_is_left,
    backend,
    engine,
    entrance_of,
    entry_kind,
    installation,
    run_inside,
    spec_of,
)
from tests.security.egress.attempts import ALLOWED_HOSTS, Try, bypasses
from tests.security.egress.internet import Internet, fake_internet
from tests.security.host_service import host_service
from workers.egress import EgressReport, Policy, proxy
from workers.egress.ledger import Ledger

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
HERE = Path(__file__).parent
INSIDE = (HERE / "egress" / "inside.py").read_text()
Json = dict[str, Any]


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    if os.geteuid() != 0:
        missing("a network namespace", "run the tests as root")
    with fake_internet(tmp_path_factory.mktemp("internet")) as there:
        yield there


# One sandbox and its listener, in this process.


@pytest.fixture
def attempted(
    run_inside: RunInside,
    entrance_of: EntranceOf,
    internet: Internet,
) -> Callable[..., list[str]]:
    """Return a function that makes attempts inside a sandbox of its own, and returns what each got."""

    def run(hosts: Sequence[str], attempts: Sequence[Sequence[Any]], ledger: Ledger | None = None) -> list[str]:
        flips = iter([[internet.allowed]] + [["127.0.0.1"]] * 9)

        def lookup(host: str, port: int) -> Sequence[str]:
            return next(flips) if host == "flip.allowed.test" else internet.lookup(host, port)

        @contextmanager
        def open_for(sandbox: str) -> Iterator[EgressReport]:
            policy = Policy.for_hosts(hosts, [internet.network], lookup=lookup)
            [server] = entrance_of(sandbox).open()
            serving = proxy(server, policy, ledger or Ledger())
            try:
                yield EgressReport()
            finally:
                serving.close()

        command = ["python3", "-c", INSIDE, json.dumps(attempts), internet.evil]
        result = run_inside(command, network=open_for)
        assert result.exit_code == 0, result.stderr
        found: list[str] = json.loads(result.stdout)
        return found

    return run


def test_e1_http_and_https_to_an_allowed_host_work(attempted: Callable[..., list[str]], internet: Internet) -> None:
    ledger = Ledger()
    asked = [
        ["proxy", "GET http://api.allowed.test/ HTTP/1.1\r\n\r\n"],
        ["proxy", "POST http://API.Allowed.test./x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"],
        ["https", "api.allowed.test:443", "api.allowed.test", "api.allowed.test"],
        ["https", "WWW.allowed.TEST.:443", "www.Allowed.test", "www.allowed.test"],
        ["tunnel", "www.allowed.test:22", "SSH-2.0-x\r\n"],
        ["https", "silent.allowed.test:8443", "any.name", "x"],
    ]
    got = attempted(ALLOWED_HOSTS, asked, ledger)
    assert [("REACHED allowed" in one) for one in got] == [True] * len(got), got
    assert "sni=['api.allowed.test']" in got[2]
    assert ledger.denied() == []
    assert ledger.bytes_up > 0
    assert ledger.bytes_down > sum(len(one) for one in got)


def test_e2_every_attempt_to_get_around_the_list_fails_and_is_told_by_its_rule(
    attempted: Callable[..., list[str]], internet: Internet
) -> None:
    before = len(internet.contacts())
    with host_service() as service:
        tries = bypasses(internet, service.port)
        # The first answer of a name that flips leads to an allowed address: asked twice, only the second is judged.
        flip = ["proxy", "GET http://flip.allowed.test/ HTTP/1.1\r\n\r\n"]
        ledger = Ledger()
        got = attempted(ALLOWED_HOSTS, [flip, *(one.attempt for one in tries)], ledger)[1:]
        assert service.visitors == []
    assert [(one.name, what) for one, what in zip(tries, got, strict=True) if not re.search(one.got, what)] == []
    assert [one.name for one, what in zip(tries, got, strict=True) if "REACHED" in what] == []
    for one, what in zip(tries, got, strict=True):
        print(f"{one.name}: {what.splitlines()[0][:100]}")
    # Where a tunnel stood before it was cut, its server saw a client that said nothing.
    contacts = internet.contacts()[before:]
    assert {one["server"] for one in contacts} <= {"allowed"}
    assert [one for one in contacts if "udp" in one] == []
    assert [one["request"] for one in contacts if "request" in one] == ["GET / HTTP/1.1"], "only the name that flips"
    assert _counted(ledger) == _expected(tries)


def _counted(ledger: Ledger) -> dict[EgressRule, int]:
    counts: dict[EgressRule, int] = {}
    for one in ledger.denied():
        counts[one.rule] = counts.get(one.rule, 0) + one.count
    return counts


def _expected(tries: Sequence[Try]) -> dict[str, int]:
    rules = [one.rule for one in tries if one.rule]
    return {rule: rules.count(rule) for rule in rules}


def test_e2_what_a_request_says_of_its_host_is_the_url_s_and_no_second_request_follows(
    attempted: Callable[..., list[str]], internet: Internet
) -> None:
    second = "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    [named, piped] = attempted(
        ALLOWED_HOSTS,
        [
            ["proxy", "GET http://api.allowed.test/ HTTP/1.1\r\nHost: evil.test\r\nHost: other.test\r\n\r\n"],
            ["proxy", f"POST http://api.allowed.test/ HTTP/1.1\r\nContent-Length: 2\r\n\r\nok{second}{second}"],
        ],
    )
    assert "hosts=['api.allowed.test'] sni=[] heads=1" in named
    assert "hosts=['api.allowed.test'] sni=[] heads=1" in piped


def test_e2_fronting_inside_tls_is_open_as_the_documents_say(
    attempted: Callable[..., list[str]], internet: Internet
) -> None:
    [got] = attempted(ALLOWED_HOSTS, [["https", "api.allowed.test:443", "api.allowed.test", "hidden.test"]])
    assert "REACHED allowed hosts=['hidden.test'] sni=['api.allowed.test']" in got
    assert "Fronting inside TLS" in (HERE.parents[1] / "docs" / "network.md").read_text()


def test_e9_an_empty_list_reaches_nothing(attempted: Callable[..., list[str]], internet: Internet) -> None:
    before = len(internet.contacts())
    asked = [["proxy", f"CONNECT {host}:443 HTTP/1.1\r\n\r\n"] for host in ("api.allowed.test", "evil.test", "a.b")]
    got = attempted([], [*asked, ["proxy", "GET http://api.allowed.test/ HTTP/1.1\r\n\r\n"]])
    assert all(one.startswith("HTTP/1.1 403 Forbidden") for one in got), got
    assert internet.contacts()[before:] == []


# The product.


PROFILES = """\
learner: {image: sandbox/basic:latest, learn_egress: true}
"""


@pytest.fixture(scope="module")
def product(docker_engine: None, internet: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    directory = tmp_path_factory.mktemp("product")
    (directory / "profiles.yaml").write_text(PROFILES)
    settings = {
        "SANDBOX_EGRESS_PRIVATE_CIDRS": internet.network,
        "SANDBOX_PROFILES": str(directory / "profiles.yaml"),
        "PYTHONPATH": str(HERE / "names"),
        "TEST_HOST_NAMES": json.dumps(internet.names()),
    }
    with running_product(directory / "data", **settings) as running:
        yield running


@pytest.fixture
def api(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as client:
        yield client


def outbound(*hosts: str, profile: str = "basic", **sections: Any) -> Json:
    manifest = run_manifest(**sections)
    manifest["vm"] |= {"network_mode": "outbound", "allowed_hosts": list(hosts), "profile": profile}
    return manifest


def attempting(internet: Internet, *attempts: Sequence[Any]) -> list[str]:
    return ["python3", "-c", INSIDE, json.dumps(attempts), internet.evil]


def report_of(api: httpx.Client, task_id: str) -> Json:
    found: Json = api.get(f"/tasks/{task_id}/network").json()
    return found


def test_a_program_finds_its_way_by_the_environment_and_what_it_moves_is_told(
    api: httpx.Client, internet: Internet
) -> None:
    ask = 'import urllib.request as r; print(r.urlopen("http://api.allowed.test/").read().decode())'
    script = f"python3 -c '{ask}'; env | grep -i proxy"
    task = ended(api, submit(api, outbound("api.allowed.test", script=script)))
    assert task["state"] == "completed", task["outcome"]
    output = raw_output(api, task["task_id"]).decode()
    assert "REACHED allowed hosts=['api.allowed.test']" in output
    proxies = [f"{name}=http://127.0.0.1:3128" for name in ("HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy")]
    direct = [f"{name}=localhost,127.0.0.1,::1" for name in ("NO_PROXY", "no_proxy")]
    assert sorted(line for line in output.splitlines() if "proxy" in line.lower()) == sorted(proxies + direct)
    assert task["applied"]["network"] == {
        "requested": "outbound",
        "effective": "outbound",
        "mechanism": (
            "empty network namespace (--network none); the worker's listener in the sandbox's network namespace "
            "passes on connections to the 1 entries of allowed_hosts"
        ),
    }
    report = report_of(api, task["task_id"])
    assert report["denied"] == []
    assert report["bytes_up"] > 0
    assert report["bytes_down"] > len("REACHED allowed")
    metrics = httpx.get(f"{api.base_url.copy_with(path='/metrics')}", timeout=60).text
    assert re.search(r'sandbox_egress_bytes_total\{direction="down",worker="[^"]+"\} [1-9]', metrics)


def test_a_denial_is_in_the_log_the_report_and_the_outcome_with_what_to_do(
    api: httpx.Client, product: Product, internet: Internet
) -> None:
    asked = ["proxy", "CONNECT evil.test:443 HTTP/1.1\r\n\r\n"]
    other = ["proxy", "CONNECT api.allowed.test:8443 HTTP/1.1\r\n\r\n"]
    command = ["sh", "-c", '"$@"; exit 3', "sh", *attempting(internet, asked, asked, other, asked)]
    task = ended(api, submit(api, outbound("api.allowed.test", command=command)))
    assert task["outcome"]["reason"] == "exit_nonzero"
    assert task["outcome"]["hint"].startswith(
        "4 connections to the network were denied: add api.allowed.test:8443, evil.test to vm.allowed_hosts if the "
        "task needs it (`sandbox task network ID` shows all); "
    )
    denied = report_of(api, task["task_id"])["denied"]
    assert [(one["host"], one["port"], one["rule"], one["count"]) for one in denied] == [
        ("evil.test", 443, "not_allowed", 3),
        ("api.allowed.test", 8443, "port", 1),
    ]
    log = api.get(f"/tasks/{task['task_id']}/logs", params={"format": "text"}).text
    port = "api.allowed.test:8443"
    said = [line.partition("[SYSTEM] ")[2] for line in log.splitlines() if "egress" in line]
    assert said == [
        "egress denied: evil.test:443 (not_allowed) – add evil.test to vm.allowed_hosts if the task needs it",
        f"egress denied: {port} (port) – add {port} to vm.allowed_hosts if the task needs it",
        "egress denied: evil.test:443 – 3 times so far",
    ]
    shown = _cli(product, "task", "network", task["task_id"])
    assert re.search(r"evil\.test +443 +not_allowed +3", shown)
    assert json.loads(_cli(product, "task", "network", task["task_id"], "--format", "json"))["denied"] == denied


def _cli(product: Product, *words: str) -> str:
    argv = [sys.executable, "-m", "orchestrator.cli", *words, "--server", product.url]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_where_a_profile_learns_all_public_hosts_pass_and_a_list_comes_out(
    api: httpx.Client, internet: Internet
) -> None:
    asked = [
        ["proxy", "GET http://evil.test/ HTTP/1.1\r\n\r\n"],
        ["https", "api.allowed.test:443", "api.allowed.test", "x"],
        ["tunnel", "other.test:22", "x"],
        ["proxy", "GET http://metadata.allowed.test/ HTTP/1.1\r\n\r\n"],
        ["proxy", f"GET http://{internet.evil}/ HTTP/1.1\r\n\r\n"],
        ["https", "evil.test:443", "other.test", "x"],
    ]
    manifest = outbound(profile="learner", command=attempting(internet, *asked))
    task = ended(api, submit(api, manifest))
    got = json.loads(raw_output(api, task["task_id"]))
    assert ["REACHED" in one for one in got] == [True, True, True, False, False, False], got
    assert task["applied"]["network"]["effective"] == "outbound, learning"
    report = report_of(api, task["task_id"])
    assert report["suggested_allowed_hosts"] == ["api.allowed.test", "evil.test", "other.test:22"]
    assert {one["rule"] for one in report["learned"]} == {"learned"}
    assert {(one["host"], one["rule"]) for one in report["denied"]} == {
        ("metadata.allowed.test", "address"), (internet.evil, "syntax"), ("evil.test", "sni"),
    }  # fmt: skip
    # What was learned is enough.
    again = outbound(*report["suggested_allowed_hosts"], command=attempting(internet, *asked[:3]))
    task = ended(api, submit(api, again))
    assert all("REACHED" in one for one in json.loads(raw_output(api, task["task_id"])))


def test_what_git_moves_for_a_repository_is_counted_also_when_the_clone_fails(api: httpx.Client) -> None:
    repository = {"url": "http://api.allowed.test/no-repository.git"}
    task = ended(api, submit(api, run_manifest(command=["true"], repository=repository)))
    assert task["outcome"]["reason"] == "clone_failed"
    report = report_of(api, task["task_id"])
    assert (report["mode"], report["denied"]) == ("isolated", [])
    assert report["bytes_up"] > 0
    assert report["bytes_down"] > 0


def test_e3_no_service_of_the_host_is_reached_isolated_or_outbound(api: httpx.Client, internet: Internet) -> None:
    with host_service() as service:
        direct = [["tcp", address, service.port] for address in (*service.addresses, "127.0.0.1", "::1")]
        asked = [
            ["proxy", f"CONNECT {host}:{service.port} HTTP/1.1\r\n\r\n"]
            for host in ("gateway.allowed.test", "loopback.allowed.test", *service.addresses)
        ]
        hosts = [f"*.allowed.test:{service.port}"]
        tasks = [
            submit(api, outbound(*hosts, command=attempting(internet, *direct, *asked))),
            submit(api, run_manifest(command=attempting(internet, *direct, *asked))),
        ]
        for task_id in tasks:
            assert ended(api, task_id)["state"] == "completed"
            got = json.loads(raw_output(api, task_id))
            assert [one for one in got if "REACHED" in one or " 200 " in one] == []
        assert service.visitors == []


def test_e4_a_task_reaches_neither_the_listener_nor_the_servers_of_another(
    api: httpx.Client, internet: Internet
) -> None:
    serving = """
import socket, time
servers = [socket.create_server(("0.0.0.0", 7000))]
hidden = socket.socket(socket.AF_UNIX); hidden.bind("\\0egress-test"); hidden.listen()
print("up", flush=True); time.sleep(600)
"""
    first = submit(api, outbound("api.allowed.test", command=["python3", "-c", serving]))
    eventually("the first task serves", lambda: raw_output(api, first))
    allowed = ["proxy", "CONNECT api.allowed.test:443 HTTP/1.1\r\n\r\n"]
    command = attempting(internet, allowed, ["tcp", "127.0.0.1", 7000], ["tcp", "127.0.0.2", 3128])
    for manifest in (outbound(command=command), run_manifest(command=command)):
        got = json.loads(raw_output(api, ended(api, submit(api, manifest))["task_id"]))
        assert re.match("HTTP/1.1 403|ConnectionRefusedError", got[0]), got
        assert all("ConnectionRefusedError" in one for one in got[1:]), got
    api.delete(f"/tasks/{first}", params={"force": "true"})
    assert ended(api, first)["state"] == "cancelled"


HOLDING = """
import socket, sys, threading, time
def tunnel():
    while True:
        try:
            one = socket.create_connection(("127.0.0.1", 3128), 10)
            one.sendall(b"CONNECT www.allowed.test:22 HTTP/1.1\\r\\n\\r\\n")
            while b"REACHED" not in one.recv(4096): pass
            print("open", flush=True)
            while one.recv(4096): pass
        except OSError: pass
        print("cut", flush=True)
        time.sleep(0.1)
def ask():
    before = ""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", 3128), 10) as one:
                one.sendall(b"GET http://api.allowed.test/ HTTP/1.1\\r\\n\\r\\n")
                now = "answered" if b" 200 " in one.recv(4096) else "refused"
        except OSError: now = "refused"
        if now != before: print(now, flush=True)
        before = now
        time.sleep(0.1)
threading.Thread(target=ask, daemon=True).start()
tunnel()
"""


def test_e5_a_dead_worker_is_a_closed_way_out_and_adoption_opens_it_again(
    api: httpx.Client, product: Product, internet: Internet
) -> None:
    hosts = ("api.allowed.test", "www.allowed.test:22")
    task_id = submit(api, outbound(*hosts, command=["python3", "-c", HOLDING]))
    lines: list[str] = []

    def said(*wanted: str) -> bool:
        lines[:] = raw_output(api, task_id).decode().split()
        return all(lines.count(one) >= wanted.count(one) for one in wanted)

    eventually("a tunnel is open and requests are answered", lambda: said("open", "answered"))
    before = report_of(api, task_id)["bytes_down"]
    for deaths in (1, 2):
        os.kill(product.child("worker"), signal.SIGKILL)
        eventually("the tunnel was cut and requests refused", lambda n=deaths: said(*["cut", "refused"] * n))  # type: ignore[misc]
        eventually("both work again", lambda n=deaths: said(*["open", "answered"] * (n + 1)))  # type: ignore[misc]
    eventually("bytes are counted on", lambda: report_of(api, task_id)["bytes_down"] > before)
    task = api.get(f"/tasks/{task_id}").json()
    assert (task["state"], task["attempt"]) == ("running", 1)
    api.delete(f"/tasks/{task_id}", params={"force": "true"})
    assert ended(api, task_id)["state"] == "cancelled"


GRABBING = """
import socket, sys, time
def ask():
    try:
        with socket.create_connection(("127.0.0.1", 3128), 10) as one:
            one.sendall(b"GET http://api.allowed.test/ HTTP/1.1\\r\\n\\r\\n")
            return b" 200 " in one.recv(4096)
    except OSError:
        return False
while not ask(): time.sleep(0.1)
print("answered", flush=True)
while True:
    try:
        server = socket.create_server(("127.0.0.1", 3128))
        break
    except OSError: time.sleep(0.01)
print("taken", flush=True)
time.sleep(8)
server.close()
while not ask(): time.sleep(0.1)
print("answered", flush=True)
"""


def test_e5_a_command_that_takes_the_port_meanwhile_keeps_only_itself_out(api: httpx.Client, product: Product) -> None:
    task_id = submit(api, outbound("api.allowed.test", command=["python3", "-c", GRABBING]))
    eventually("it is answered", lambda: b"answered" in raw_output(api, task_id))
    os.kill(product.child("worker"), signal.SIGKILL)
    task = ended(api, task_id)
    assert task["state"] == "completed", task["outcome"]
    assert raw_output(api, task_id).split() == [b"answered", b"taken", b"answered"]
    log = api.get(f"/tasks/{task_id}/logs", params={"format": "text"}).text
    assert "the way to the network is closed" in log
    assert "the way to the network is open again" in log


MANY = """
import socket, time
held, refused = [], 0
for _ in range(200):
    one = socket.create_connection(("127.0.0.1", 3128), 30)
    one.settimeout(30)
    one.sendall(b"CONNECT www.allowed.test:22 HTTP/1.1\\r\\n\\r\\n")
    try:
        answer = one.recv(100)
    except ConnectionResetError:
        answer = b""
    if answer.startswith(b"HTTP/1.1 200"): held.append(one)
    else: refused += 1
print(len(held), refused, flush=True)
time.sleep(600)
"""
MEBIBYTE = 1 << 20


def test_e6_the_sixty_fifth_connection_is_refused_and_nobody_else_notices(
    api: httpx.Client, product: Product, internet: Internet
) -> None:
    worker = product.child("worker")
    quiet = submit(api, outbound("www.allowed.test:22", command=["sleep", "600"]))
    eventually("it runs", lambda: api.get(f"/tasks/{quiet}").json()["state"] == "running")
    before = _resident_bytes(worker)
    loud = submit(api, outbound("www.allowed.test:22", command=["python3", "-c", MANY]))
    eventually("200 connections were tried", lambda: raw_output(api, loud))
    assert raw_output(api, loud) == b"64 136\n"
    assert _resident_bytes(worker) - before < 20 * MEBIBYTE
    asked = ["https", "api.allowed.test:443", "api.allowed.test", "x"]
    task = ended(api, submit(api, outbound("api.allowed.test", command=attempting(internet, asked))))
    assert b"REACHED" in raw_output(api, task["task_id"])
    eventually("the denials are stored", lambda: report_of(api, loud)["denied"])
    for task_id in (loud, quiet):
        api.delete(f"/tasks/{task_id}", params={"force": "true"})
        assert ended(api, task_id)["state"] == "cancelled"
    [busy] = report_of(api, loud)["denied"]
    assert (busy["host"], busy["port"], busy["rule"], busy["count"]) == ("?", 0, "busy", 136)


def _resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_e9_an_empty_list_with_outbound_is_a_closed_sandbox_and_applied_says_so(
    api: httpx.Client, internet: Internet
) -> None:
    asked = [["proxy", f"CONNECT {host}:443 HTTP/1.1\r\n\r\n"] for host in ("api.allowed.test", "evil.test")]
    before = len(internet.contacts())
    task = ended(api, submit(api, outbound(command=attempting(internet, *asked))))
    assert all("403 Forbidden" in one for one in json.loads(raw_output(api, task["task_id"])))
    assert task["applied"]["network"]["mechanism"].endswith("passes on connections to nothing")
    assert internet.contacts()[before:] == []


def test_an_isolated_task_has_no_proxy_and_no_variables_of_one(api: httpx.Client, internet: Internet) -> None:
    command = ["sh", "-c", 'env | grep -ic proxy; "$@"', "sh", *attempting(internet, ["tcp", "127.0.0.1", 3128])]
    task = ended(api, submit(api, run_manifest(command=command)))
    count, got = raw_output(api, task["task_id"]).decode().splitlines()
    assert count == "0"
    assert "ConnectionRefusedError" in got
    assert task["applied"]["network"]["effective"] == "isolated"
