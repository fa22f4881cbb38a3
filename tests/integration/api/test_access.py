"""Who gets in, and with what: tokens, scopes, revocation, expiry, rate limits, proxies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from flask import Flask

from api import callers
from api.app import create_app
from api.scopes import RULES, rule_of
from orchestrator import clock
from orchestrator.access import Scope
from orchestrator.product import Product
from orchestrator.services import tokens
from orchestrator.store.tables import tokens as table
from tests.integration.api import openapi
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import bearer, headers_of, make

TASKS = "/api/v1/tasks"
OPEN = ["/api/health", "/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready", "/api/v1/schemas/task",
        "/api/v1/openapi.json"]  # fmt: skip


def test_every_route_has_a_rule_and_every_rule_a_route(app: Flask) -> None:
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(RULES)


def test_a_route_that_nobody_gave_a_rule_is_the_administrators() -> None:
    assert rule_of("new.view").scopes == (Scope.ADMIN,)


def test_every_call_that_changes_something_has_a_name_in_the_audit_trail(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        changes = bool((rule.methods or set()) - {"GET", "HEAD", "OPTIONS"})
        assert (RULES[rule.endpoint].action is not None) == changes, rule.endpoint


def test_the_document_names_the_scopes_that_each_operation_asks_for(app: Flask) -> None:
    adapter = app.url_map.bind("localhost")
    for path, method, operation in openapi.operations():
        address = path.replace("{task_id}", "t").replace("{name}", "n").replace("{path}", "p")
        endpoint, _ = adapter.match(address, method=method.upper())
        wanted = [{"accessToken": [scope.value for scope in RULES[endpoint].scopes]}] if RULES[endpoint].scopes else []
        assert operation["security"] == wanted, (method, path)


@pytest.mark.parametrize(("named", "answer"), [(False, 400), (True, 202)])
def test_repositories_of_this_host_are_no_tenant_s_unless_the_operator_named_them(
    product: Product, host: BuildHost, named: bool, answer: int
) -> None:
    settings = replace(product.settings, file_repositories=True, file_repositories_named=named)
    client = create_app(replace(product, settings=settings)).test_client()
    manifest = yaml.safe_load(MANIFEST) | {"repository": {"url": "file:///srv/private"}}
    assert client.post(TASKS, json=manifest).status_code == 202
    assert client.post(TASKS, json=manifest, headers=headers_of(product)).status_code == answer


def test_without_any_token_this_machine_may_do_everything(client: CheckedClient, host: BuildHost) -> None:
    task_id = client.task()
    assert client.get(f"{TASKS}/{task_id}").json["owner"] is None  # type: ignore[index]
    assert client.delete(f"{TASKS}/{task_id}").status_code == 200
    assert client.get("/api/v1/workers").status_code == 200
    assert client.get("/metrics").status_code == 200


def test_the_first_token_closes_every_process_at_once_and_the_last_one_opens_none(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    both = [make_client(product), make_client(product)]
    assert [client.get(TASKS).status_code for client in both] == [200, 200]
    token_id, headers = make(product)
    for client in both:
        body = assert_error(client.get(TASKS), 401, "unauthorized")
        assert "sandbox token create" in str(body["message"])
        assert "sandbox --token" not in str(body["message"])  # the command itself has no such option
        assert client.get(TASKS, headers=headers).status_code == 200
    tokens.revoke(product.database, token_id)
    for client in both:
        assert_error(client.get(TASKS, headers=headers), 401, "unauthorized")
        assert_error(client.get(TASKS), 401, "unauthorized")


def test_health_and_the_published_documents_stay_open(client: CheckedClient, product: Product) -> None:
    make(product)
    for path in OPEN:
        response = client.get(path)
        assert response.status_code in (200, 503), path
        assert "X-RateLimit-Limit" not in response.headers


BAD = [
    "", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer sbx_", "Bearer sbx_000000000000_" + "0" * 64,
    "Bearer sbx_é", "é", "Bearer " + "\u00ff" * 77, "Bearer sbx_000000000000_" + "0" * 63 + "ü", "x" * 5000,
    "Bearer ＡＢＣ".encode().decode("latin-1"),
]  # fmt: skip


@pytest.mark.parametrize("header", BAD)
def test_what_is_no_token_is_401_whatever_it_is_made_of(client: CheckedClient, product: Product, header: str) -> None:
    make(product)
    response = client.get(TASKS, headers={"Authorization": header})
    assert_error(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_another_secret_under_a_known_id_is_401(client: CheckedClient, product: Product) -> None:
    token_id, _ = make(product)
    response = client.get(TASKS, headers=bearer(f"sbx_{token_id}_{'0' * 64}"))
    assert_error(response, 401, "unauthorized")
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_the_word_bearer_is_taken_in_any_case(client: CheckedClient, product: Product) -> None:
    header = headers_of(product)["Authorization"].replace("Bearer", "bEARER")
    assert client.get(TASKS, headers={"Authorization": header}).status_code == 200


def test_an_expired_token_is_worth_nothing(client: CheckedClient, product: Product) -> None:
    token_id, headers = make(product, expires_at=clock.now() + timedelta(days=1))
    assert client.get(TASKS, headers=headers).status_code == 200
    with product.database.write() as tx:
        tx.execute(table.update().where(table.c.id == token_id).values(expires_at=clock.now()))
    assert_error(client.get(TASKS, headers=headers), 401, "unauthorized")


@pytest.mark.parametrize(
    ("scopes", "request_line", "missing"),
    [
        ((Scope.TASK_READ,), f"POST {TASKS}", "task:create"),
        ((Scope.TASK_CREATE,), f"GET {TASKS}", "task:read"),
        ((Scope.TASK_READ,), f"DELETE {TASKS}/t", "task:cancel"),
        ((Scope.TASK_READ,), f"DELETE {TASKS}/t/data", "task:cancel"),
        ((Scope.TASK_CREATE,), f"POST {TASKS}/t/rerun", "task:read"),
        ((Scope.TASK_READ,), f"GET {TASKS}/t/artifacts", "task:artifacts"),
        ((Scope.TASK_READ_ALL,), f"GET {TASKS}/t/artifacts/x", "task:artifacts"),
        ((Scope.TASK_READ,), "GET /metrics", "worker:read"),
        ((Scope.WORKER_READ,), "POST /api/v1/workers/w/drain", "worker:write"),
        ((Scope.WORKER_WRITE,), "GET /api/v1/workers", "worker:read"),
    ],
)
def test_a_missing_scope_is_403_and_named(
    client: CheckedClient, product: Product, scopes: tuple[Scope, ...], request_line: str, missing: str
) -> None:
    method, path = request_line.split()
    response = client.open(path, method=method, headers=headers_of(product, "alice", *scopes))
    body = assert_error(response, 403, "forbidden")
    assert body["details"] == {"missing_scope": missing}
    assert missing in str(body["message"])
    assert f'scope="{missing}"' in response.headers["WWW-Authenticate"]


def test_a_scope_for_everybodys_tasks_is_also_one_for_ones_own(client: CheckedClient, product: Product) -> None:
    headers = headers_of(product, "alice", Scope.TASK_READ_ALL)
    assert client.get(TASKS, headers=headers).status_code == 200


def test_a_browser_may_ask_without_a_token_what_it_may_send(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    page = "https://console.example.org"
    client = make_client(replace(product, settings=replace(product.settings, allowed_origins=(page,))))
    make(product)
    response = client.options(TASKS, headers={"Origin": page, "Access-Control-Request-Method": "GET"})
    assert response.status_code == 200
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]


def test_a_store_that_is_away_is_503_with_a_token_too(
    client: CheckedClient, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = headers_of(product)
    assert client.get(TASKS, headers=headers).status_code == 200

    def gone(*_: object) -> None:
        raise callers.StoreUnavailable("away for this test")

    monkeypatch.setattr(type(product.database), "read", gone)
    assert_error(client.get(TASKS, headers=headers), 503, "service_unavailable")
    assert client.get("/api/v1/health/live").status_code == 200


# Rate limits.


def test_every_answer_says_how_a_token_stands_and_429_when_it_may_ask_again(
    client: CheckedClient, product: Product
) -> None:
    headers = headers_of(product, requests_per_minute=3)
    left = []
    for path in (TASKS, f"{TASKS}/none", f"{TASKS}?limit=0"):
        response = client.get(path, headers=headers)
        assert response.headers["X-RateLimit-Limit"] == "3"
        left.append(int(response.headers["X-RateLimit-Remaining"]))
        assert 0 < int(response.headers["X-RateLimit-Reset"]) - time.time() < 62
    assert left[0] >= left[1] >= left[2]
    responses = [client.get(TASKS, headers=headers) for _ in range(20)]
    refused = next(one for one in responses if one.status_code == 429)
    body = assert_error(refused, 429, "rate_limit_exceeded")
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert f"{refused.headers['Retry-After']} s" in str(body["message"])


def test_limits_are_each_tokens_own_and_the_operators_by_default(client: CheckedClient, product: Product) -> None:
    busy, idle = headers_of(product, requests_per_minute=1), headers_of(product, "bob")
    answers = {client.get(TASKS, headers=busy).status_code for _ in range(10)}
    assert answers == {200, 429}
    assert client.get(TASKS, headers=idle).headers["X-RateLimit-Limit"] == "600"
    assert client.get("/api/v1/health").status_code == 200


def test_a_limit_of_nothing_is_none(make_client: Callable[[Product], CheckedClient], product: Product) -> None:
    own = headers_of(product, requests_per_minute=0)
    usual = headers_of(product, "bob")
    client = make_client(replace(product, settings=replace(product.settings, rate_limit_per_minute=0)))
    for headers in (own, usual):
        response = client.get(TASKS, headers=headers)
        assert response.status_code == 200
        assert "X-RateLimit-Limit" not in response.headers


def test_guessing_tokens_is_stopped_for_an_address_and_holds_up_no_good_token_from_there(
    client: CheckedClient, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "FAILURES_PER_MINUTE", 2)
    fresh = headers_of(product, "bob")
    guess = bearer(f"sbx_000000000000_{'0' * 64}")
    answers = [client.get(TASKS, headers=guess).status_code for _ in range(8)]
    assert answers[:2] == [401, 401]
    assert 429 in answers[2:]
    assert client.get(TASKS, headers=fresh).status_code == 200  # never seen before
    assert client.get(TASKS, headers=guess, environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 401
    assert client.get(TASKS).status_code == 401  # who sends none guesses nothing


# Where a request comes from.


def changed(product: Product, **settings: Any) -> Product:
    return replace(product, settings=replace(product.settings, **settings))


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host", "x-forwarded-proto"]
)
def test_what_an_unknown_proxy_passed_on_is_not_this_machine(client: CheckedClient, header: str) -> None:
    body = assert_error(client.get(TASKS, headers={header: "127.0.0.1"}), 401, "unauthorized")
    assert "proxy" in str(body["message"])
    assert client.get(TASKS).status_code == 200


def test_a_trusted_proxy_says_who_stands_behind_it(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    client = make_client(changed(product, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8")))
    for told, status in (
        ("203.0.113.9", 401), ("127.0.0.1", 200), ("127.0.0.1, 203.0.113.9", 401), ("203.0.113.9, 127.0.0.1", 401),
        ("nonsense", 401), ("", 401), ("10.1.1.1", 401), ("203.0.113.9, nonsense", 401),
    ):  # fmt: skip
        assert client.get(TASKS, headers={"X-Forwarded-For": told}).status_code == status, told
    assert client.get(TASKS, headers={"X-Real-IP": "203.0.113.9"}).status_code == 401


def test_who_comes_from_elsewhere_needs_a_token_unless_the_operator_lets_everybody_in(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    far = {"REMOTE_ADDR": "203.0.113.9"}
    assert make_client(product).get(TASKS, environ_base=far).status_code == 401
    behind = make_client(changed(product, host="0.0.0.0"))  # noqa: S104 - what is tested
    assert behind.get(TASKS).status_code == 401
    lenient = make_client(changed(product, host="0.0.0.0", allow_open=True))  # noqa: S104 - as above
    assert lenient.get(TASKS, environ_base=far).status_code == 200
    make(product)
    assert lenient.get(TASKS, environ_base=far).status_code == 401


def test_behind_a_proxy_with_tls_the_page_of_the_same_server_is_its_own(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    client = make_client(changed(product, trusted_proxies=("127.0.0.1/32",), allowed_hosts=("builds.example.org",)))
    headers = {
        "Host": "builds.example.org", "Origin": "https://builds.example.org", "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "127.0.0.1",
    }  # fmt: skip
    assert client.get(TASKS, headers=headers).status_code == 200
    assert client.get(TASKS, headers={**headers, "X-Forwarded-Proto": "http"}).status_code == 403


def test_named_hosts_are_the_only_names_also_on_an_open_address(
    make_client: Callable[[Product], CheckedClient], product: Product
) -> None:
    client = make_client(
        changed(product, host="0.0.0.0", allow_open=True, allowed_hosts=("builds.example.org",))  # noqa: S104
    )
    for host, status in (("builds.example.org", 200), ("BUILDS.example.org:8122", 200), ("evil.example.org", 403)):
        assert client.get(TASKS, headers={"Host": host}).status_code == status, host


# Headers.


def test_every_answer_tells_browsers_to_make_nothing_of_it(client: CheckedClient, product: Product) -> None:
    headers = headers_of(product, "alice", Scope.ADMIN)
    for path in (TASKS, "/nowhere", "/metrics", *OPEN):
        response = client.get(path, headers=headers)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    for path in (TASKS, f"{TASKS}/none", "/metrics"):
        assert client.get(path, headers=headers).headers["Cache-Control"] == "no-store"
    assert client.get(TASKS).headers["Cache-Control"] == "no-store"  # a 401, too


def test_an_artifact_keeps_its_own_policy(client: CheckedClient, host: BuildHost, product: Product) -> None:
    task_id = client.task()
    claim = host.run(task_id)
    host.keep(claim, {"page.html": b"<script>"})
    host.exit(claim)
    response = client.get(f"{TASKS}/{task_id}/artifacts/page.html")
    assert response.headers["Content-Security-Policy"] == "sandbox"
    assert response.headers["Cache-Control"] == "no-store"


def test_no_secret_of_a_token_is_in_the_store_or_the_log(
    client: CheckedClient, product: Product, caplog: pytest.LogCaptureFixture
) -> None:
    token, text = tokens.create(product.database, name="n", owner="alice", scopes=[Scope.ADMIN])
    secret = text.rpartition("_")[2]
    with caplog.at_level("DEBUG"):
        assert client.get(TASKS, headers=bearer(text)).status_code == 200
        assert client.post(TASKS, data=MANIFEST, content_type="text/yaml", headers=bearer(text)).status_code == 202
    told = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert token.id in told
    assert secret not in told
    assert secret not in repr(token)
    with product.database.read() as tx:
        rows = tx.execute(sa.select(table)).all()
    assert secret not in str(rows)
