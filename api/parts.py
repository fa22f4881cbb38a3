"""What the views of one process share, kept in the Flask application."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from flask import current_app

from api.feed import Hub
from api.stream.hub import EventHub
from orchestrator.log_reader import LogReader
from orchestrator.manifest import ManifestPolicy
from orchestrator.product import Product

if TYPE_CHECKING:
    from api.callers import Callers
    from api.condition import Condition
    from api.metrics import Metrics
    from api.trail import Trail

KEY = "sandbox-parts"


@dataclass(frozen=True)
class Parts:
    product: Product
    hub: Hub
    open_policy: ManifestPolicy
    metrics: Metrics
    keep_alive_seconds: float
    log_reader: LogReader
    callers: Callers
    trail: Trail
    condition: Condition
    events: EventHub

    @property
    def policy(self) -> ManifestPolicy:
        """What manifests may ask for now. With access tokens there are several tenants, and each could read every
        repository of this host: `file://` is theirs only where the operator named it.
        """
        if self.callers.is_closed and not self.product.settings.file_repositories_named:
            return replace(self.open_policy, file_repositories=False)
        return self.open_policy


def parts() -> Parts:
    return cast(Parts, current_app.extensions[KEY])


def policy_of(product: Product) -> ManifestPolicy:
    """What this operator allows manifests to ask for."""
    profiles = product.settings.profiles
    images = {name: one.image_rules for name, one in profiles.items()}
    networks = tuple(ipaddress.ip_network(one) for one in product.settings.webhook_private_cidrs)
    return ManifestPolicy(frozenset(profiles), (), product.settings.file_repositories, images, networks)
