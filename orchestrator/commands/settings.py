"""`sandbox admin settings`: what is in force."""

from __future__ import annotations

import click

from orchestrator.commands.report import Report, admin_command
from orchestrator.settings import Settings
from orchestrator.settings_report import report


@click.command()
@admin_command
def settings(in_force: Settings) -> Report:
    """Print the settings in force, without passwords.

    They are those of `sandbox api` and `sandbox worker`; `sandbox up` has wider overcommits and allows file://
    repositories, unless they are set.
    """
    shown = report(in_force)
    width = max(map(len, shown))
    return Report([f"{name:<{width}}  {_text(value)}" for name, value in shown.items()], shown)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in {None, ""} else str(value)
