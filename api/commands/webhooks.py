"""`sandbox webhooks`: make, list, show and delete webhooks; what they were sent, and sending it once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import click

from api.commands.listing import label_option, labels_given, limit_option, print_page
from api.commands.options import Session, ask, client_command, words_of, yes_option
from api.commands.render import Output, short_time
from orchestrator.webhooks.events import DEFAULT, Event

COLUMNS = ("id", "state", "events", "of", "url")
DELIVERY_COLUMNS = ("number", "state", "event", "task", "created", "tries", "answer")

Webhook = Mapping[str, Any]
Delivery = Mapping[str, Any]


@click.group()
def webhooks() -> None:
    """Make, list, show and delete webhooks; see what they were sent, and send it once more."""


@webhooks.command()
@click.argument("url")
@click.option(
    "--event",
    "-e",
    "events",
    type=words_of("event", Event),
    metavar="EVENT,...",
    multiple=True,
    help=f"Tell of these: {', '.join(Event)}. Without it: {', '.join(DEFAULT)}.",
)
@label_option
@click.option(
    "--secret-file",
    type=click.File("rb"),
    help="Sign with the secret in this file, a text (- reads standard input); without it the server makes one.",
)
@client_command()
def create(
    session: Session,
    url: str,
    *,
    events: Sequence[tuple[str, ...]],
    labels: Sequence[tuple[str, str]],
    secret_file: BinaryIO | None,
) -> None:
    """Make a webhook: URL is sent what happens from now on to all tasks that you may read.

    A secret that the server makes is printed this once, and shown to nobody again.
    """
    made = session.client.webhooks.create(
        url,
        events=[event for group in events for event in group],
        labels=labels_given(labels),
        secret=_secret_in(secret_file) if secret_file else None,
    )
    _print(session.output, made)
    if "secret" in made:
        session.output.note("Keep the secret now: it is shown this once. Your receiver verifies signatures with it.")


@webhooks.command("list")
@click.option("--task", "task_id", metavar="ID", help="Those that `notify` in the manifest of this task asked for.")
@limit_option(100)
@client_command(listing=True)
def list_webhooks(session: Session, *, task_id: str | None, limit: int) -> None:
    """List the webhooks that you may see, and whether they work; with --task those of its manifest instead."""
    found = session.client.webhooks.list(task_id=task_id, limit=limit)
    if session.output.is_json:
        session.output.json(found)
    else:
        print_page(session.output, found, "webhooks", COLUMNS, [_row(one) for one in found["webhooks"]])


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@client_command()
def show(session: Session, webhook_id: str) -> None:
    """Show what is known about webhook ID; its secret is not."""
    one = session.client.webhooks.get(webhook_id)
    _print(session.output, one)
    if one.get("disabled_at"):
        session.output.note(
            "To enable it, repair its receiver and send one of its deliveries again: "
            f"`sandbox webhooks deliveries {webhook_id}`, then `sandbox webhooks redeliver {webhook_id} NUMBER`."
        )


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@yes_option
@client_command()
def delete(session: Session, webhook_id: str, *, yes: bool) -> None:
    """Delete webhook ID and the log of its deliveries. On a terminal the command asks first."""
    ask(f"Delete webhook {webhook_id}, and what still waits to be delivered?", yes=yes)
    session.client.webhooks.delete(webhook_id)
    if session.output.is_json:
        session.output.json({"id": webhook_id, "deleted": True})
    else:
        session.output.line(f"{webhook_id} deleted; its receiver is told nothing more")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@limit_option(20)
@client_command(listing=True)
def deliveries(session: Session, webhook_id: str, *, limit: int) -> None:
    """List what webhook ID was sent and how its receiver answered; --format json has the bodies, too."""
    found = session.client.webhooks.deliveries(webhook_id, limit=limit)
    if session.output.is_json:
        session.output.json(found)
        return
    rows = [_delivery(one) for one in found["deliveries"]]
    print_page(session.output, found, "deliveries", DELIVERY_COLUMNS, rows)


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@click.argument("number", type=click.IntRange(min=1))
@client_command()
def redeliver(session: Session, webhook_id: str, number: int) -> None:
    """Send delivery NUMBER of webhook ID once more, at once. A success enables a disabled webhook."""
    sent = session.client.webhooks.redeliver(webhook_id, number)
    if session.output.is_json:
        session.output.json(sent)
    else:
        session.output.line(
            f"delivery {number} is sent again; `sandbox webhooks deliveries {webhook_id}` says how it ends"
        )


def _secret_in(file: BinaryIO) -> str:
    """The text of the file without its last line end; its UTF-8 is the key, whatever the locale of this machine."""
    try:
        return file.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.BadParameter(
            "the secret file holds no text; write the key as `whsec_` and its base64", param_hint="--secret-file"
        ) from None


def _print(output: Output, one: Webhook) -> None:
    if output.is_json:
        output.json(one)
    else:
        output.fields(_fields(one))


def _state(one: Webhook) -> str:
    if one.get("disabled_at"):
        return "disabled"
    return "failing" if one.get("failing_since") else "active"


def _tasks_of(one: Webhook) -> str:
    """Of which tasks it tells."""
    if one.get("task_id"):
        return f"task {one['task_id']}"
    labels = ", ".join(f"{key}={value}" for key, value in (one.get("labels") or {}).items())
    whose = "all tasks" if one.get("owner") is None else f"tasks of {one['owner']}"
    return whose + (f" with {labels}" if labels else "")


def _row(one: Webhook) -> tuple[object, ...]:
    return one["id"], _state(one), ",".join(one["events"]), _tasks_of(one), one["url"]


def _fields(one: Webhook) -> list[tuple[str, object]]:
    """What people want to know about one webhook, in their order; None is left out."""
    return [
        ("id", one["id"]),
        ("url", one["url"]),
        ("state", _state(one)),
        ("disabled", one.get("disabled_reason")),
        ("disabled at", short_time(one["disabled_at"]) if one.get("disabled_at") else None),
        ("fails since", short_time(one["failing_since"]) if one.get("failing_since") else None),
        ("events", ", ".join(one["events"])),
        ("of", _tasks_of(one)),
        ("signed", "yes" if one["signed"] else "no: its receiver cannot tell who sends"),
        ("secret", one.get("secret")),
        ("made by", one.get("created_by")),
        ("created", short_time(one.get("created_at"))),
    ]


def _delivery(one: Delivery) -> tuple[object, ...]:
    return (
        one["number"],
        one["state"],
        one["event"],
        one.get("task_id"),
        short_time(one.get("created_at")),
        one["tries"],
        _answer(one),
    )


def _answer(one: Delivery) -> str | None:
    """How the last try ended, and when the next one is due."""
    told = one.get("last_error") or (str(one["last_status"]) if one.get("last_status") else None)
    if one["state"] != "waiting" or not one.get("next_at"):
        return told
    due = f"next try {short_time(one['next_at'])}"
    return f"{told}; {due}" if told else due
