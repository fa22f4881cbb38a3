"""`sandbox task send`: talk to a running agent."""

from __future__ import annotations

import click

from api.commands.options import Session, client_command, given_or_read


@click.command()
@click.argument("task_id", metavar="ID")
@click.argument("text", required=False)
@click.option(
    "--answer",
    metavar="TEXT",
    help="Answer what the agent asks: an option, or your own words; to a permission allow, or deny.",
)
@click.option("--question", metavar="QUESTION", help="The question to answer, where the agent asks several things.")
@client_command()
def send(session: Session, *, task_id: str, text: str | None, answer: str | None, question: str | None) -> None:
    """Send the message TEXT to the agent of task ID, or answer what it asks; - reads standard input.

    `sandbox task status ID` shows what it asks. A message is taken in at once when the agent waits for nothing,
    else between two of its steps.
    """
    if (text is None) == (answer is None):
        raise click.UsageError("give either TEXT, a message, or --answer TEXT")
    if question is not None and answer is None:
        raise click.UsageError("--question names what --answer answers: give it together with --answer")
    if answer is not None:
        accepted = session.client.answer(task_id, given_or_read(answer), question=question)
    else:
        accepted = session.client.send(task_id, given_or_read(text or ""))
    if session.output.is_json:
        session.output.json(accepted)
    else:
        session.output.line(f"{task_id}: {'message' if answer is None else 'answer'} {accepted['number']} is sent")
