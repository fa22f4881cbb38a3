"""What the operator allows manifests to ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.host_addresses import Network
from orchestrator.image_rules import ImageRules


@dataclass(frozen=True, slots=True)
class ManifestPolicy:
    """`profiles` and `allowed_images` (glob patterns) are None where they are not known: in an offline check.

    `images` are the rules of profiles by name; of those it does not hold any, `allowed_images` is the list.
    `file_repositories`: False forbids `file://`, True allows it anywhere, directories allow it below them.
    `webhook_networks`: ranges of addresses that `notify` may name besides public ones; None where that is not judged.
    """

    profiles: frozenset[str] | None
    allowed_images: tuple[str, ...] | None = ()
    file_repositories: bool | tuple[str, ...] = False
    images: Mapping[str, ImageRules] = field(default_factory=dict)
    webhook_networks: tuple[Network, ...] | None = ()

    @classmethod
    def offline(cls) -> ManifestPolicy:
        """Return the policy of a check without a server: what only the operator knows is not judged."""
        return cls(profiles=None, allowed_images=None, file_repositories=True, webhook_networks=None)

    def image_rules(self, profile: str) -> ImageRules:
        """Return what `run.image` may be in a sandbox of `profile`."""
        return self.images.get(profile) or ImageRules(self.allowed_images)

    def file_repository_allowed(self, path: str) -> bool:
        """Tell whether a `file://` URL may point to `path`; links are resolved before the comparison."""
        if isinstance(self.file_repositories, bool):
            return self.file_repositories
        real = os.path.realpath(path)
        roots = (os.path.realpath(directory) for directory in self.file_repositories)
        return any(os.path.commonpath((real, root)) == root for root in roots)
