"""Query parameters, and options in a body: each one is known and good, or the request is refused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from flask import request

from api.errors import invalid_parameter
from orchestrator import clock, manifest
from orchestrator.manifest import InvalidManifest
from orchestrator.states import State

MAX_INTEGER = 2**63 - 1
MAX_LABELS = 64
"""A task has no more of them (contract §1)."""


class Params:
    """The query of the present request. `known` names every parameter of the route; a prefix ends in `.`."""

    def __init__(self, *known: str) -> None:
        self._values = request.args
        for name in self._values:
            if name not in known and not any(one.endswith(".") and name.startswith(one) for one in known):
                allowed = ", ".join(known) or "none"
                raise invalid_parameter(name, f"unknown parameter {name!r}; this address takes: {allowed}")

    def text(self, name: str, longest: int = 1000) -> str | None:
        values = self._values.getlist(name)
        if len(values) > 1:
            raise invalid_parameter(name, f"{name} is given {len(values)} times; give it once")
        value = values[0] if values else None
        if value is not None and (len(value) > longest or "\x00" in value):
            raise invalid_parameter(name, f"{name} is too long or holds a NUL; at most {longest} characters")
        return value

    def integer(self, name: str, default: int, low: int, high: int = MAX_INTEGER) -> int:
        raw = self.text(name)
        if raw is None:
            return default
        if not (raw.isascii() and raw.isdigit() and len(raw) <= 19 and low <= int(raw) <= high):
            raise invalid_parameter(name, f"{name}={raw!r} is no whole number from {low} to {high}")
        return int(raw)

    def flag(self, name: str) -> bool:
        raw = self.text(name)
        if raw is None or raw.lower() in {"false", "0"}:
            return False
        if raw.lower() in {"true", "1"}:
            return True
        raise invalid_parameter(name, f"{name}={raw!r} is neither true nor false")

    def choice(self, name: str, default: str, choices: Iterable[str]) -> str:
        raw = self.text(name)
        if raw is None:
            return default
        if raw not in choices:
            raise invalid_parameter(name, f"{name}={raw!r} is not one of {', '.join(choices)}")
        return raw

    def instant(self, name: str) -> datetime | None:
        raw = self.text(name)
        if raw is None:
            return None
        try:
            # In a query a `+` that was not encoded arrives as a space.
            return clock.parse(raw.replace(" ", "+"))
        except (ValueError, OverflowError):  # the first and the last day have times that are in no UTC year
            raise invalid_parameter(name, f"{name}={raw!r} is no RFC 3339 time like 2026-01-29T12:00:00Z") from None

    def states(self) -> tuple[State, ...]:
        """`state`: a comma list."""
        raw = self.text("state")
        if raw is None:
            return ()
        try:
            return tuple(State(one.strip()) for one in raw.split(","))
        except ValueError:
            known = ", ".join(State)
            message = f"state={raw!r} holds a word that is no state; states are {known}"
            raise invalid_parameter("state", message) from None

    def labels(self) -> tuple[tuple[str, str], ...]:
        """`label.k=v` and `label=k=v`, all of them."""
        pairs = []
        for name, value in self._values.items(multi=True):
            if name.startswith("label."):
                pairs.append((name.removeprefix("label."), value))
            elif name == "label":
                key, equals, wanted = value.partition("=")
                if not equals:
                    raise invalid_parameter("label", f"label={value!r} is not of the form label=key=value")
                pairs.append((key, wanted))
        if any("\x00" in part for pair in pairs for part in pair):
            raise invalid_parameter("label", "a label holds a NUL")
        if len(pairs) > MAX_LABELS:
            raise invalid_parameter("label", f"{len(pairs)} labels are asked for; no task has more than {MAX_LABELS}")
        return tuple(pairs)


def no_params() -> None:
    """For routes without parameters."""
    Params()


def json_object() -> dict[str, Any]:
    """The JSON object in the body, empty when there is none. Raises what `manifest.read_object` raises."""
    raw = request.get_data()
    return manifest.read_object(raw, request.content_type or "") if raw else {}


def json_body(*known: str) -> dict[str, Any]:
    """Options in the body instead of the query: a JSON object with no other fields than `known`."""
    try:
        body = json_object()
    except InvalidManifest as error:
        raise invalid_parameter("body", f"the body is no JSON object: {error.errors[0].message}") from None
    unknown = sorted(set(body) - set(known))
    if unknown:
        allowed = ", ".join(known)
        raise invalid_parameter(unknown[0], f"unknown field {unknown[0]!r} in the body; it takes: {allowed}")
    return body
