"""Which images a manifest may name: the operator's list of a profile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class ImageRules:
    """Which images `run.image` may name. `allowed` are glob patterns; None allows every image.

    `require_digest` refuses what names no digest: a tag may be another image tomorrow.
    """

    allowed: tuple[str, ...] | None = ()
    require_digest: bool = False

    def allows(self, image: str) -> bool:
        """Tell whether the list holds `image`."""
        if self.allowed is None:
            return True
        return any(image == pattern or fnmatchcase(image, pattern) for pattern in self.allowed)

    def lacks_digest(self, image: str) -> bool:
        """Tell whether `image` would have to be written `NAME@sha256:…`, and is not."""
        return self.require_digest and _DIGEST.search(image) is None
