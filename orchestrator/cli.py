"""The `sandbox` command: a root that loads each command only when it is used.

Packages contribute commands through the entry-point group `sandbox.commands`, so this module imports neither
`api` nor `workers`, and one part that cannot be loaded does not take the others down.

Exit codes (contract §7): 0 done or completed, 1 the task failed, 2 usage, 3 not found, 4 refused by the
server, 5 cannot reach it, 6 the task ended cancelled, 124 timeout while waiting, 130 interrupted. Besides:
70 for a fault of this machine or of the program (disk, checksum, an unexpected exception), and 141 when the
reader of a pipe went away, as for any program that SIGPIPE ends.

An exception that has an integer attribute `exit_code` is a known error: its text is the message, and the
command ends with that code. Everything else is a fault, and `--debug` shows where.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, NoReturn

import click

EXIT_NOT_DONE = 70
"""A fault of this machine or of the program (EX_SOFTWARE); 1 is kept for tasks that failed."""
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

COMMAND_GROUP = "sandbox.commands"
DISTRIBUTION = "sandbox-orchestrator"
SUMMARIES = {
    "admin": "Look after the store: migrate, prune, requeue, back up, restore, audit.",
    "api": "Serve the REST API and the event stream.",
    "doctor": "Check this machine: what works, what cannot be enforced, what to do.",
    "image": "Build and list the sandbox images of the profiles.",
    "task": "Submit tasks, watch them, fetch what they made, cancel them.",
    "token": "Make, list and revoke access tokens.",
    "up": "Run everything on this machine: API, worker, broker and store.",
    "webhooks": "Make and list webhooks; see what they were sent, send it once more.",
    "worker": "Run a worker on this build host.",
    "workers": "Look at the fleet; drain, resume and remove workers.",
}
"""What `sandbox --help` says, so that help imports no command."""


class CommandFailed(click.ClickException):
    """A command ends here: `message` (what failed, why, what to do) on stderr, then `exit_code`."""

    def __init__(self, message: str, exit_code: int = EXIT_NOT_DONE) -> None:
        super().__init__(message)
        # click reads it from the instance, though it declares it for the class
        self.__dict__["exit_code"] = exit_code


@dataclass(frozen=True, slots=True)
class Deferred:
    """A command by name: `load` imports and returns it; `summary` stands for it in help."""

    summary: str
    load: Callable[[], Any]


def deferred(target: str, summary: str) -> Deferred:
    """Return the command at `target` (`module:attribute`), to be imported when it is used."""
    module, _, attribute = target.partition(":")
    return Deferred(summary, lambda: getattr(importlib.import_module(module), attribute))


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it or to show its help."""

    def __init__(self, *args: Any, deferred_commands: Mapping[str, Deferred], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deferred = deferred_commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(self._deferred)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. Raises `CommandFailed` when it cannot be loaded; None for an unknown name."""
        found = self._deferred.get(cmd_name)
        if found is None:
            return None
        try:
            command = found.load()
        except Exception as error:  # importing runs foreign code; one bad part must stay one
            if ctx.resilient_parsing:  # shell completion goes on with the other commands
                return None
            raise _unloadable(f"{ctx.command_path} {cmd_name}", f"{type(error).__name__}: {error}") from error
        if not isinstance(command, click.Command):
            raise _unloadable(f"{ctx.command_path} {cmd_name}", f"it is no command but {command!r}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._deferred and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, self._deferred, n=1)
            elsewhere = "." if ctx.parent else "; what is done with tasks is below `sandbox task`."
            ctx.fail(f"there is no command {name!r}" + (f": did you mean {near[0]!r}?" if near else elsewhere))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._deferred[name].summary) for name in self.list_commands(ctx)])


def _unloadable(command: str, why: str) -> CommandFailed:
    return CommandFailed(
        f"`{command}` cannot be loaded: {why}. The other commands are not affected. "
        f"Install the product again (pip install --force-reinstall {DISTRIBUTION}); "
        "`sandbox --debug …` shows where the import fails."
    )


class Root(LazyGroup):
    """The outermost group: the one place where an exception becomes a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            self._explain(ctx, error.__cause__)
            raise
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(EXIT_BROKEN_PIPE)
        except Exception as error:
            self._explain(ctx, error)
            raise _known_or_fault(error) from error

    @staticmethod
    def _explain(ctx: click.Context, error: BaseException | None) -> None:
        if error is not None and ctx.params.get("debug"):
            traceback.print_exception(error)


def _known_or_fault(error: Exception) -> CommandFailed:
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return CommandFailed(str(error), code)
    if isinstance(error, OSError):
        return CommandFailed(f"this machine refused an operation: {error}. Correct that and try again.")
    return CommandFailed(
        f"the program failed unexpectedly ({type(error).__name__}: {error}). This is a fault of the program, "
        "not of your input. Run it again as `sandbox --debug …` and report what it prints."
    )


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of raising a second time."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def product_version() -> str:
    """Return the installed version; `unknown` when the product runs from a tree that is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def installed_commands() -> dict[str, Deferred]:
    """Return the commands of every installed package, by name; nothing is imported."""
    return {point.name: Deferred(SUMMARIES.get(point.name, f"({point.value})"), point.load) for point in _points()}


def _points() -> Sequence[EntryPoint]:
    return tuple(entry_points(group=COMMAND_GROUP))


def make_root(commands: Mapping[str, Deferred]) -> Root:
    """Return the root command over `commands`."""
    options: list[click.Parameter] = [
        click.Option(["--debug"], is_flag=True, help="Show a traceback when something fails."),
    ]
    root = Root(
        "sandbox",
        deferred_commands=commands,
        params=options,
        callback=lambda **_: None,
        help="Run tasks in isolated sandboxes: submit, watch, fetch the artifacts, cancel.",
        epilog="Exit codes: 0 done, 1 the task failed, 2 usage, 3 not found, 4 refused, 5 server not "
        "reachable, 6 cancelled, 70 local fault, 124 timeout while waiting, 130 interrupted.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    return click.version_option(product_version(), prog_name="sandbox", message="%(prog)s %(version)s")(root)


def run(args: Sequence[str], root: click.Group) -> int:
    """Run `root` with `args` and return the exit code; messages go to stderr."""
    for stream in (sys.stdout, sys.stderr):  # a task's output may hold what this locale cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = root.main(args=list(args), prog_name="sandbox", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """Entry point of `sandbox`."""
    commands = installed_commands()
    if not commands:
        click.echo(
            f"Error: no command is installed: Python finds no entry points of {COMMAND_GROUP!r}. "
            "Install the product in this environment: pip install .",
            err=True,
        )
        sys.exit(EXIT_NOT_DONE)
    sys.exit(run(sys.argv[1:], make_root(commands)))


if __name__ == "__main__":
    main()
