"""M1: the table of hostile manifests against the real server: refused over a socket, and by processes that live on.

In process, with the places of each error, the same texts are refused in tests/integration/api/test_manifest_attacks.py;
bodies without a length, and over 2 MiB, in tests/integration/api/test_server.py; globs in tests/unit/test_globs.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.installation import MANIFEST, open_product
from tests.integration.api.live import LiveServer
from tests.integration.api.test_manifest_attacks import ATTACKS, BYTES, JSON, YAML

BODIES: dict[str, tuple[str, bytes]] = {
    **{name: (kind, text.encode("utf-8", "surrogatepass")) for name, (kind, text) in ATTACKS.items()},
    **{f"{name} as {kind}": (kind, data) for name, data in BYTES.items() for kind in (YAML, JSON)},
}
ADDRESSES = (
    f"/tasks?limit={10**30}",
    f"/tasks?offset={10**30}",
    f"/tasks?offset=-{10**30}",
    "/tasks?limit=NaN",
    "/tasks?label.a=%00",
    "/tasks?parent_id=%00",
    f"/tasks/nobody/logs?after={10**30}",
    f"/tasks/nobody/artifacts?attempt={10**30}",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    directory = tmp_path_factory.mktemp("live") / "data"
    open_product(directory).database.close()
    live = LiveServer(directory)
    live.start()
    yield live
    live.stop()


@pytest.fixture
def api(server: LiveServer) -> Iterator[httpx.Client]:
    before = server.workers()
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as client:
        yield client
        submitted = client.post("/tasks", content=MANIFEST, headers={"Content-Type": YAML})
        assert submitted.status_code == 202, submitted.text
    assert server.workers() == before, "a process that served a hostile request is gone"


def test_m1_every_hostile_manifest_is_400_and_the_same_processes_answer_the_next_request(api: httpx.Client) -> None:
    for name, (kind, body) in BODIES.items():
        answer = api.post("/tasks", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 400, f"{name}: {answer.text[:500]}"
        assert answer.json()["error"] == "invalid_manifest", name
        assert answer.json()["errors"][0]["message"], name


def test_m1_a_number_no_column_holds_is_400_in_an_address_too(api: httpx.Client) -> None:
    for address in ADDRESSES:
        answer = api.get(address)
        assert answer.status_code in (400, 404), f"{address}: {answer.text[:500]}"
