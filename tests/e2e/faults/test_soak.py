"""Random faults under load, with a fixed seed. `make soak` is the long one, with any seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.faults.soak import FEWEST_FAULTS, Plan, soak

pytestmark = [pytest.mark.docker, pytest.mark.postgres]


def test_ninety_seconds_of_random_faults_violate_nothing(
    docker_engine: None, tmp_path: Path, open_cluster: Any
) -> None:
    plan = Plan(seconds=90, tasks=45, seed=20_261_122)
    result = soak(plan, tmp_path / "soak", open_cluster)
    print(result.summary(plan))
    assert sum(result.faults.values()) >= FEWEST_FAULTS
    assert result.violations == []
