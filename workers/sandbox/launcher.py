"""The gate: the sandbox's main process waits here and then becomes the command.

Pure `/bin/sh`, so that it works in any image that has one. The worker sends over stdin a nonce line, a
script, and the nonce again; the launcher evaluates the script, whose last line is `exec`. What the script
holds (environment, secrets) is in no configuration that the engine writes to disk (design §4). A
stream that ends before the second nonce ends the launcher with exit code 125: no sandbox outlives its
worker at the gate.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType

SHELL = "/bin/sh"
GATE_FAILED = 125
MAX_ARGUMENT_BYTES = 128 << 10
"""Linux: MAX_ARG_STRLEN, 32 pages for one argument."""

FIFO_SUFFIX = ".fifo"
FEED_SECONDS = 0.3
"""How long what is sent to a command may lie in its inbox."""

LAUNCHER = """\
IFS= read -r gate || exit 125
script= open=
while IFS= read -r line; do
  if [ "$line" = "$gate" ]; then open=1; break; fi
  script="$script$line
"
done
[ "$open" ] || exit 125
if [ -d /opt/home-skeleton ] && [ -w "$HOME" ]; then cp -a /opt/home-skeleton/. "$HOME/" 2>/dev/null; fi
unset gate line open
eval "$script"
"""


def argv() -> list[str]:
    """The command every sandbox is created with."""
    return [SHELL, "-c", LAUNCHER]


def gate_script(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    marker: str | None = None,
    *,
    files: Mapping[str, str] = MappingProxyType({}),
    stdin: str = "/dev/null",
    inbox: str | None = None,
) -> bytes:
    """Return what opens the gate: the command runs in `directory` and reads `stdin`.

    `files` (path to text) are written first, readable for the sandbox's user only, as are directories that are made
    for them; the paths lie on a tmpfs. With `inbox` the command reads on behind `stdin`: the files `1`, `2`, … that
    appear in that directory, up to the one that is named in a file `end`.
    `marker` (letters and digits) becomes the first line of stdout and of stderr. It is in the script and not in the
    launcher's arguments, because a command can read those of all processes, and must not know it.
    """
    # `script` is the launcher's own variable; forgotten first, for a task may have one of that name.
    lines = ["unset script"]
    if marker is not None:
        lines += [f"echo {marker}", f"echo {marker} >&2"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    for path, text in files.items():
        lines.append(f"(umask 077; mkdir -p {shlex.quote(path.rpartition('/')[0] or '/')}) || exit {GATE_FAILED}")
        lines.append(f"(umask 077; printf %s {shlex.quote(text)} > {shlex.quote(path)}) || exit {GATE_FAILED}")
    # After the gate: the directory may have been mounted or made after the launcher started.
    lines.append(f"cd {shlex.quote(directory)} || exit {GATE_FAILED}")
    if inbox is not None:
        lines += _feeder(stdin, inbox)
        stdin = f"{stdin}{FIFO_SUFFIX}"
    lines.append(f"exec {shlex.join(command)} <{shlex.quote(stdin)}")
    nonce = secrets.token_hex(16)
    return "\n".join([nonce, *lines, nonce, ""]).encode()


def _feeder(stdin: str, inbox: str) -> list[str]:
    """A process beside the command that hands it one file of the inbox after another, each once.

    It knows nothing of the worker: whoever writes there may die and come back.
    """
    fifo = shlex.quote(f"{stdin}{FIFO_SUFFIX}")
    return [
        f"(umask 077; mkfifo {fifo}) || exit {GATE_FAILED}",
        f"(cat {shlex.quote(stdin)}; cd {shlex.quote(inbox)} || exit; n=1; while :; do",
        '  if [ -e "$n" ]; then cat "$n"; n=$((n + 1))',
        '  elif [ -e end ] && [ "$n" -gt "$(cat end)" ]; then break',
        f"  else sleep {FEED_SECONDS}; fi",
        f"done) >{fifo} &",
    ]
