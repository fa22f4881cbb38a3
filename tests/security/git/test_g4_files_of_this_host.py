"""G4: `file://` leads only where the operator allows it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.repositories import make_repository
from tests.security.git.cloning import submit_clone

pytestmark = pytest.mark.docker


def test_g4_a_file_repository_outside_of_the_operator_s_directory_is_refused_in_every_spelling(
    api: httpx.Client, allowed: Path, tmp_path: Path
) -> None:
    outside = make_repository(tmp_path / "outside").path
    (allowed / "link").symlink_to(outside)
    urls = [
        "file:///etc", f"file://{outside}", f"file://{allowed}/../{outside.name}", f"file://{allowed}/link",
        f"file://{allowed}x", "file://localhost/etc", "file://", "file:////etc", f"file://{allowed}/%2e%2e/etc", "/etc",
        str(outside), "../outside",
    ]  # fmt: skip
    accepted = [url for url in urls if submit_clone(api, {"url": url}) is not None]
    assert accepted == []
