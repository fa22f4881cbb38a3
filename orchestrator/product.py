"""The parts every process of the product holds, opened from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import fault_points
from orchestrator.artifacts import ArtifactStore, open_artifact_store
from orchestrator.broker.messages import Broker, open_broker
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.migrate import migrate


@dataclass(frozen=True, slots=True)
class Product:
    """Store, broker and artifact storage. Thread-safe; services take it as their first argument."""

    settings: Settings
    database: Database
    broker: Broker
    artifacts: ArtifactStore

    def close(self) -> None:
        self.broker.close()
        self.database.close()


def open_product(settings: Settings) -> Product:
    """Open and migrate the store, open broker and artifact storage.

    Raises `StoreUnavailable`, `StoreTooNew`, or `ValueError` for a URL nobody here understands.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    fault_points.arm(settings.test_faults, settings.run_dir / "faults")
    database = Database(settings.store_url)
    migrate(database)
    return Product(
        settings=settings,
        database=database,
        broker=open_broker(settings.broker_url),
        artifacts=open_artifact_store(settings.artifacts_url),
    )
