"""Answers that take their time: how many of them one caller may have, and that they end with its access."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder, TestResponse

from api import callers, capacity
from api.parts import KEY
from orchestrator.access import Scope
from orchestrator.models import Claim
from orchestrator.product import Product
from orchestrator.services import tokens
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import Headers, headers_of, make
from tests.integration.api.waiting import Background, chance, eventually

TASK = "/api/v1/tasks/maker"
LASTING = ["logs?follow=true", "logs", "artifacts/big.bin", "artifacts.tar.gz"]
BIG = chance(3).randbytes(3 << 20)


@pytest.fixture
def alice(client: CheckedClient, product: Product) -> Headers:
    return headers_of(product)


@pytest.fixture
def claim(client: CheckedClient, host: BuildHost, alice: Headers) -> Claim:
    response = client.submit(
        'version: "1"\nkind: Task\nmetadata: {name: m, id: maker}\nrun: {script: "true"}\n', headers=alice
    )
    assert response.status_code == 202, response.text
    claim = host.run("maker")
    host.say(claim, "begun\n")
    host.keep(claim, {"big.bin": BIG})
    return claim


@pytest.fixture
def one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "MOST_OF_ONE", 1)


def taken(client: CheckedClient) -> int:
    count: int = client.application.extensions[KEY].callers.places.taken()
    return count


def assert_full(response: TestResponse) -> None:
    body = assert_error(response, 429, "rate_limit_exceeded")
    assert int(response.headers["Retry-After"]) > 0
    assert "open" in str(body["message"])


@pytest.mark.usefixtures("claim", "one_each")
@pytest.mark.parametrize("path", LASTING)
def test_a_token_has_so_many_long_answers_at_once_and_gets_the_place_back_when_one_is_closed(
    client: CheckedClient, product: Product, alice: Headers, path: str
) -> None:
    first = client.get(f"{TASK}/{path}", headers=alice)
    assert first.status_code == 200
    for other in LASTING:
        assert_full(client.get(f"{TASK}/{other}", headers=alice))
    assert client.get(TASK, headers=alice).status_code == 200  # what is answered at once needs no place
    second = client.get(f"{TASK}/{path}", headers=headers_of(product))
    assert second.status_code == 200
    first.close()
    second.close()
    again = client.get(f"{TASK}/{path}", headers=alice)
    assert again.status_code == 200
    again.close()
    assert taken(client) == 0


@pytest.mark.usefixtures("claim")
@pytest.mark.parametrize("path", LASTING)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_that_vanishes_before_the_first_byte_leaves_its_place(
    app: Flask, client: CheckedClient, alice: Headers, path: str, method: str
) -> None:
    environ = EnvironBuilder(f"{TASK}/{path}", method=method, headers=list(alice.items())).get_environ()
    answer: Iterable[bytes] = app.wsgi_app(environ, lambda *_: lambda _: None)
    if method == "GET":
        assert taken(client) == 1
    answer.close()  # type: ignore[attr-defined]
    assert taken(client) == 0


@pytest.mark.usefixtures("claim")
def test_an_answer_that_fails_takes_no_place(
    client: CheckedClient, alice: Headers, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(product.artifacts, "open", gone)
    for path, status in (("artifacts/big.bin", 404), ("logs?tail=x", 400)):
        response = client.get(f"{TASK}/{path}", headers=alice)
        assert response.status_code == status
        response.close()
    assert taken(client) == 0


@pytest.mark.usefixtures("one_each")
def test_a_delete_that_waits_takes_a_place_and_one_that_is_refused_cancels_nothing(
    client: CheckedClient, host: BuildHost, claim: Claim, alice: Headers
) -> None:
    assert client.submit(headers=alice).status_code == 202
    other = next(one["id"] for one in client.get("/api/v1/tasks", headers=alice).json["tasks"] if one["id"] != "maker")  # type: ignore[index]
    waiting = Background(client.application.test_client().delete, f"{TASK}?wait=60", headers=alice)
    eventually("it waits", lambda: taken(client) == 1)
    assert_full(client.delete(f"/api/v1/tasks/{other}?wait=1", headers=alice))
    assert client.get(f"/api/v1/tasks/{other}", headers=alice).json["cancel"] is None  # type: ignore[index]
    assert client.delete(f"/api/v1/tasks/{other}?wait=0", headers=alice).status_code == 200
    eventually("the wish is stored", lambda: client.get(TASK, headers=alice).json["cancel"])  # type: ignore[index]
    host.confirm_cancel(claim)
    waiting.result().close()
    assert taken(client) == 0


@pytest.mark.usefixtures("one_each")
def test_an_open_api_and_administrators_have_more_places(
    client: CheckedClient, host: BuildHost, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "MOST_TRUSTED", 2)
    task = client.task()
    host.run(task)
    path = f"/api/v1/tasks/{task}/logs?follow=true"

    def assert_two(headers: Headers) -> None:
        both = [client.get(path, headers=headers) for _ in range(2)]
        assert {one.status_code for one in both} == {200}
        assert_full(client.get(path, headers=headers))
        for one in both:
            one.close()

    assert_two({})
    assert_two(headers_of(product, "ops", Scope.ADMIN))


@pytest.mark.usefixtures("claim")
@pytest.mark.parametrize("path", ["artifacts/big.bin", "artifacts.tar.gz"])
def test_a_download_is_cut_when_its_token_is_revoked(
    client: CheckedClient, product: Product, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(callers, "STANDING_SECONDS", 0)
    token_id, headers = make(product)
    response = client.get(f"{TASK}/{path}", headers=headers)
    chunks = iter(response.response)
    assert next(chunks)
    tokens.revoke(product.database, token_id)
    with pytest.raises(ConnectionResetError, match="lost its access"):
        list(chunks)
    response.close()
