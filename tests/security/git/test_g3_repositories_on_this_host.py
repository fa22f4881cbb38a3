"""G3: a repository's URL leads to no server of this host or its network, in no spelling.

Redirects and submodules to other hosts: tests/integration/sandbox/test_egress.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.security.git.cloning import assert_clone_failed, submit_clone

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another network namespace"),
]

HOSTS = [
    "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]",  # noqa: S104 - a URL
    "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "LOCALHOST.", "user@127.0.0.1",
]  # fmt: skip
ELSEWHERE = ["http://169.254.169.254/latest/r.git", "http://[fd00:ec2::254]/latest/r.git", "http://2852039166/r.git"]


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A server on this host, its port and the requests that reached it."""
    reached: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append(self.requestline)
            self.send_error(404)

        do_CONNECT = do_POST = do_GET  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1], reached
        server.shutdown()
        thread.join()


def test_g3_no_spelling_of_an_address_of_this_host_or_of_a_metadata_service_is_dialled(
    api: httpx.Client, listener: tuple[int, list[str]]
) -> None:
    port, reached = listener
    urls = [*(f"http://{host}:{port}/r.git" for host in HOSTS), *ELSEWHERE]
    submitted = {url: submit_clone(api, {"url": url}) for url in urls}
    for url, task_id in submitted.items():
        if task_id:
            message = assert_clone_failed(api, task_id)["outcome"]["message"]
            assert "404" not in message, f"{url}: {message}"
    assert reached == []
