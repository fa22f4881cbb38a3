"""What the views of one process share, kept in the Flask application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app

from api.feed import Hub
from orchestrator.log_reader import LogReader
from orchestrator.manifest import ManifestPolicy
from orchestrator.product import Product

if TYPE_CHECKING:
    from api.metrics import Metrics

KEY = "sandbox-parts"


@dataclass(frozen=True)
class Parts:
    product: Product
    hub: Hub
    policy: ManifestPolicy
    metrics: Metrics
    keep_alive_seconds: float
    log_reader: LogReader


def parts() -> Parts:
    return cast(Parts, current_app.extensions[KEY])


def policy_of(product: Product) -> ManifestPolicy:
    """What this operator allows manifests to ask for."""
    profiles = product.settings.profiles
    images = tuple({image for profile in profiles.values() for image in profile.allowed_images})
    return ManifestPolicy(frozenset(profiles), images, product.settings.file_repositories)
