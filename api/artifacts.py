"""Artifacts: the list, one file (with ranges), all of them as one archive (contract §3)."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, request
from werkzeug.datastructures import ContentRange, Headers, Range
from werkzeug.utils import send_file

from api import lasting, views
from api.errors import Refusal
from api.params import Params
from api.parts import parts
from orchestrator import clock
from orchestrator.artifacts import ArtifactStore
from orchestrator.models import Artifact, Attempt, Task
from orchestrator.services.cancel import TaskNotFound
from orchestrator.store import artifacts, tasks
from orchestrator.store import attempts as attempt_rows

blueprint = Blueprint("artifacts", __name__, url_prefix="/api/v1/tasks")

GZIP_LEVEL = 1  # the reader waits: speed before size
METADATA = "metadata.json"
"""Our own file in the archive."""


@dataclass(frozen=True, slots=True)
class Found:
    """A task, the attempt that was asked for (None: none has begun) and what it left."""

    task: Task
    attempt: Attempt | None
    artifacts: list[Artifact]


def _find(task_id: str) -> Found:
    """The attempt is the latest one, unless the query names another."""
    params = Params("attempt")
    with parts().product.database.read() as tx:
        task = tasks.get(tx, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        number = params.integer("attempt", task.attempt, 1, max(task.attempt, 1))
        return Found(task, attempt_rows.get(tx, task_id, number), artifacts.of_task(tx, task_id, number))


@blueprint.get("/<task_id>/artifacts")
def list_artifacts(task_id: str) -> Response:
    of = _find(task_id)
    found = of.artifacts
    return jsonify(
        task_id=task_id,
        artifacts=[views.artifact(one, latest=of.task.attempt) for one in found],
        total_count=len(found),
        total_size_bytes=sum(one.size_bytes for one in found),
    )


@blueprint.get("/<task_id>/artifacts/<path:path>")
def get_artifact(task_id: str, path: str) -> Response:
    return _download(_pick(task_id, path, _find(task_id).artifacts))


def _pick(task_id: str, path: str, found: list[Artifact]) -> Artifact:
    """The path wins; a bare name works when only one artifact has it."""
    for one in found:
        if one.path == path:
            return one
    named = [one for one in found if one.name == path]
    if len(named) > 1:
        raise Refusal(
            409,
            "ambiguous_artifact_name",
            f"{len(named)} artifacts of task {task_id} are named {path!r}; ask for one by its path",
            {"candidates": [one.path for one in named]},
        )
    if not named:
        message = f"task {task_id} has no artifact {path!r}; `sandbox task artifacts {task_id}` lists them"
        raise Refusal(404, "artifact_not_found", message)
    return named[0]


def _download(one: Artifact) -> Response:
    # send_file writes the Content-Disposition (RFC 6266, 8187); the bytes and the range are ours.
    quoted = send_file(
        io.BytesIO(), request.environ, as_attachment=True, download_name=one.name, etag=False, conditional=False
    )
    headers = Headers({"Content-Disposition": quoted.headers["Content-Disposition"]})
    headers["X-Checksum-SHA256"] = one.sha256
    headers["Accept-Ranges"] = "bytes"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = "sandbox"
    headers["ETag"] = f'"{one.sha256}"'
    if request.if_none_match.contains_weak(one.sha256):
        return Response(status=304, headers=headers)
    part = _part(one)
    start, stop = part or (0, one.size_bytes)
    if part:
        headers["Content-Range"] = ContentRange("bytes", start, stop, one.size_bytes).to_header()
    headers["Content-Length"] = str(stop - start)
    # Never a type that a task chose: a browser must not render what came out of a sandbox.
    if request.method == "HEAD":
        return Response(iter(()), headers=headers, content_type="application/octet-stream")
    lasting.begin()
    chunks = _bytes(parts().product.artifacts, one, start, stop - start)
    body = lasting.WhilePermitted(chunks, f"artifact {one.path!r} of task {one.task_id}")
    return Response(body, status=206 if part else 200, headers=headers, content_type="application/octet-stream")


def _part(one: Artifact) -> tuple[int, int] | None:
    """The bytes that `Range` asks for, None for all of them. Raises 416 when they are not there."""
    wanted, condition = request.range, request.if_range
    if request.method != "GET" or wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    if condition.date is not None or condition.etag not in (None, one.sha256):
        return None  # artifacts have no date to compare with: the reader gets the whole
    start, stop = wanted.ranges[0]
    if start < 0:  # the last bytes; all of them when there are fewer
        start = max(start, -one.size_bytes)
    part: tuple[int, int] | None = Range("bytes", [(start, stop)]).range_for_length(one.size_bytes)
    if part is None:
        message = f"the range is outside of the {one.size_bytes} bytes there are"
        raise Refusal(416, "invalid_parameter", message, headers={"Content-Range": f"bytes */{one.size_bytes}"})
    return part


def _bytes(store: ArtifactStore, one: Artifact, start: int, length: int) -> Iterator[bytes]:
    try:
        return store.open(one.key, start, length) if length else iter(())
    except KeyError:  # purged since we looked
        message = f"the bytes of artifact {one.path!r} of task {one.task_id} are not kept any more"
        raise Refusal(404, "artifact_not_found", message) from None


@blueprint.get("/<task_id>/artifacts.tar.gz")
def get_archive(task_id: str) -> Response:
    of = _find(task_id)
    headers = {"Content-Disposition": f'attachment; filename="{task_id}-artifacts.tar.gz"'}
    if request.method == "HEAD":
        return Response(iter(()), headers=headers, content_type="application/gzip")
    lasting.begin()
    body = lasting.WhilePermitted(_archive(parts().product.artifacts, of), f"the artifacts of task {task_id}")
    return Response(body, headers=headers, content_type="application/gzip")


class _Pipe(io.RawIOBase):
    """Takes what the compressor writes and gives it out in between."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


def _archive(store: ArtifactStore, of: Found) -> Iterator[bytes]:
    """Stream a tar with plain relative names, regular files, no owner: memory stays flat."""
    task, found = of.task, of.artifacts
    metadata = json.dumps(_metadata(of), indent=2).encode()
    pipe = _Pipe()
    # `tarfile` writes a member only from a file, and its own compression takes no level before Python 3.12.
    with gzip.GzipFile(fileobj=pipe, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed:
        packed.write(_header(METADATA, len(metadata), task) + metadata + _padding(len(metadata)))
        for one in found:
            packed.write(_header(archive_name(one.path), one.size_bytes, task))
            for chunk in _bytes(store, one, 0, one.size_bytes):
                packed.write(chunk)
                yield pipe.taken()
            packed.write(_padding(one.size_bytes))
        packed.write(bytes(2 * tarfile.BLOCKSIZE))
        packed.write(bytes(-packed.tell() % tarfile.RECORDSIZE))
    yield pipe.taken()


def archive_name(path: str) -> str:
    """Return the name of the artifact `path` in the archive: `path`, unless that would replace or need our own file.

    `metadata.json` at the top, in any case (some file systems ignore it), with any number of `_` behind it, gets one
    more `_`. So two artifacts never get the same name.
    """
    top, slash, below = path.partition("/")
    if top.rstrip("_").casefold() == METADATA:
        top += "_"
    return f"{top}{slash}{below}"


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _header(path: str, size: int, task: Task) -> bytes:
    member = tarfile.TarInfo(path)
    member.size = size
    member.mode = 0o644
    member.mtime = int((task.finished_at or task.created_at).timestamp())
    return member.tobuf(tarfile.PAX_FORMAT)


def _metadata(of: Found) -> dict[str, object]:
    task, attempt = of.task, of.attempt
    return {
        "task_id": task.id,
        "attempt": attempt.number if attempt else task.attempt,
        "name": task.name,
        "state": task.state,
        "outcome": task.outcome.to_dict() if task.outcome else None,
        "created_at": clock.text(task.created_at),
        "started_at": views.time_text(task.started_at),
        "finished_at": views.time_text(task.finished_at),
        "image": attempt.image if attempt else None,
        "image_digest": attempt.image_digest if attempt else None,
        "commit": attempt.commit if attempt else None,
        "artifacts": [views.artifact(one, latest=task.attempt) for one in of.artifacts],
    }
