"""Which storage a SANDBOX_ARTIFACTS_URL names, and what it must not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.artifacts import UnusableArtifactsUrl, parse_location
from orchestrator.artifacts.location import DirectoryLocation, S3Location
from orchestrator.settings import InvalidSettings, load


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///srv/artifacts", "/srv/artifacts"),
        ("file://localhost/srv/a", "/srv/a"),
        ("file:///srv/with%20space", "/srv/with space"),
    ],
)
def test_a_file_url_names_a_directory(url: str, root: str) -> None:
    assert parse_location(url) == DirectoryLocation(Path(root))


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://my.bucket-1/team/sandbox/", "my.bucket-1", "team/sandbox"),
        ("S3://bucket/a", "bucket", "a"),
    ],
)
def test_an_s3_url_names_bucket_and_prefix(url: str, bucket: str, prefix: str) -> None:
    assert parse_location(url) == S3Location(bucket, prefix)


def test_a_key_lies_below_the_prefix() -> None:
    assert S3Location("bucket", "a/b").key("tasks/x") == "a/b/tasks/x"
    assert S3Location("bucket", "").key("tasks/x") == "tasks/x"
    assert [str(S3Location("bucket", prefix)) for prefix in ("", "a/b")] == ["s3://bucket", "s3://bucket/a/b"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begins with 'no scheme'; use file:///absolute/directory or s3://bucket/prefix"),
        ("/srv/artifacts", "begins with 'no scheme'"),
        ("https://minio:9000/bucket", "begins with 'https'"),
        ("file://srv/artifacts", "takes no host; write three slashes"),
        ("file:relative", "no absolute directory"),
        ("file:///a%00b", "no absolute directory"),
        ("s3://", "no name of a bucket stands behind s3://"),
        ("s3:///prefix", "no name of a bucket stands behind s3://"),
        ("s3://ab", "no name of a bucket"),
        ("s3://minio:9000/bucket", "the server's address into AWS_ENDPOINT_URL_S3"),
        ("s3://bucket/a//b", "its prefix has"),
        ("s3://bucket/a/../b", "its prefix has"),
        ("s3://bucket/a b", "its prefix has"),
        ("s3://bucket/" + "a" * 513, "its prefix has more than 512 characters"),
        ("s3://bucket/a?endpoint=x", "a part behind ? or #"),
        ("s3://bucket/a#x", "a part behind ? or #"),
        ("s3://[bucket", "it is no URL"),
    ],
)
def test_what_names_no_storage_is_refused_with_what_to_write(url: str, why: str) -> None:
    with pytest.raises(UnusableArtifactsUrl) as caught:
        parse_location(url)
    assert str(caught.value).startswith("SANDBOX_ARTIFACTS_URL is not usable: ")
    assert why in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url", ["s3://key:hidden@bucket/a", "https://me:hidden@minio/bucket", "s3://bucket/a?secret=hidden", "s3://[hidden"]
)
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UnusableArtifactsUrl) as caught:
        parse_location(url)
    assert "hidden" not in str(caught.value)


def test_the_settings_tell_of_it_with_all_other_errors() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load({"SANDBOX_ARTIFACTS_URL": "s3://", "SANDBOX_CONCURRENCY": "0"})
    assert len(caught.value.errors) == 2
    assert any("no name of a bucket" in error for error in caught.value.errors)


def test_a_data_directory_with_odd_characters_gives_a_usable_default() -> None:
    settings = load({"SANDBOX_DATA_DIR": "/srv/a b?c#d%20é"})
    assert parse_location(settings.artifacts_url) == DirectoryLocation(Path("/srv/a b?c#d%20é/artifacts"))
