"""The options every client command takes, and the types of option values that several share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from api.client import Client
from api.commands.render import FORMS, Output
from orchestrator.quantities import duration_seconds

DEFAULT_SERVER = "http://localhost:8122"
Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Session:
    """What a client command works with."""

    client: Client
    output: Output


def format_option(function: Command) -> Command:
    """Add `--format`; the command receives it as `form`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMS),
        help="How to print the result. By default lists are tables on a terminal, all else is text.",
    )(function)


def client_command(*, short_server: bool = True, listing: bool = False) -> Callable[[Command], Command]:
    """Add `--server`, `--token` and `--format`; the command receives a `Session` as its first argument.

    `short_server` is False where `-s` means something else; `listing` makes tables the default on a terminal.
    """
    flags = ("--server", "-s") if short_server else ("--server",)

    def decorate(function: Command) -> Command:
        @format_option
        @click.option(
            "--ca-file",
            envvar=["SANDBOX_CA_FILE", "SSL_CERT_FILE"],
            type=click.Path(path_type=Path),
            help="PEM file of the authorities to believe in, for https [env: SANDBOX_CA_FILE, SSL_CERT_FILE].",
        )
        @click.option("--token", envvar="SANDBOX_TOKEN", help="The server's access token [env: SANDBOX_TOKEN].")
        @click.option(
            *flags,
            envvar="SANDBOX_SERVER",
            default=DEFAULT_SERVER,
            show_default=True,
            metavar="URL",
            help="The server [env: SANDBOX_SERVER].",
        )
        @functools.wraps(function)
        def command(
            *args: Any, server: str, token: str | None, ca_file: Path | None, form: str | None, **options: Any
        ) -> None:
            with Client(server, token, ca_file=ca_file) as client:
                function(Session(client, Output.chosen(form, listing=listing)), *args, **options)

        return command

    return decorate


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def ask(question: str, *, yes: bool) -> None:
    """Ask where there is somebody to ask; raise `Abort` on a no."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def words_of(kind: str, known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what reads a comma list of `known` words, each a `kind`; it raises `BadParameter` for others."""
    words = tuple(known)

    def read(text: str) -> tuple[str, ...]:
        named = tuple(part.strip() for part in text.split(","))
        unknown = [word for word in named if word not in words]
        if unknown:
            raise click.BadParameter(f"there is no {kind} {', '.join(unknown)}: use {', '.join(words)}")
        return named

    return read


def given_or_read(text: str) -> str:
    """Return a text of the command line, for - what standard input holds, without its last line end."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def duration(text: str) -> int:
    """Return the seconds of `<n>s|m|h`, as in the manifest; raise `BadParameter` for anything else."""
    try:
        return duration_seconds(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a duration: write a number and s, m or h, for example 90s or 10m"
        ) from None


def moment(text: str) -> str:
    """Return RFC 3339 in UTC for a time in that form or a duration before now; else raise `BadParameter`."""
    try:
        at = datetime.now(UTC) - timedelta(seconds=duration_seconds(text))
    except (ValueError, OverflowError):
        at = _absolute(text)
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _absolute(text: str) -> datetime:
    advice = "write 2026-01-29T10:15:00Z, or a duration before now such as 10m"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time: {advice}") from None
    if at.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone, so it is not one moment: {advice}")
    return at
