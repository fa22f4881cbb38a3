"""What a build of an image is given: the directory of its Dockerfile, and the agent's program where it gets one."""

from __future__ import annotations

import io
import tarfile
import tempfile
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import IO

from workers.images.agent_cli import PROGRAM
from workers.images.failure import ImageBuildFailed


def write_context(target: IO[bytes], name: str, program: Path | None = None) -> None:
    """Write the build context of the image `name` as a tar archive: equal files give equal bytes, anywhere."""
    directory = resources.files("workers.images").joinpath(name)
    with tarfile.open(fileobj=target, mode="w") as archive:
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            data = entry.read_bytes()
            member = tarfile.TarInfo(entry.name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
        if program is not None:
            member = tarfile.TarInfo(PROGRAM)
            member.size, member.mode = program.stat().st_size, 0o755
            with program.open("rb") as source:
                archive.addfile(member, source)


def open_context(name: str, program: Path | None, *, image: str) -> IO[bytes]:
    """Return the build context as an open file without a name, at its beginning.

    Raises `ImageBuildFailed`, which names `image`, when there is no room for it.
    """
    # Beside the program, where there was room for it: the directory for temporary files may be in memory.
    directory = program.parent if program else Path(tempfile.gettempdir())
    try:
        with ExitStack() as until_written:
            context = until_written.enter_context(tempfile.TemporaryFile(dir=directory))
            write_context(context, name, program)
            context.seek(0)
            until_written.pop_all()
    except OSError as error:
        todo = "make room there and run `sandbox image build` again"
        raise ImageBuildFailed(image, f"its build context cannot be written to {directory}: {error}", todo) from error
    return context
