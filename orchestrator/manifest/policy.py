"""What the operator allows manifests to ask for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class ManifestPolicy:
    """`profiles` and `allowed_images` (glob patterns) are None where they are not known: in an offline check.

    `file_repositories`: False forbids `file://`, True allows it anywhere, directories allow it below them.
    """

    profiles: frozenset[str] | None
    allowed_images: tuple[str, ...] | None = ()
    file_repositories: bool | tuple[str, ...] = False

    @classmethod
    def offline(cls) -> ManifestPolicy:
        """Return the policy of a check without a server: what only the operator knows is not judged."""
        return cls(profiles=None, allowed_images=None, file_repositories=True)

    def image_allowed(self, image: str) -> bool:
        """Tell whether `run.image` may be `image`."""
        if self.allowed_images is None:
            return True
        return any(image == pattern or fnmatchcase(image, pattern) for pattern in self.allowed_images)

    def file_repository_allowed(self, path: str) -> bool:
        """Tell whether a `file://` URL may point to `path`; links are resolved before the comparison."""
        if isinstance(self.file_repositories, bool):
            return self.file_repositories
        real = os.path.realpath(path)
        roots = (os.path.realpath(directory) for directory in self.file_repositories)
        return any(os.path.commonpath((real, root)) == root for root in roots)
