"""`sandbox doctor`: what works here, what will not be enforceable, what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from orchestrator import settings
from workers.checkup import examine
from workers.finding import Finding, Level

MARKS = {Level.OK: ("ok", "green"), Level.NOTE: ("note", "yellow"), Level.PROBLEM: ("PROBLEM", "red")}


@click.command()
@click.option("--name", help="The worker to look after (SANDBOX_WORKER_NAME, host name).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory (SANDBOX_DATA_DIR).")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(name: str | None, data_dir: Path | None, form: str) -> None:
    """Check this machine. Exit code 1 when something keeps tasks from running."""
    in_force = settings.load(worker_name=name, data_dir=data_dir)
    findings = examine(in_force)
    if form == "json":
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        _print(findings)
    sys.exit(1 if any(finding.level is Level.PROBLEM for finding in findings) else 0)


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark, colour = MARKS[finding.level]
        console.print(f"[{colour}]{mark:8}[/]{escape(finding.subject)}: {escape(finding.seen)}")
        if finding.advice:
            console.print(f"        → {escape(finding.advice)}")
