"""A task's artifacts through the API when they lie in an object storage."""

from __future__ import annotations

import hashlib
import io
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from api import condition
from orchestrator.artifacts import open_artifact_store
from orchestrator.product import Product
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.waiting import chance
from tests.servers.s3 import S3Server

URL = "/api/v1/tasks/maker"
BIG = chance(3).randbytes((9 << 20) + 4_321)
FILES = {"out/big.bin": BIG, "empty": b"", "\u540d.txt": b"0123456789"}


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def in_s3(product: Product, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Product:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"api-{uuid.uuid4().hex}"
    s3_server.client().create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/sandbox"
    return replace(product, settings=replace(product.settings, artifacts_url=url), artifacts=open_artifact_store(url))


@pytest.fixture
def client(in_s3: Product, make_client: Callable[[Product], CheckedClient]) -> CheckedClient:
    client = make_client(in_s3)
    host = BuildHost(in_s3)
    host.register()
    claim = host.run(client.task(id="maker"))
    host.keep(claim, FILES)
    host.exit(claim)
    return client


def test_artifacts_in_s3_are_downloaded_whole_and_in_ranges(client: CheckedClient) -> None:
    listed = {one["path"]: one for one in client.get(f"{URL}/artifacts").json["artifacts"]}  # type: ignore[index]
    assert set(listed) == set(FILES)
    for path, data in FILES.items():
        response = client.get(listed[path]["download_url"])
        assert (response.status_code, response.data) == (200, data)
        assert response.headers["X-Checksum-SHA256"] == hashlib.sha256(data).hexdigest()
    for start, stop in ((0, 1), (5, 3 << 20), ((8 << 20) - 3, (8 << 20) + 3), (len(BIG) - 7, len(BIG))):
        response = client.get(f"{URL}/artifacts/out/big.bin", headers={"Range": f"bytes={start}-{stop - 1}"})
        assert (response.status_code, response.data) == (206, BIG[start:stop])
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BIG)}"


def test_a_download_from_s3_cut_at_random_places_and_resumed_is_the_file(client: CheckedClient) -> None:
    got, random_ = b"", chance(11)
    while len(got) < len(BIG):
        response = client.get(f"{URL}/artifacts/out/big.bin", headers={"Range": f"bytes={len(got)}-"})
        assert response.status_code == 206
        got += response.data[: random_.randrange(1, 3 << 20)]
    assert got == BIG


def test_the_archive_holds_what_lies_in_s3(client: CheckedClient) -> None:
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{URL}/artifacts.tar.gz").data)) as archive:
        for path, data in FILES.items():
            member = archive.extractfile(path)
            assert member
            assert member.read() == data


def test_a_purge_empties_the_bucket_of_the_task(client: CheckedClient, in_s3: Product, s3_server: S3Server) -> None:
    bucket = in_s3.settings.artifacts_url.split("/")[2]
    assert s3_server.client().list_objects_v2(Bucket=bucket)["KeyCount"] == len(FILES)
    assert client.delete(f"{URL}/data").status_code == 204
    assert s3_server.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_bucket_that_went_away_is_503_and_not_ready(
    client: CheckedClient,
    in_s3: Product,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(condition, "KEPT_SECONDS", 0)
    assert client.get("/api/v1/health/ready").status_code == 200
    in_s3.artifacts.delete_prefix("tasks/maker")
    bucket = in_s3.settings.artifacts_url.split("/")[2]
    s3_server.client().delete_object(Bucket=bucket, Key="sandbox/.write-check")
    s3_server.client().delete_bucket(Bucket=bucket)
    answer = client.get(f"{URL}/artifacts/out/big.bin")
    assert_error(answer, 503, "service_unavailable")
    [refused] = [one for one in caplog.records if one.message == "request refused"]
    assert "it answered 404 NoSuchBucket; create the bucket" in refused.why  # type: ignore[attr-defined]
    assert set(client.get("/api/v1/health/ready").json["details"]) == {"artifacts"}  # type: ignore[index]


def test_the_data_directory_holds_no_artifacts_then(client: CheckedClient, in_s3: Product) -> None:
    assert client.get(f"{URL}/artifacts").json["total_count"] == len(FILES)  # type: ignore[index]
    kept = in_s3.settings.data_dir / "artifacts"
    assert [one for one in kept.rglob("*") if one.is_file()] == []
