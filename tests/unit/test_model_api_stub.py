"""The stub of the Messages API, which the tests of the agent rest on: it says what its script says, and is strict."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.model_api.scenarios import HANG, Step, answer, check, marker, refuse, tool
from tests.model_api.sse import USAGE
from tests.model_api.stub import ModelApi

USER = {"role": "user", "content": "hello"}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def called(tool_use_id: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": tool_use_id, "name": "Bash", "input": {}}]}


def result(tool_use_id: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": tool_use_id, "content": "x"}]}


def ask(api: ModelApi, *messages: dict[str, Any], headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    asked = {"model": "m", "max_tokens": 10, "messages": list(messages), **body}
    return httpx.post(f"{api.url}/v1/messages?beta=true", json=asked, headers=headers, timeout=30)


def words(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return "".join(part["text"] for part in response.json()["content"] if part["type"] == "text")


def wait_for_a_request(api: ModelApi) -> None:
    deadline = time.monotonic() + 30
    while not api.requests:
        assert time.monotonic() < deadline, "no request has come"
        time.sleep(0.005)


def script(*steps: Step) -> dict[str, Sequence[Step]]:
    return {"default": steps}


def test_the_conversation_tells_which_answer_is_due() -> None:
    with ModelApi(script(answer("one"), answer("two"))) as api:
        assert words(ask(api, USER)) == "one"
        assert words(ask(api, USER, said("one"), USER)) == "two"
        assert words(ask(api, USER)) == "one"


def test_a_marker_chooses_the_scenario_and_begins_it_anew() -> None:
    with ModelApi({"first": [answer("1")], "second": [answer("2a"), answer("2b")]}) as api:
        begun = {"role": "user", "content": [{"type": "text", "text": f"please {marker('second')}"}]}
        assert words(ask(api, begun)) == "2a"
        assert words(ask(api, {"role": "user", "content": marker("first")}, said("1"), begun, said("2a"), USER)) == "2b"


def test_a_marker_in_a_tool_s_result_is_none() -> None:
    content = [{"type": "tool_result", "tool_use_id": "t", "content": marker("other")}]
    with ModelApi({"default": [answer("1"), answer("2")], "other": [answer("3")]}) as api:
        assert words(ask(api, USER, called("t"), {"role": "user", "content": content})) == "2"


def test_an_answer_nobody_wrote_is_refused_with_the_reason() -> None:
    with ModelApi(script(answer("one"))) as api:
        asked_too_often = ask(api, USER, said("one"), USER)
        unknown = ask(api, {"role": "user", "content": marker("nowhere")})
    assert asked_too_often.status_code == unknown.status_code == 400
    assert "has no answer 1" in asked_too_often.json()["error"]["message"]
    assert "no scenario 'nowhere'" in unknown.json()["error"]["message"]


def test_a_stream_comes_in_the_api_s_events() -> None:
    with ModelApi(script(answer("two words", tool("Bash", command="ls"), usage={"output_tokens": 7}))) as api:
        response = ask(api, USER, stream=True)
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.startswith("data")]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [event["delta"]["text"] for event in events[2:4]] == ["two", " words"]
    assert json.loads(events[6]["delta"]["partial_json"]) == {"command": "ls"}
    assert events[0]["message"]["usage"]["input_tokens"] == USAGE["input_tokens"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"] == {"output_tokens": 7}


def test_a_refusal_has_the_api_s_form() -> None:
    with ModelApi(script(refuse(529, "Overloaded"))) as api:
        response = ask(api, USER)
        assert ask(api, USER).status_code == 529
    assert response.status_code == 529
    assert response.json() == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def test_it_may_refuse_for_a_while_each_session_anew() -> None:
    with ModelApi(script(refuse(529, times=2), answer("at last"))) as api:
        for session in ("a", "b"):
            header = {"X-Claude-Code-Session-Id": session}
            assert [ask(api, USER, headers=header).status_code for _ in range(3)] == [529, 529, 200]


def test_it_hangs_until_it_is_released() -> None:
    with ModelApi(script(HANG, answer("at last"))) as api:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(words(ask(api, USER))))
        asking.start()
        wait_for_a_request(api)
        assert not answers
        api.release()
        asking.join(30)
        assert answers == ["at last"]


def test_its_end_lets_go_whoever_waits() -> None:
    with ModelApi(script(HANG, answer("never mind"))) as api:
        asking = threading.Thread(target=lambda: ask(api, USER))
        asking.start()
        wait_for_a_request(api)
    asking.join(30)
    assert not asking.is_alive()


def test_with_a_key_it_opens_to_that_key_alone() -> None:
    with ModelApi(script(answer("in")), key="right") as api:
        assert ask(api, USER, headers={"x-api-key": "wrong"}).json()["error"]["type"] == "authentication_error"
        assert words(ask(api, USER, headers={"x-api-key": "right"})) == "in"


def test_requests_are_kept_as_they_arrived() -> None:
    with ModelApi() as api:
        ask(api, USER, system=[{"type": "text", "text": "be brief"}], tools=[{"name": "Bash"}], headers={"X-A": "b"})
        (request,) = api.requests
    assert (request.model, request.system, request.tools) == ("m", "be brief", ["Bash"])
    assert request.headers["x-a"] == "b"
    assert request.messages == [USER]
    assert request.path == "/v1/messages?beta=true"


def test_tool_calls_must_be_answered_at_once() -> None:
    with ModelApi(script(answer("1"), answer("2"))) as api:
        assert ask(api, USER, called("t"), USER).status_code == 400
        assert ask(api, USER, called("t"), result("other")).status_code == 400
        assert words(ask(api, USER, called("t"), result("t"))) == "2"


def test_tokens_can_be_counted_and_nothing_else_is_there() -> None:
    with ModelApi() as api:
        assert httpx.post(f"{api.url}/v1/messages/count_tokens", json={}).json() == {"input_tokens": 1}
        assert httpx.get(f"{api.url}/v1/models").status_code == 404
        assert httpx.post(f"{api.url}/v1/files", json={}).status_code == 404
        assert httpx.head(api.url).status_code == 200
        assert api.strays == ["GET /v1/models", "POST /v1/files"]


@pytest.mark.parametrize(
    "step", [{}, {"blocks": ["text"]}, {"blocks": [{"text": "x", "tool": "y"}]}, {"refuse": 400, "x": 1}, {"say": "x"}]
)
def test_a_script_with_a_slip_is_refused_at_once(step: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no step"):
        ModelApi(script(step))


def test_a_script_may_be_json(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text(json.dumps(script(answer("x", tool("Bash", command="ls")), refuse(500), HANG)))
    check(json.loads(file.read_text()))
