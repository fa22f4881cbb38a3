"""What to do when an image is missing."""

from __future__ import annotations

from workers.images.builder import IMAGES


def how_to_get(image: str) -> str:
    """Return the way to have `image` on a worker: ours are built, others are an operator's to bring."""
    for name, shipped in IMAGES.items():
        if shipped.tag == image:
            return f"build it with `sandbox image build {name}`"
    return "check its name, or `docker pull` or `docker load` it"
