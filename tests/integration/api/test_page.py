"""The web page: what is served, and the policy it is served under. That it works is shown in tests/e2e/browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from api import page
from orchestrator.product import Product
from orchestrator.states import TERMINAL, State
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.test_errors import assert_error
from tests.integration.api.tokens import headers_of

SCRIPTS = sorted(name for name in page.ASSETS if name.endswith(".js"))
IMPORT = re.compile(r'^(?:import|export)\b[^;]*?from "\./([^"]+)";', re.MULTILINE)
ASSET = re.compile(r"/assets/([A-Za-z0-9._-]+)")


def text_of(name: str) -> str:
    return page.ASSETS[name].body.decode()


def policy(client: CheckedClient, path: str) -> dict[str, list[str]]:
    """The content security policy of an answer, by directive."""
    header = client.get(path).headers["Content-Security-Policy"]
    return {name: sources for name, *sources in (one.split() for one in header.split(";"))}


def test_the_page_is_at_the_root_for_everybody_also_on_a_closed_server(client: CheckedClient, product: Product) -> None:
    headers_of(product)  # from the first token on, the API is closed
    assert_error(client.get("/api/v1/tasks"), 401, "unauthorized")
    response = client.get("/")
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.text.startswith("<!doctype html>")
    assert client.get("/assets/main.js").status_code == 200


@pytest.mark.parametrize("path", ["/", "/assets/main.js", "/assets/style.css", "/assets/log-worker.js"])
def test_the_policy_lets_nothing_run_but_the_pages_own_files(client: CheckedClient, path: str) -> None:
    found = policy(client, path)
    assert found["default-src"] == found["base-uri"] == found["form-action"] == found["frame-ancestors"] == ["'none'"]
    assert found["style-src"] == found["connect-src"] == found["worker-src"] == ["'self'"]
    inline = re.findall(r"<script>(.*?)</script>", text_of(page.INDEX), re.DOTALL)
    assert inline == [(page.DIRECTORY / "loading.js").read_text()]
    digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    assert found["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert found["img-src"] == ["'self'", "blob:", "data:"]
    assert found["require-trusted-types-for"] == ["'script'"]
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & {source for sources in found.values() for source in sources}


@pytest.mark.parametrize("path", ["/", "/assets/main.js"])
def test_a_browser_asks_each_time_and_is_told_when_nothing_has_changed(client: CheckedClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


def test_every_file_of_the_page_is_served_with_its_type(client: CheckedClient) -> None:
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for name in page.ASSETS.keys() - {page.INDEX}:
        response = client.get(f"/assets/{name}")
        assert response.status_code == 200, name
        assert response.data == (page.DIRECTORY / name).read_bytes()
        assert response.mimetype == types[name.rpartition(".")[2]], name


@pytest.mark.parametrize(
    "name",
    [
        "missing.js",
        "index.html",
        "../page.py",
        "..%2Fpage.py",
        "%2e%2e/page.py",
        "main.js/",
        "a/b.js",
        "%00",
        "MAIN.JS",
        "",
    ],
)
def test_nothing_else_is_served(client: CheckedClient, name: str) -> None:
    assert_error(client.get(f"/assets/{name}"), 404, "not_found")


def test_an_unknown_parameter_of_a_file_is_refused_as_everywhere(client: CheckedClient) -> None:
    assert client.get("/?utm_source=chat").status_code == 200, "whatever a mail program adds to a link of the page"
    assert_error(client.get("/assets/main.js?v=1"), 400, "invalid_parameter")


def test_the_page_is_shown_to_no_page_of_a_foreign_origin_or_name(client: CheckedClient) -> None:
    assert_error(client.get("/", headers={"Origin": "https://evil.example.org"}), 403, "forbidden")
    assert_error(client.get("/", headers={"Host": "evil.example.org"}), 403, "forbidden")
    headers = client.get("/").headers
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_every_file_that_the_page_names_is_there_and_none_is_left_over() -> None:
    named = set(ASSET.findall(text_of(page.INDEX))) | {"icon.svg"}
    waiting = [name for name in named if name.endswith(".js")]
    while waiting:
        text = text_of(waiting.pop())
        found = set(IMPORT.findall(text)) | set(ASSET.findall(text)) | set(re.findall(r'URL\("\./([^"]+)"', text))
        waiting += [name for name in found - named if name.endswith(".js")]
        named |= found
    assert named == page.ASSETS.keys() - {page.INDEX}


FORBIDDEN = {
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "createContextualFragment",
    "srcdoc", "eval(", "new Function", "javascript:",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_of_the_page_takes_a_text_as_html_or_code(name: str) -> None:
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text_of(name), flags=re.DOTALL)
    assert not [word for word in FORBIDDEN if word in code]


@pytest.mark.parametrize("name", sorted(page.ASSETS))
def test_the_page_loads_nothing_from_elsewhere(name: str) -> None:
    addresses = re.findall(r"""https?://[^\s"'`)<]+""", text_of(name))
    harmless = ("http://www.w3.org/", "https://git.example.com/")  # names of XML, and an example's repository
    assert not [one for one in addresses if not one.startswith(harmless)]
    assert "@import" not in text_of(name)


def test_the_markup_has_no_inline_style_and_the_one_script_of_the_policy() -> None:
    markup = text_of(page.INDEX)
    assert not re.search(r"<style|\sstyle=|\son\w+=", markup)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", markup, re.DOTALL)
    assert [body for body in scripts if body] == [(page.DIRECTORY / "loading.js").read_text()]


def listed(name: str) -> list[str]:
    """A constant list of states.js."""
    found = re.search(rf"export const {name} = (\[[^\]]*\]);", text_of("states.js"))
    assert found
    states: list[str] = json.loads(found[1])
    return states


def test_the_page_knows_the_states_that_there_are() -> None:
    assert set(listed("TERMINAL")) == TERMINAL
    assert listed("PHASES") == [state for state in State if state not in TERMINAL]
    grouped = [
        state for group in re.findall(r"states: (\[[^\]]*\])", text_of("states.js")) for state in json.loads(group)
    ]
    assert sorted(grouped) == sorted(State)
    meanings = re.search(r"const MEANING = \{(.*?)\};", text_of("states.js"), re.DOTALL)
    assert meanings
    assert set(re.findall(r"^\s+(\w+):", meanings[1], re.MULTILINE)) == set(State)
