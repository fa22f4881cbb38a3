"""H1: every route of the application, asked by nobody, by another owner, by the owner, by who reaches everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from api.scopes import rule_of
from orchestrator.access import Scope
from orchestrator.product import Product
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost
from tests.integration.api.tokens import Headers, headers_of

ALL = (Scope.TASK_CREATE, Scope.TASK_READ_ALL, Scope.TASK_CANCEL_ALL, Scope.TASK_ARTIFACTS_ALL)
UNKNOWN = "never-submitted"
NAMES = {"path": "report.md", "name": "host-1"}


def routes(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Every rule of the application with every method it takes itself."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("page."):  # its files are the same for everybody
            continue
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield rule, method


@pytest.fixture
def someones_task(product: Product, client: CheckedClient, host: BuildHost) -> Any:
    """Makes tasks of alice's that have ended and left an artifact; and her token."""
    alice = headers_of(product, "alice")

    def make() -> str:
        response = client.submit(headers=alice)
        assert response.status_code == 202, response.text
        task_id = str(response.json["task_id"])  # type: ignore[index]
        claim = host.run(task_id)
        host.say(claim, "alice's secret line\n")
        host.keep(claim, {"report.md": b"alice's"})
        host.exit(claim)
        return task_id

    return make, alice


def ask(client: CheckedClient, rule: Rule, method: str, task_id: str, headers: Headers) -> TestResponse:
    address = rule.rule
    for argument in rule.arguments:
        address = address.replace(f"<path:{argument}>", NAMES["path"])
        address = address.replace(f"<{argument}>", task_id if argument == "task_id" else NAMES.get(argument, "x"))
    assert "<" not in address, f"{address}: this test does not know what stands there"
    return client.open(address, method=method, headers=headers)


def body_of(response: TestResponse, task_id: str) -> object:
    """The body without what differs by nature: the id that was asked for, and the request's."""
    text = response.text.replace(task_id, "ID")
    return text.replace(response.headers["X-Request-Id"], "REQUEST")


def test_h1_a_task_exists_for_its_owner_and_for_who_reaches_everybodys_and_for_nobody_else(
    app: Flask, client: CheckedClient, product: Product, someones_task: Any
) -> None:
    make, alice = someones_task
    bob, everybodys = headers_of(product, "bob"), headers_of(product, "carol", *ALL)
    admin = headers_of(product, "root", Scope.ADMIN)
    seen = 0
    for rule, method in routes(app):
        if "task_id" not in rule.arguments:
            continue
        seen += 1
        where, task_id = f"{method} {rule.rule}", make()
        assert ask(client, rule, method, task_id, {}).status_code == 401, where
        others = ask(client, rule, method, task_id, bob)
        nobodys = ask(client, rule, method, UNKNOWN, bob)
        assert (others.status_code, nobodys.status_code) == (404, 404), where
        assert body_of(others, task_id) == body_of(nobodys, UNKNOWN), where
        assert set(others.headers.keys()) == set(nobodys.headers.keys()), where
        own = ask(client, rule, method, task_id, alice)
        assert own.status_code not in (401, 403, 404), f"{where}: {own.status_code}"
        for reaching in (everybodys, admin):
            again = ask(client, rule, method, task_id if method in ("GET", "HEAD") else make(), reaching)
            owners_alone = reaching is everybodys and rule_of(rule.endpoint).scopes[-1] is Scope.TASK_CREATE
            assert again.status_code == (404 if owners_alone else own.status_code), where
    assert seen >= 10


def test_h1_every_other_route_asks_for_its_scope(app: Flask, client: CheckedClient, product: Product) -> None:
    BuildHost(product).register()
    admin = headers_of(product, "root", Scope.ADMIN)
    for rule, method in routes(app):
        if "task_id" in rule.arguments:
            continue
        where, needs = f"{method} {rule.rule}", rule_of(rule.endpoint).scopes
        nobody = ask(client, rule, method, "", {}).status_code
        if not needs:
            assert nobody in (200, 503), where
            continue
        assert nobody == 401, where
        for scope in needs:
            others = [one for one in Scope if one not in (scope, Scope.ADMIN) and not one.startswith(f"{scope}:")]
            refused = ask(client, rule, method, "", headers_of(product, "bob", *others))
            assert refused.status_code == 403, where
            assert method == "HEAD" or refused.json["details"] == {"missing_scope": scope.value}, where  # type: ignore[index]
        for headers in (headers_of(product, "bob", *needs), admin):
            assert ask(client, rule, method, "", headers).status_code not in (401, 403, 429), where
