"""The sandbox images that ship with the product, and how they are built."""

from workers.images.builder import IMAGES, ShippedImage, build
from workers.images.failure import ImageBuildFailed

__all__ = ["IMAGES", "ImageBuildFailed", "ShippedImage", "build"]
