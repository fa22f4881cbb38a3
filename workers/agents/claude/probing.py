"""Whether an image can run the agent at all (pure)."""

from __future__ import annotations

import re

from orchestrator.outcomes import Outcome, Reason, failure

# `exec` itself fails with 127 for a program of another C library, so its absence is told apart by its silence.
PROBE = ("/bin/sh", "-c", "command -v claude >/dev/null || exit 127; exec claude --version")

_VERSION = re.compile(r"^\d+\.\d+\.\d+\S* \(Claude Code\)", re.MULTILINE)
_NOT_FOUND = 127
_HINT = (
    "choose a profile whose image has it, such as agentic-dev (`sandbox image build agentic-dev` makes that), or put "
    "it into an image of your own"
)


def judge(exit_code: int, output: str, image: str, profile: str) -> Outcome | None:
    said = output.strip()
    where = f'image "{image}" (profile "{profile}")'
    if exit_code == 0 and _VERSION.search(said):
        return None
    if exit_code == _NOT_FOUND and not said:
        return failure(
            Reason.AGENT_NOT_FOUND, f'{where} has no "claude" on its PATH (exit code {exit_code})', hint=_HINT
        )
    words = f": {said[-300:]}" if said else ""
    return failure(
        Reason.AGENT_NOT_RUNNABLE,
        f'{where}: "claude --version" does not answer with a version (exit code {exit_code}){words}',
        hint=f"the agent is a program for x86-64 and glibc, and needs nothing else; {_HINT}",
    )
