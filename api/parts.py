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
    from api.callers import Callers
    from api.metrics import Metrics
    from api.trail import Trail

KEY = "sandbox-parts"


@dataclass(frozen=True)
class Parts:
    product: Product
    hub: Hub
    policy: ManifestPolicy
    metrics: Metrics
    keep_alive_seconds: float
    log_reader: LogReader
    callers: Callers
    trail: Trail


def parts() -> Parts:
    return cast(Parts, current_app.extensions[KEY])


def policy_of(product: Product) -> ManifestPolicy:
    """What this operator allows manifests to ask for."""
    profiles = product.settings.profiles
    images = {name: one.image_rules for name, one in profiles.items()}
    return ManifestPolicy(frozenset(profiles), (), product.settings.file_repositories, images)
