"""`sandbox task submit`, `sandbox task rerun` and `sandbox task resume`: the ways to start a task."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, BinaryIO

import click
import yaml

from api.client import ServerRefused
from api.commands.assignments import Assignment, merge_patch, set_option
from api.commands.manifest_file import ManifestFile, error_lines
from api.commands.options import Session, client_command, given_or_read
from api.commands.waiting import Patience, stay, waiting_options
from orchestrator.cli import CommandFailed


@click.command()
@click.argument("file", type=click.File("rb"))
@waiting_options
@click.option("--dry-run", is_flag=True, help="Print the manifest with all defaults filled in; start nothing.")
@set_option
@client_command()
@click.pass_context
def submit(
    ctx: click.Context,
    session: Session,
    *,
    file: BinaryIO,
    wait: bool,
    follow: bool,
    timeout: int | None,
    dry_run: bool,
    assignments: Sequence[Assignment],
) -> None:
    """Submit the manifest FILE, or - for standard input.

    With --wait or --follow the exit code tells how the task ended: 0 completed, 1 failed, 6 cancelled.
    """
    patience = Patience(wait, follow, timeout)
    if dry_run and patience.waits:
        raise click.UsageError("--dry-run starts nothing, so there is nothing to wait for: leave out one of them")
    manifest = ManifestFile.read_from(file).changed(assignments)
    try:
        answer = session.client.submit(
            manifest.body, manifest.content_type, dry_run=dry_run, idempotency_key=None if dry_run else _key()
        )
    except ServerRefused as error:
        raise _with_places(error, manifest.error_lines(error.errors)) from error
    if dry_run:
        _print_manifest(session, answer)
    else:
        _accepted(ctx, session, answer, patience)


@click.command()
@click.argument("task_id", metavar="ID")
@waiting_options
@set_option
@client_command()
@click.pass_context
def rerun(
    ctx: click.Context,
    session: Session,
    *,
    task_id: str,
    wait: bool,
    follow: bool,
    timeout: int | None,
    assignments: Sequence[Assignment],
) -> None:
    """Start a new task with the definition of task ID, changed by --set."""
    patience = Patience(wait, follow, timeout)
    patch = merge_patch(session.client.get(task_id)["definition"], assignments) if assignments else None
    try:
        answer = session.client.rerun(task_id, patch, idempotency_key=_key())
    except ServerRefused as error:
        unplaced = [{**one, "line": None} for one in error.errors]
        raise _with_places(error, error_lines(task_id, unplaced)) from error
    _accepted(ctx, session, answer, patience)


@click.command()
@click.argument("task_id", metavar="ID")
@click.argument("prompt", required=False)
@waiting_options
@client_command()
@click.pass_context
def resume(
    ctx: click.Context,
    session: Session,
    *,
    task_id: str,
    prompt: str | None,
    wait: bool,
    follow: bool,
    timeout: int | None,
) -> None:
    """Start a new task that goes on from the workspace and the agent's session of task ID.

    PROMPT says what to do next (- reads standard input); without it, the agent continues where it left off. Task ID
    must have ended, and have kept its session: lifecycle.keep_session, or failure_action: preserve.
    """
    patience = Patience(wait, follow, timeout)
    told = None if prompt is None else given_or_read(prompt)
    _accepted(ctx, session, session.client.resume(task_id, told, idempotency_key=_key()), patience)


def _key() -> str:
    """Return a key by which the server knows this submission again, should the connection break."""
    return str(uuid.uuid4())


def _with_places(error: ServerRefused, lines: Sequence[str]) -> Exception:
    """Each mistake in a line of its own, which the server's message would tell the first of once more."""
    if not lines:
        return error
    head = f"the manifest is not valid; nothing was started ({error.known})"
    return CommandFailed("\n".join([head, *lines]), error.exit_code)


def _print_manifest(session: Session, manifest: dict[str, Any]) -> None:
    if session.output.is_json:
        session.output.json(manifest)
    else:
        click.echo(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), nl=False)


def _accepted(ctx: click.Context, session: Session, answer: dict[str, Any], patience: Patience) -> None:
    output = session.output
    if not output.is_json:
        note = output.note if patience.follow else output.line
        note(f"{answer['task_id']} {answer['state']}: {answer.get('message') or 'accepted'}")
    if patience.waits:
        ctx.exit(stay(session, answer, patience))
    if output.is_json:
        output.json(answer)
    elif output.terminal:
        output.note(f"Follow it with `sandbox task logs {answer['task_id']} --follow`.")
