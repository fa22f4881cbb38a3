"""The embedded broker with the verbs of a server: it is away when its directory cannot be used."""

import shutil
from pathlib import Path

from orchestrator.broker.app import BrokerSettings


class EmbeddedBroker:
    """A broker directory below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "broker"
        self._hidden = directory / "hidden"

    @property
    def url(self) -> str:
        """The URL for `SANDBOX_BROKER_URL`."""
        return BrokerSettings(directory=self._directory).effective_url

    def start(self) -> None:
        """Let it be used."""
        self._directory.unlink(missing_ok=True)
        if self._hidden.exists():
            self._hidden.rename(self._directory)

    def stop(self) -> None:
        """Let nobody use it; messages are kept."""
        if self._directory.is_dir():
            self._directory.rename(self._hidden)
        self._directory.write_text("a file is in the way")

    kill = stop

    def empty(self) -> None:
        """Forget all messages. Only while nobody can use it."""
        assert not self._directory.is_dir(), "a broker in use cannot be emptied"
        shutil.rmtree(self._hidden, ignore_errors=True)
