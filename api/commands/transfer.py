"""`sandbox task artifacts` and `sandbox task download`: what a task left, and how to get it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from api.client import Downloaded, DownloadFailed
from api.commands.options import Session, client_command
from api.commands.render import plain, short_time, size
from api.downloads import Progress
from api.partial_file import make_directory, target_below
from orchestrator.cli import CommandFailed

BAR_FROM_BYTES = 8 << 20
Artifact = dict[str, Any]


_ATTEMPT = click.option("--attempt", type=click.IntRange(1), help="What this attempt left; the default is the latest.")


@click.command()
@click.argument("task_id", metavar="ID")
@_ATTEMPT
@client_command(listing=True)
def artifacts(session: Session, task_id: str, attempt: int | None) -> None:
    """List the artifacts of task ID."""
    found = session.client.artifacts(task_id, attempt=attempt)
    if session.output.is_json:
        session.output.json(found)
        return
    rows = [
        (one["path"], size(one.get("size_bytes")), one.get("content_type"), short_time(one.get("created_at")))
        for one in found["artifacts"]
    ]
    session.output.rows(("path", "size", "type", "created"), rows)


@click.command()
@click.argument("task_id", metavar="ID")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All artifacts, into a directory named like the task.")
@click.option("--output", "-o", help="A file or directory to write to; with --all, a directory.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare the SHA-256 of what arrived.")
@_ATTEMPT
@client_command()
def download(
    session: Session,
    *,
    task_id: str,
    name: str | None,
    everything: bool,
    output: str | None,
    verify: bool,
    attempt: int | None,
) -> None:
    """Download the artifact NAME (its path, or its base name) of task ID.

    NAME may be left out when there is only one. A download that breaks off goes on where it stopped when the
    same command is run again; files that are already here are not fetched again.
    """
    if name is not None and everything:
        raise click.UsageError("NAME and --all exclude each other: give one of them")
    listed = session.client.artifacts(task_id, attempt=attempt)["artifacts"]
    if everything:
        jobs = [_Job(one, Path(output or task_id), one["path"]) for one in listed]
    else:
        jobs = [_single(_chosen(task_id, name, listed), output)]
    _Transfer(session, task_id, verify, attempt).run(jobs)


@dataclass(frozen=True, slots=True)
class _Job:
    """One artifact and where it goes: below `directory` under the name `below`, or exactly to `file`."""

    artifact: Artifact
    directory: Path
    below: str
    file: Path | None = None

    def target(self) -> Path:
        if self.file is not None:
            return self.file
        make_directory(self.directory)
        return target_below(self.directory, self.below)


def _chosen(task_id: str, name: str | None, listed: Sequence[Artifact]) -> Artifact:
    if name is None:
        if len(listed) == 1:
            return listed[0]
        paths = ", ".join(plain(one["path"]) for one in listed) or "none"
        raise click.UsageError(f"task {task_id} has {len(listed)} artifacts ({paths}): give NAME, or --all")
    exact = [one for one in listed if one["path"] == name]
    same_base = [one for one in listed if one["path"].rsplit("/", 1)[-1] == name]
    if exact or len(same_base) == 1:
        return (exact or same_base)[0]
    return {"path": name}  # the server says why not: it does not exist, or several have this base name


def _single(artifact: Artifact, output: str | None) -> _Job:
    base = artifact["path"].rsplit("/", 1)[-1]
    if output is None or output.endswith("/") or Path(output).is_dir():
        return _Job(artifact, Path(output or "."), base)
    return _Job(artifact, Path(output).parent, base, Path(output))


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Downloads one job after the other and reports."""

    session: Session
    task_id: str
    verify: bool
    attempt: int | None

    def run(self, jobs: Sequence[_Job]) -> None:
        done, failed = [], []
        for job in jobs:
            try:
                done.append(self._result(job, self._fetch(job)))
            except DownloadFailed as error:  # one bad name or full disk is reported, the others are still wanted
                failed.append({"path": job.artifact["path"], "message": str(error)})
        if self.session.output.is_json:
            self.session.output.json({"task_id": self.task_id, "downloaded": done, "failed": failed})
        if failed:
            raise CommandFailed("\n".join(plain(one["message"]) for one in failed))

    def _fetch(self, job: _Job) -> Downloaded:
        with _progress(plain(job.artifact["path"])) as on_progress:
            return self.session.client.download(
                self.task_id,
                job.artifact["path"],
                job.target(),
                verify=self.verify,
                checksum=job.artifact.get("checksum"),
                attempt=self.attempt,
                on_progress=on_progress,
            )

    def _result(self, job: _Job, got: Downloaded) -> Artifact:
        if not self.session.output.is_json:
            how = "SHA-256 verified" if got.verified else "not verified"
            kept = f", {size(got.kept_bytes)} were here" if got.kept_bytes else ""
            self.session.output.line(f"{got.path} ({size(got.size_bytes)}, {how}{kept})")
        return {
            "path": job.artifact["path"],
            "file": str(got.path),
            "size_bytes": got.size_bytes,
            "sha256": got.sha256,
            "verified": got.verified,
            "kept_bytes": got.kept_bytes,
        }


@contextmanager
def _progress(label: str) -> Iterator[Progress | None]:
    """Yield what moves a progress bar: on a terminal only, and only for what is large enough to wait for."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal pays for importing rich
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn(escape(label)),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", visible=False)
        yield lambda done, total: bars.update(bar, completed=done, total=total, visible=total > BAR_FROM_BYTES)
