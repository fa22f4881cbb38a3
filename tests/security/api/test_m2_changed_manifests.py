"""M2: whatever arrives as a manifest is accepted or refused in the product's words, and never fails the server.

Arbitrary bytes, arbitrary JSON and YAML punctuation: tests/integration/api/test_manifest_attacks.py. Here, texts
that are nearly good, which get further.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.api.conftest import CheckedClient
from tests.integration.api.test_manifest_attacks import JSON, YAML, alarm
from tests.integration.api.waiting import chance
from tests.security.api.mutations import mutated

ANSWERS = {202, 400, 413, 415, 422, 507}


@pytest.mark.parametrize("examples", [100, pytest.param(5000, marks=pytest.mark.security_long)])
def test_m2_a_manifest_that_was_changed_anywhere_never_fails_the_server(planted: CheckedClient, examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(seed=st.integers(0, 1 << 62), kind=st.sampled_from([YAML, JSON]))
    def run(seed: int, kind: str) -> None:
        body = mutated(chance(seed))
        with alarm():
            response = planted.post("/api/v1/tasks", data=body, content_type=kind)
        assert response.status_code in ANSWERS, (body, response.text)

    run()
