"""Pages of other origins must not drive this API through a visitor's browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from orchestrator.product import Product
from orchestrator.settings import load
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST, open_product
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import headers_of

ALLOWED = "https://console.example.org"
TASKS = "/api/v1/tasks"
MakeClient = Callable[[Product], CheckedClient]


@pytest.fixture
def open_client(make_client: MakeClient, tmp_path: Path) -> Iterator[Callable[..., CheckedClient]]:
    products = []

    def make(**settings: object) -> CheckedClient:
        products.append(open_product(tmp_path / f"data{len(products)}", **settings))
        return make_client(products[-1])

    yield make
    for product in products:
        product.database.close()


FOREIGN = [
    "https://evil.example.org", "null", "http://localhost:9999", "https://localhost", "http://localhost.evil.org",
    "file://", "http://[", "http://[::1", "http://localhost@evil.org", "", "http://127.0.0.1", "é", "http://localhost/",
    "http://localhost:80@evil.org", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_is_403_for_every_method_and_route(client: CheckedClient, origin: str) -> None:
    headers = {"Origin": origin}
    assert_error(client.submit(headers=headers), 403, "forbidden")
    assert_error(client.get(TASKS, headers=headers), 403, "forbidden")
    assert_error(client.delete(f"{TASKS}/x", headers=headers), 403, "forbidden")
    assert_error(client.get("/metrics", headers=headers), 403, "forbidden")
    assert_error(client.get("/nowhere", headers=headers), 403, "forbidden")
    response = client.options(TASKS, headers={**headers, "Access-Control-Request-Method": "POST"})
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    assert client.get(TASKS).json["total_count"] == 0  # type: ignore[index]


def test_a_request_without_an_origin_and_one_of_the_own_pages_pass(client: CheckedClient) -> None:
    assert client.submit().status_code == 202
    assert client.submit(headers={"Origin": "http://localhost"}).status_code == 202
    own = {"Origin": "http://127.0.0.1:8122", "Host": "127.0.0.1:8122"}
    assert client.submit(headers=own).status_code == 202


def test_an_origin_the_operator_names_passes_and_its_browser_may_read_the_answer(
    open_client: Callable[..., CheckedClient],
) -> None:
    client = open_client(allowed_origins=(ALLOWED,))
    response = client.submit(headers={"Origin": ALLOWED})
    assert response.status_code == 202
    assert response.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert "Origin" in response.headers["Vary"]
    assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]
    assert_error(client.submit(headers={"Origin": ALLOWED + ".evil.org"}), 403, "forbidden")
    refused = client.submit("x", headers={"Origin": ALLOWED})
    assert refused.status_code == 400
    assert refused.headers["Access-Control-Allow-Origin"] == ALLOWED


def test_the_browser_of_an_allowed_origin_is_told_which_methods_and_headers_it_may_send(
    open_client: Callable[..., CheckedClient],
) -> None:
    client = open_client(allowed_origins=(ALLOWED,))
    asked = {"Origin": ALLOWED, "Access-Control-Request-Method": "DELETE"}
    response = client.options(f"{TASKS}/some-task", headers=asked)
    assert response.status_code == 200
    assert "DELETE" in response.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in response.headers["Access-Control-Allow-Headers"]
    assert "Last-Event-ID" in response.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    "host", ["evil.example.org", "evil.example.org:8122", "localhost.evil.org", "", "[", "a b", "127.0.0.1.nip.example"]
)
def test_a_foreign_name_for_this_loopback_server_is_refused_since_it_may_be_rebound(
    client: CheckedClient, host: str
) -> None:
    page = {"Host": host, "Origin": f"http://{host}"}
    assert client.submit(headers=page).status_code in (400, 403)
    assert client.get(TASKS, headers={"Host": host or "."}).status_code in (400, 403)
    assert client.get(TASKS).json["total_count"] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    "host", ["localhost:8122", "127.0.0.1:8122", "[::1]:8122", "LOCALHOST", "192.168.1.5", "127.1.2.3"]
)
def test_addresses_and_localhost_are_names_of_this_server(client: CheckedClient, host: str) -> None:
    assert client.get(TASKS, headers={"Host": host}).status_code == 200


def test_behind_a_proxy_the_name_of_an_allowed_origin_is_a_name_of_this_server(
    open_client: Callable[..., CheckedClient],
) -> None:
    client = open_client(allowed_origins=(ALLOWED,))
    assert client.get(TASKS, headers={"Host": "console.example.org"}).status_code == 200


WIDE = "0.0.0.0"  # noqa: S104 - what is tested
REBOUND = {"Host": "evil.example.org:8122", "Origin": "http://evil.example.org:8122"}


def test_a_page_that_re_binds_its_name_cannot_drive_an_open_server_on_any_address(
    open_client: Callable[..., CheckedClient],
) -> None:
    client = open_client(host=WIDE, allow_open=True)
    assert_error(client.submit(headers=REBOUND), 403, "forbidden")
    assert_error(client.get(TASKS, headers={"Host": "evil.example.org"}), 403, "forbidden")
    for host in ("localhost:8122", "192.0.2.1:8122", "[::1]:8122"):
        assert client.get(TASKS, headers={"Host": host}).status_code == 200, host


def test_the_name_that_an_open_server_listens_on_is_its_own(open_client: Callable[..., CheckedClient]) -> None:
    client = open_client(host="Builds.example.org", allow_open=True)
    assert client.get(TASKS, headers={"Host": "builds.example.org:8122"}).status_code == 200


def test_with_a_token_made_a_server_on_another_address_answers_under_every_name_and_at_once(
    make_client: MakeClient, product: Product
) -> None:
    """The first request after the token was made, in a process that was never asked for one."""
    client = make_client(replace(product, settings=replace(product.settings, host=WIDE, allow_open=True)))
    named = {"Host": "builds.example.org", **headers_of(product)}
    assert client.get(TASKS, headers=named).status_code == 200
    assert_error(client.get(TASKS, headers={"Host": "builds.example.org"}), 401, "unauthorized")
    assert_error(client.get(TASKS, headers={**named, "Origin": "http://x.org"}), 403, "forbidden")


def test_with_compose_the_api_answers_under_the_names_its_parts_call_it_by() -> None:
    services = yaml.safe_load((Path(__file__).parents[3] / "compose.yaml").read_text())["services"]
    environment = services["api"]["environment"]
    named = str(environment["SANDBOX_ALLOWED_HOSTS"]).replace("${SANDBOX_ALLOWED_HOSTS:-}", "")
    settings = load({"SANDBOX_ALLOWED_HOSTS": named, "SANDBOX_HOST": environment["SANDBOX_HOST"]})
    assert {urlsplit(services["worker"]["environment"]["SANDBOX_SERVER"]).hostname, "localhost"} == {
        *settings.allowed_hosts
    }


def test_a_form_of_a_foreign_page_that_sends_no_origin_cannot_submit(client: CheckedClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = client.post(TASKS, data=MANIFEST, content_type=content_type)
        assert_error(response, 415, "unsupported_content_type")
