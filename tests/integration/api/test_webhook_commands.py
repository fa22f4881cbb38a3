"""`sandbox webhooks` against the real server and a real receiver."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.cli import deferred, make_root
from orchestrator.webhooks.signing import headers as signed
from tests.integration.api.installation import MANIFEST
from tests.integration.api.live import LiveServer
from tests.integration.api.waiting import eventually
from tests.servers.receiver import Receiver, receiving
from tests.unit.test_cli import Ran, sandbox

ROOT = make_root({"webhooks": deferred("api.commands.webhooks:webhooks", "webhooks")})
URL = "https://hooks.example.org/sandbox"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    directory = tmp_path_factory.mktemp("webhooks")
    server = LiveServer(directory / "data", environment={"SANDBOX_WEBHOOK_PRIVATE_CIDRS": "127.0.0.1/32"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(autouse=True)
def nobody_else_is_told(server: LiveServer) -> Iterator[None]:
    """Webhooks are of the installation: one test's must not hear of another's tasks."""
    yield
    for one in told(server, "list")["webhooks"]:
        assert webhooks(server, "delete", one["id"]).code == 0


def webhooks(server: LiveServer, *args: str, stdin: str = "") -> Ran:
    return sandbox("webhooks", *args, server=server.url, stdin=stdin, root=ROOT)


def told(server: LiveServer, *args: str) -> Any:
    """What a command that succeeds prints as JSON."""
    ran = webhooks(server, *args, "--format", "json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def submitted(server: LiveServer, more: str = "") -> str:
    kind = {"Content-Type": "application/yaml"}
    answer = httpx.post(f"{server.url}/api/v1/tasks", content=MANIFEST + more, headers=kind)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def ended(server: LiveServer, more: str = "") -> str:
    """Submit a task, cancel it before a worker has it, and return its id."""
    task_id = submitted(server, more)
    assert httpx.delete(f"{server.url}/api/v1/tasks/{task_id}", timeout=60).status_code == 200
    return task_id


def rows(ran: Ran) -> list[list[str]]:
    """The cells of a list, without its heading."""
    assert ran.code == 0, ran.err
    return [re.split("  +", line) for line in ran.out.splitlines()[1:]]


def test_a_webhook_is_made_and_its_secret_is_shown_once(server: LiveServer) -> None:
    ran = webhooks(server, "create", URL, "-e", "terminal,state_change", "--event", "artifact", "--label", "team=a")
    assert ran.code == 0, ran.err
    made = {name: value.strip() for name, _, value in (line.partition(":") for line in ran.out.splitlines())}
    assert (made["url"], made["state"], made["signed"]) == (URL, "active", "yes")
    assert (made["events"], made["of"]) == ("state_change, terminal, artifact", "all tasks with team=a")
    assert made["secret"].startswith("whsec_")
    assert "it is shown this once" in ran.err
    shown, listed = webhooks(server, "show", made["id"]), webhooks(server, "list")
    assert rows(listed) == [[made["id"], "active", "state_change,terminal,artifact", "all tasks with team=a", URL]]
    assert made["secret"] not in shown.out + listed.out
    assert "signed:      yes" in shown.out


def test_a_secret_of_ones_own_is_read_from_a_file_and_signs(
    server: LiveServer, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    ran = webhooks(server, "create", receiver.url, "--secret-file", str(tmp_path / "secret"))
    assert (ran.code, ran.err) == (0, "")
    assert SECRET not in ran.out
    assert "secret" not in told(server, "create", URL, "--secret-file", str(tmp_path / "secret"))
    ended(server)
    eventually("it is told", lambda: receiver.received)
    (request,) = receiver.received
    at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    wanted = signed(request.id, at, request.body, SECRET)
    assert request.headers["webhook-signature"] == wanted["webhook-signature"]


def test_what_was_sent_is_listed_and_sent_once_more(server: LiveServer, receiver: Receiver) -> None:
    receiver.answer = lambda _request: 500
    webhook_id = told(server, "create", receiver.url)["id"]
    task_id = ended(server)

    def newest() -> list[str]:
        return next(iter(rows(webhooks(server, "deliveries", webhook_id))), [])

    eventually("it was tried", lambda: any("answered 500" in cell for cell in newest()))
    number, state, event, of, _, _, answer = newest()
    assert (state, event, of) == ("waiting", "terminal", task_id)
    assert answer.startswith("the receiver answered 500; next try ")
    assert rows(webhooks(server, "list"))[0][1] == "failing"
    receiver.answer = lambda _request: 204
    ran = webhooks(server, "redeliver", webhook_id, number)
    assert ran.code == 0
    assert f"`sandbox webhooks deliveries {webhook_id}` says how it ends" in ran.out
    eventually("it is delivered", lambda: newest()[1] == "delivered")
    assert newest()[6] == "204"
    assert int(newest()[5]) >= 2
    assert len({one.id for one in receiver.received}) == 1
    (delivery,) = told(server, "deliveries", webhook_id)["deliveries"]
    assert delivery["body"] == receiver.received[0].told


def test_a_disabled_webhook_says_why_and_how_it_works_again(server: LiveServer, receiver: Receiver) -> None:
    receiver.answer = lambda _request: 410
    webhook_id = told(server, "create", receiver.url)["id"]
    ended(server)
    eventually("it is disabled", lambda: rows(webhooks(server, "list"))[0][1] == "disabled")
    ran = webhooks(server, "show", webhook_id)
    assert re.search(r"^disabled:    .*410", ran.out, re.MULTILINE), ran.out
    assert f"`sandbox webhooks redeliver {webhook_id} NUMBER`" in ran.err
    receiver.answer = lambda _request: 204
    assert told(server, "redeliver", webhook_id, "1")["number"] == 1
    eventually("it works again", lambda: rows(webhooks(server, "list"))[0][1] == "active")
    assert webhooks(server, "show", webhook_id).err == ""


def test_webhooks_of_a_manifest_are_listed_by_its_task(server: LiveServer) -> None:
    task_id = submitted(server, f'notify: [{{url: "{URL}"}}]\n')
    made = [told(server, "create", URL)["id"] for _ in range(2)]
    ((own, *_, of, url),) = rows(webhooks(server, "list", "--task", task_id))
    assert (of, url) == (f"task {task_id}", URL)
    assert "signed:      no: its receiver cannot tell who sends" in webhooks(server, "show", own).out
    assert {row[0] for row in rows(webhooks(server, "list"))} == {*made}
    ran = webhooks(server, "list", "--limit", "1")
    assert len(rows(ran)) == 1
    assert "These are 1 of 2 webhooks; --limit shows more." in ran.err


def test_a_deleted_webhook_is_gone(server: LiveServer) -> None:
    webhook_id = told(server, "create", URL)["id"]
    assert told(server, "delete", webhook_id) == {"id": webhook_id, "deleted": True}
    ran = webhooks(server, "show", webhook_id)
    assert (ran.code, ran.out) == (3, "")
    assert "webhook_not_found" in ran.err


@pytest.mark.parametrize("args", [["show"], ["delete"], ["deliveries"], ["redeliver", "1"]], ids=lambda args: args[0])
@pytest.mark.parametrize("webhook_id", ["wh_0", "", "..", "a/b"])
def test_a_webhook_that_is_not_there_is_3(server: LiveServer, args: list[str], webhook_id: str) -> None:
    ran = webhooks(server, args[0], webhook_id, *args[1:])
    assert (ran.code, ran.out) == (3, "")
    assert "webhook_not_found" in ran.err


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["create", URL, "--event", "finished"], 2, "there is no event finished: use state_change, terminal"),
        (["create", URL, "--label", "team"], 2, "'team' is not key=value"),
        (["create", URL, "--label", "a=1", "--label", "a=2"], 2, "names the same key twice"),
        (["create", URL, "--secret-file", "/no/such/file"], 2, "/no/such/file"),
        (["create", "http://169.254.169.254/"], 4, "url"),
        (["create", "hooks.example.org"], 4, "url"),
        (["create", URL, "--secret-file", "-"], 4, "it has 0 characters"),
        (["create", URL, "--secret-file", str(Path(sys.executable))], 2, "holds no text; write the key as `whsec_`"),
        (["redeliver", "wh_0", "last"], 2, "'last' is not a valid integer"),
    ],
)
def test_what_cannot_be_made_says_why(server: LiveServer, args: list[str], code: int, why: str) -> None:
    ran = webhooks(server, *args)
    assert (ran.code, ran.out) == (code, "")
    assert why in ran.err
    assert told(server, "list")["webhooks"] == []
