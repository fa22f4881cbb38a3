"""An S3-compatible object storage as artifact storage."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc

import pytest

from orchestrator.artifacts import ArtifactStore, ArtifactStoreUnavailable, UnusableArtifactsUrl, open_artifact_store
from orchestrator.artifacts.location import S3Location
from orchestrator.artifacts.s3 import PART_BYTES, S3Store
from tests.integration.artifacts.contract import BIG, KEY, SMALL, ArtifactStoreContract, Failure, Watched, get, put
from tests.servers.s3 import S3Server

MANY_PARTS = 12


@pytest.fixture
def store(s3_location: S3Location) -> ArtifactStore:
    return open_artifact_store(str(s3_location))


class TestS3Store(ArtifactStoreContract):
    pass


def keys(server: S3Server, location: S3Location) -> set[str]:
    return {one["Key"] for one in server.client().list_objects_v2(Bucket=location.bucket).get("Contents", ())}


def uploads(server: S3Server, location: S3Location) -> list[object]:
    return list(server.client().list_multipart_uploads(Bucket=location.bucket).get("Uploads", ()))


def test_keys_lie_below_the_prefix(store: ArtifactStore, s3_server: S3Server, s3_location: S3Location) -> None:
    put(store, SMALL)
    assert keys(s3_server, s3_location) == {f"some/where/{KEY}"}


def test_a_bucket_may_be_used_without_a_prefix(s3_server: S3Server, s3_location: S3Location) -> None:
    store = open_artifact_store(f"s3://{s3_location.bucket}")
    put(store, SMALL)
    store.ping()
    assert keys(s3_server, s3_location) == {KEY, ".write-check"}
    assert get(store) == SMALL
    store.delete_prefix("tasks/one")
    assert keys(s3_server, s3_location) == {".write-check"}


@pytest.mark.parametrize("stop", ["limit", "source"])
def test_an_upload_that_is_given_up_leaves_no_parts_behind(
    store: ArtifactStore, s3_server: S3Server, s3_location: S3Location, stop: str
) -> None:
    seen: list[object] = []

    def look(position: int) -> None:
        if position > PART_BYTES:
            seen.extend(uploads(s3_server, s3_location))
            if stop == "source":
                raise Failure

    with pytest.raises(Exception, match="larger than the" if stop == "limit" else "^$"):
        store.put(KEY, Watched(BIG, look), limit=len(BIG) - 1)
    assert seen, "parts were under way"
    assert uploads(s3_server, s3_location) == []
    assert keys(s3_server, s3_location) == set()


def test_memory_holds_a_few_parts_of_a_large_artifact(store: ArtifactStore) -> None:
    class Zeros(io.RawIOBase):
        left = MANY_PARTS * PART_BYTES

        def read(self, size: int = -1, /) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return bytes(size)

    tracemalloc.start()
    try:
        stored = store.put(KEY, Zeros(), limit=10 << 30)  # type: ignore[arg-type]
        for _ in store.open(KEY):
            pass
        assert tracemalloc.get_traced_memory()[1] < 4 * PART_BYTES
    finally:
        tracemalloc.stop()
    assert stored.size_bytes == MANY_PARTS * PART_BYTES


def test_a_bucket_that_is_not_there_is_told_with_what_to_do(s3_location: S3Location) -> None:
    store = open_artifact_store("s3://nobody-made-this-one/x")
    for call in (store.ping, lambda: put(store, SMALL), lambda: put(store, BIG), lambda: store.open(KEY)):
        with pytest.raises(
            ArtifactStoreUnavailable,
            match=r"in s3://nobody-made-this-one/x: it answered 404 NoSuchBucket; create the bucket, or correct",
        ):
            call()
    with pytest.raises(ArtifactStoreUnavailable, match="artifacts below tasks/one cannot be removed"):
        store.delete_prefix("tasks/one")


def test_bad_settings_of_boto3_stop_the_start(s3_location: S3Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "no URL: key:secret")
    with pytest.raises(
        UnusableArtifactsUrl, match=r"boto3 refuses its settings \(ValueError\); check AWS_ENDPOINT"
    ) as bad:
        S3Store(s3_location)
    assert "secret" not in str(bad.value)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(UnusableArtifactsUrl, match=r"boto3 refuses its settings \(ProfileNotFound\)"):
        S3Store(s3_location)


def test_without_credentials_it_says_so(s3_location: S3Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ArtifactStoreUnavailable, match=r"no credentials were found; check the credentials and"):
        put(S3Store(s3_location), SMALL)


def test_boto3_is_loaded_only_where_s3_is_chosen(tmp_path: object) -> None:
    program = f"""
import sys
from orchestrator.artifacts import open_artifact_store
import orchestrator.product
open_artifact_store("file://{tmp_path}/artifacts").ping()
assert not {{"boto3", "botocore"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_installation_without_boto3_is_told_what_to_install() -> None:
    program = """
import sys
sys.modules["boto3"] = None
from orchestrator.artifacts import open_artifact_store
try:
    open_artifact_store("s3://bucket/prefix")
except ValueError as error:
    assert error.exit_code == 2
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "boto3 is not installed; run pip install 'sandbox-orchestrator[s3]'" in told
