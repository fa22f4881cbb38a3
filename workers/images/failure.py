"""The one error of this package."""

from __future__ import annotations

from collections.abc import Iterable


class ImageBuildFailed(Exception):
    """A sandbox image could not be made. The message ends with the last lines of the output, if any."""

    exit_code = 70
    """What the command line ends with: a fault of this machine, not of a task."""

    def __init__(self, image: str, why: str, todo: str, output: Iterable[str] = ()) -> None:
        self.image = image
        self.output = tuple(output)
        tail = "\n  last lines of the output:" if self.output else ""
        tail += "".join(f"\n    {line}" for line in self.output)
        super().__init__(f"the image {image} was not built: {why}; {todo}{tail}")
