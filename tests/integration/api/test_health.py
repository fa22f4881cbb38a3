from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api import condition
from api.condition import Condition
from orchestrator.access import Scope
from orchestrator.broker.messages import BrokerUnavailable
from orchestrator.product import Product
from orchestrator.services import fleet
from orchestrator.states import State
from orchestrator.store.database import StoreUnavailable
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost, broker_of, open_product
from tests.integration.api.test_errors import assert_error
from tests.integration.api.test_logs import RETRIED, start_again
from tests.integration.api.tokens import bearer, headers_of

READY, LIVE = "/api/v1/health/ready", "/api/v1/health/live"


@pytest.fixture
def always_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "KEPT_SECONDS", 0)


@pytest.mark.usefixtures("always_looked")
@pytest.mark.parametrize("path", ["/api/health", "/api/v1/health"])
def test_health_says_how_each_part_is_and_always_answers(client: CheckedClient, product: Product, path: str) -> None:
    well = client.get(path).json
    assert well == {
        "status": "healthy",
        "parts": {"store": "ok", "broker": "ok", "artifacts": "ok", "engine": "ok"},
    }
    broker_of(product).down = True
    ill = client.get(path)
    assert ill.status_code == 200
    assert ill.json
    assert ill.json["status"] == "degraded"
    assert "down for this test" in ill.json["parts"]["broker"]


@pytest.mark.usefixtures("always_looked")
def test_ready_is_503_and_names_the_part_that_is_not_reachable(
    client: CheckedClient, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(READY).json == {"status": "ready"}
    broker_of(product).down = True
    body = assert_error(client.get(READY), 503, "service_unavailable")
    assert "broker" in str(body["message"])
    assert set(body["details"]) == {"broker"}  # type: ignore[call-overload]
    shutil.rmtree(product.settings.data_dir / "artifacts")
    assert set(client.get(READY).json["details"]) == {"broker", "artifacts"}  # type: ignore[index]

    def away(*_: object) -> None:
        raise StoreUnavailable("the store does not answer: it is away for this test")

    monkeypatch.setattr(type(product.database), "read", away)
    body = assert_error(client.get(READY), 503, "service_unavailable")
    assert set(body["details"]) == {"store"}  # type: ignore[call-overload]
    assert client.get(LIVE).json == {"status": "live"}


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Product]:
    product = open_product(tmp_path / "up", embedded=True, worker_name="host-1")
    yield product
    product.database.close()


@pytest.mark.parametrize("path", [READY, "/api/v1/health"])
def test_causes_are_told_to_those_who_may_look_at_workers_and_to_the_log(
    client: CheckedClient, product: Product, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker_of(product).down = True
    assert "down for this test" in client.get(path).text  # a loopback API that is open
    watcher, submitter = headers_of(product, "ops", Scope.WORKER_READ), headers_of(product)
    assert "down for this test" in client.get(path, headers=watcher).text
    for headers in ({}, submitter, bearer("sbx_000000000000_" + "0" * 64), {"Authorization": "x"}):
        answer = client.get(path, headers=headers)
        assert "broker" in answer.text
        assert "not reachable" in answer.text
        assert "down for this test" not in answer.text
        [told] = [one for one in caplog.records if vars(one).get("request") == answer.headers["X-Request-Id"]
                  if one.message == "not ready"]  # fmt: skip
        assert "down for this test" in told.broker  # type: ignore[attr-defined]


@pytest.mark.usefixtures("always_looked")
def test_an_open_api_that_strangers_reach_tells_no_causes_and_neither_does_one_without_its_store(
    make_client: Callable[[Product], CheckedClient], product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = replace(product.settings, host="0.0.0.0", allow_open=True)  # noqa: S104 - what is tested
    broker_of(product).down = True
    body = assert_error(make_client(replace(product, settings=wide)).get(READY), 503, "service_unavailable")
    assert body["details"] == {"broker": "not reachable"}

    def away(*_: object) -> None:
        raise StoreUnavailable("the user builder is refused by 10.1.2.3")

    local = make_client(product)
    monkeypatch.setattr(type(product.database), "read", away)
    body = assert_error(local.get(READY), 503, "service_unavailable")
    assert body["details"] == {"store": "not reachable"}
    assert "10.1.2.3" not in str(body)


def test_however_often_strangers_ask_the_parts_are_looked_at_once_in_two_seconds(product: Product) -> None:
    now = 0.0
    looked = Condition(product, clock=lambda: now)
    assert looked.trouble() == {}
    broker_of(product).down = True
    now = 1.9
    assert looked.trouble() == {}
    now = 2.1
    assert set(looked.trouble()) == {"broker"}


def test_while_a_part_hangs_others_get_what_was_seen_last(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Event(), threading.Event()
    looked = Condition(product, clock=itertools.count(step=10).__next__)
    assert looked.trouble() == {}

    def hang() -> None:
        asked.set()
        assert go_on.wait(60)
        raise BrokerUnavailable("it hung")

    monkeypatch.setattr(broker_of(product), "ping", hang)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(looked.trouble)
        assert asked.wait(60)
        assert looked.trouble() == {}
        go_on.set()
        assert first.result(60) == {"broker": "it hung"}


@pytest.mark.usefixtures("always_looked")
def test_in_up_ready_waits_for_the_own_worker_and_its_engine(
    make_client: Callable[[Product], CheckedClient], embedded: Product
) -> None:
    client = make_client(embedded)
    body = assert_error(client.get(READY), 503, "service_unavailable")
    assert set(body["details"]) == {"engine"}  # type: ignore[call-overload]
    BuildHost(embedded, "another").register()
    assert client.get(READY).status_code == 503
    BuildHost(embedded).register()
    assert client.get(READY).status_code == 200
    fleet.heartbeat(embedded, "host-1", "the engine is silent")
    assert "the engine is silent" in client.get(READY).text
    fleet.heartbeat(embedded, "host-1", None)
    assert client.get(READY).status_code == 200
    fleet.stop(embedded, "host-1", 0)
    assert client.get(READY).status_code == 503


def samples(client: CheckedClient) -> dict[tuple[str, str], float]:
    """(name, the value of its only label) → value, as Prometheus reads it."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    found = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                continue
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


def test_metrics_of_an_empty_installation_are_all_there(client: CheckedClient) -> None:
    found = samples(client)
    assert all(found["sandbox_tasks", state.value] == 0 for state in State)
    assert found["sandbox_queue_depth", ""] == 0
    assert found["sandbox_queue_oldest_wait_seconds", ""] == 0
    assert found["sandbox_log_bytes", ""] == 0
    assert ("sandbox_placement_seconds_count", "") in found
    assert all(found["sandbox_workers", state] == 0 for state in ("active", "stopped", "lost"))


def test_metrics_tell_states_queue_phases_outcomes_log_bytes_and_placement(
    client: CheckedClient, product: Product
) -> None:
    before = samples(client)
    host = BuildHost(product)
    host.register(slots=1)
    client.submit(RETRIED)
    waiting = client.task()
    placed = samples(client)
    assert placed["sandbox_queue_depth", ""] == 2
    assert placed["sandbox_queue_oldest_wait_seconds", ""] > 0
    assert placed["sandbox_placement_seconds_count", ""] > before["sandbox_placement_seconds_count", ""]
    claim = host.run("again")
    host.say(claim, "12345\n", "67890\n")
    host.end_command(claim)
    host.lose(claim)
    host.exit(host.run(waiting), 1)
    host.exit(start_again(host, "again"))
    after = samples(client)
    assert after["sandbox_tasks", "completed"] == 1
    assert after["sandbox_tasks", "failed"] == 1
    assert after["sandbox_tasks", "pending"] == after["sandbox_queue_depth", ""] == 0
    assert after["sandbox_outcomes", "exit_zero"] == 1
    assert after["sandbox_outcomes", "exit_nonzero"] == 1
    assert after["sandbox_log_bytes", ""] == 12
    assert after["sandbox_workers", "active"] == 1
    phases = ("pending", "staging", "provisioning", "ready", "running", "completing")
    assert all(after["sandbox_phase_seconds_count", phase] == 3 for phase in phases)
    assert all(after["sandbox_phase_seconds_sum", phase] >= 0 for phase in phases)
    assert samples(client)["sandbox_phase_seconds_count", "running"] == 3


def test_two_servers_on_one_store_tell_the_same(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    first, second = make_client(product), make_client(product)
    first.submit(MANIFEST)
    for client in (first, second):
        assert samples(client)["sandbox_tasks", "pending"] == 1
