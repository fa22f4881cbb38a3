"""What of a command's two streams may be stored: all but its secrets, or nothing when they are not known any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.redaction import NOTHING_SECRET, Held, OtherForms, RedactedStream, Redactor


class OutputRedaction:
    """Sits between intake and journal rows. Its state, stored with the rows, holds not one byte of output."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        self._stored = dict(stored or {})
        self._streams: dict[str, RedactedStream] | None = None
        self._told = bool(self._stored.get("withheld"))
        self._withheld: str | None = None

    def use(self, redactor: Redactor, withheld: str | None) -> None:
        """Go on with these secrets, or with none of them because of `withheld`: then nothing more is shown."""
        self._withheld = withheld
        if redactor is NOTHING_SECRET:
            return
        try:
            self._streams = {name: RedactedStream(redactor, self._held(name)) for name in ("stdout", "stderr")}
        except OtherForms as error:
            self._withheld = str(error)

    def _held(self, stream: str) -> Held | None:
        stored = self._stored.get(stream)
        return Held.load(stored) if stored else None

    def take(self, stream: str, data: bytes) -> bytes:
        """What may be stored by now; the rest is held back, or withheld."""
        if self.withholding:
            return b""
        return data if self._streams is None else self._streams[stream].feed(data)

    @property
    def withholding(self) -> bool:
        """True when nothing is shown any more, by this worker or already by one before it."""
        return self._withheld is not None or self._told

    def reason_to_tell(self) -> str | None:
        """Why the rest is withheld, once."""
        if self._told or self._withheld is None:
            return None
        self._told = True
        return f"the rest of the output is withheld: {self._withheld}"

    def sever(self) -> dict[str, bytes]:
        """What stands for what is held back, by stream: what follows may not be what followed it."""
        if self.withholding or self._streams is None:
            return {}
        return {name: mask for name, stream in self._streams.items() if (mask := stream.sever())}

    def finish(self) -> dict[str, bytes]:
        """What was held back, by stream: nothing follows."""
        if self.withholding or self._streams is None:
            return {}
        return {name: rest for name, stream in self._streams.items() if (rest := stream.finish())}

    def dump(self) -> dict[str, Any]:
        if self.withholding:
            return {"withheld": self._told}
        held = {name: stream.held() for name, stream in (self._streams or {}).items()}
        return {name: one.dump() for name, one in held.items() if one is not None}
