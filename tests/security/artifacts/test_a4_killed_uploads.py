"""A4: an upload that is killed at any point leaves no artifact, and the next one stores the same bytes.

A worker killed at each step of an ending: tests/e2e/faults/test_f04…; a storage that fails or gets other bytes:
tests/e2e/faults/test_f24…, tests/integration/artifacts/test_s3_faults.py.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.artifacts import ArtifactStore, open_artifact_store
from tests.integration.api.waiting import chance
from tests.integration.artifacts.conftest import s3_location, s3_server

__all__ = ["s3_location", "s3_server"]

KEY = "tasks/killed/1/0"
SIZE = 20 << 20
POINTS = [SIZE * tenth // 10 for tenth in range(10)]
"""How many bytes the upload has been given when it is killed."""
PROGRAM = f"""
import sys
from orchestrator.artifacts import open_artifact_store
print(open_artifact_store(sys.argv[1]).put({KEY!r}, sys.stdin.buffer, limit={SIZE}).sha256)
"""


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.security_long)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "directory":
        yield f"file://{tmp_path / 'artifacts'}"
    else:
        location = request.getfixturevalue("s3_location")
        yield f"s3://{location.bucket}/{location.prefix}"


def uploading(url: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", PROGRAM, url]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def is_there(store: ArtifactStore) -> bool:
    try:
        return b"".join(store.open(KEY)) is not None
    except KeyError:
        return False


def test_a4_an_upload_killed_at_ten_points_is_never_there_and_the_next_one_is_whole(url: str) -> None:
    data = chance(4).randbytes(SIZE)
    store = open_artifact_store(url)
    for point in POINTS:
        with uploading(url) as killed:
            assert killed.stdin
            killed.stdin.write(data[:point])
            killed.stdin.flush()
            killed.kill()
        assert killed.returncode == -9
        assert not is_there(store), f"killed after {point} bytes"
    with uploading(url) as whole:
        told, _ = whole.communicate(data)
    assert told.decode().strip() == hashlib.sha256(data).hexdigest()
    assert b"".join(store.open(KEY)) == data
