"""The scripted model of these tests: one stub for all, each test with a script of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.model_api.scenarios import DEFAULT, Step, answer, check, marker, tool
from tests.model_api.stub import ModelApi, Seen

DATABASE = {
    "question": "Which database?",
    "header": "Database",
    "options": [{"label": "SQLite", "description": "a file"}, {"label": "PostgreSQL", "description": "a server"}],
    "multiSelect": False,
}
ASKS = answer("I must ask.", tool("AskUserQuestion", questions=[DATABASE]))


class Model:
    """A stub that runs. `plays` adds a script; the marker that it returns belongs into the prompt."""

    def __init__(self, api: ModelApi, script: dict[str, list[Step]]) -> None:
        self._api = api
        self._script = script
        self.url = api.url

    def plays(self, *steps: Step) -> str:
        """Return the marker of a script that no other test uses."""
        name = f"test-{len(self._script)}"
        check({name: steps})
        self._script[name] = list(steps)
        return marker(name)

    def plays_unasked(self, *steps: Step) -> None:
        """What a prompt without a marker gets, from now on."""
        check({DEFAULT: steps})
        self._script[DEFAULT] = list(steps)

    def asked(self, mark: str) -> list[Seen]:
        """The requests of the conversations that hold the marker, in their order."""
        return [one for one in self.requests if f"{mark}\n" in f"{words(one.messages)}\n"]

    @property
    def requests(self) -> list[Seen]:
        """All of them."""
        return self._api.requests

    @property
    def strays(self) -> list[str]:
        """Requests for what the API does not have; the relay lets none of them through."""
        return self._api.strays


@contextmanager
def running_model(key: str) -> Iterator[Model]:
    """A model that answers only who has the key."""
    script: dict[str, list[Step]] = {}
    with ModelApi(script, key=key) as api:
        yield Model(api, script)


def bash(command: str, **more: Any) -> dict[str, Any]:
    """A call of the agent's shell."""
    return tool("Bash", command=command, description="run it", **more)


def words(messages: Any) -> str:
    """All texts of a conversation, each of them on lines of its own: prompts, answers, results of tools."""
    return "\n".join(_texts(messages))


def _texts(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, list):
        for one in found:
            yield from _texts(one)
    elif isinstance(found, dict):
        for name in ("content", "text"):
            if name in found:
                yield from _texts(found[name])
