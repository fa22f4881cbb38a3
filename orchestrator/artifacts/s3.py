"""Artifacts in an S3-compatible object storage.

Endpoint, region and credentials are boto3's own business, by its standard means: `AWS_ENDPOINT_URL_S3`,
`AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE` and ~/.aws, the role of the
machine. Import this module only when S3 was chosen: boto3 costs every process 40 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from orchestrator.artifacts import s3_faults
from orchestrator.artifacts.location import S3Location, UnusableArtifactsUrl
from orchestrator.artifacts.port import ArtifactStoreUnavailable, Stored
from orchestrator.artifacts.s3_client import PROBE, TRANSFER, Patience, content_md5, make_client
from orchestrator.artifacts.streams import Chunks, Intake

MAX_PARTS = 10_000
"""S3's own limit for one upload."""
PART_BYTES = 8 << 20
"""Up to three are in memory at a time for each put. All parts of an upload but the last have one size, as some
S3-compatible servers insist on it; S3 wants at least 5 MiB."""
MAX_PART_BYTES = 64 << 20
"""Parts grow up to this where `limit` allows a file of more than 78 GiB; so the largest artifact has 625 GiB."""
WRITE_CHECK = ".write-check"


class S3Store:
    """Objects of one bucket, below a prefix.

    Raises `UnusableArtifactsUrl` when boto3's own settings are bad; the storage itself is not asked yet.
    """

    def __init__(self, location: S3Location, *, transfer: Patience = TRANSFER, probe: Patience = PROBE) -> None:
        self._location = location
        self._written = False
        try:
            session = boto3.session.Session()
            self._client = make_client(session, transfer)
            self._probe = make_client(session, probe)
        except (BotoCoreError, ValueError) as error:
            raise UnusableArtifactsUrl(
                f"boto3 refuses its settings ({type(error).__name__}); check AWS_ENDPOINT_URL_S3, AWS_DEFAULT_REGION, "
                "AWS_PROFILE and ~/.aws/config"
            ) from error

    def put(self, key: str, source: BinaryIO, *, limit: int) -> Stored:
        part_bytes = min(max(PART_BYTES, -(-limit // MAX_PARTS)), MAX_PART_BYTES)
        intake = Intake(source, min(limit, part_bytes * MAX_PARTS))
        first = intake.part(part_bytes)
        if len(first) == part_bytes:
            self._put_parts(key, chain([first], iter(partial(intake.part, part_bytes), b"")))
        else:
            with self._naming(f"artifact {key} cannot be stored"):
                self._field(self._client.put_object(**self._at(key), Body=first, ContentMD5=content_md5(first)), "ETag")
        return intake.stored

    def _put_parts(self, key: str, parts: Iterator[bytearray]) -> None:
        what, done = f"artifact {key} cannot be stored", []
        with self._naming(what):
            upload = self._field(self._client.create_multipart_upload(**self._at(key)), "UploadId")
        at = {**self._at(key), "UploadId": upload}
        try:
            for number, part in enumerate(parts, start=1):
                with self._naming(f"{what} (part {number})"):
                    md5 = content_md5(part)
                    answer = self._client.upload_part(**at, PartNumber=number, Body=part, ContentMD5=md5)
                    done.append({"PartNumber": number, "ETag": self._field(answer, "ETag")})
            with self._naming(what):
                answer = self._client.complete_multipart_upload(**at, MultipartUpload={"Parts": done})
                self._field(answer, "ETag")
        except BaseException:
            # Best effort, and soon: where it fails, the bucket's lifecycle rule removes the parts.
            with suppress(*s3_faults.FAULTS):
                self._probe.abort_multipart_upload(**at)
            raise

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        what = f"artifact {key} cannot be read"
        # There is no range of no bytes: to learn whether the key exists, the shortest one is asked for.
        end = "" if length is None else str(start + max(length, 1) - 1)
        asked = {"Range": f"bytes={start}-{end}"} if start or end else {}
        try:
            with self._naming(what):
                answer = self._client.get_object(**self._at(key), **asked)
        except _Refused as error:
            if error.code == "NoSuchKey":
                raise KeyError(key) from None
            if error.status == 416:
                return iter(())
            raise
        chunks = Chunks(answer["Body"], length, partial(self._naming, f"{what} to its end"))
        if asked and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            chunks.close()
            raise self._unavailable(what, "it gave the whole for a part; use a storage that knows the Range header")
        return chunks

    def delete_prefix(self, prefix: str) -> None:
        what = f"artifacts below {prefix} cannot be removed"
        with self._naming(what):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._location.bucket, Prefix=f"{self._location.key(prefix)}/"):
                doomed = [{"Key": one["Key"]} for one in page.get("Contents", ())]
                if not doomed:
                    continue
                answer = self._client.delete_objects(
                    Bucket=self._location.bucket, Delete={"Objects": doomed, "Quiet": True}
                )
                for error in answer.get("Errors", ()):
                    raise ClientError({"Error": error, "ResponseMetadata": answer["ResponseMetadata"]}, "DeleteObjects")

    def ping(self) -> None:
        """List one key; before that, once, write an empty object: credentials may be good for reading only."""
        bucket, listed = self._location.bucket, self._location.key("tasks/")
        with self._naming("nothing can be stored"):
            if not self._written:
                self._field(
                    self._probe.put_object(**self._at(WRITE_CHECK), Body=b"", ContentMD5=content_md5(b"")), "ETag"
                )
                self._written = True
            self._probe.list_objects_v2(Bucket=bucket, Prefix=listed, MaxKeys=1)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._location.bucket, "Key": self._location.key(key)}

    @staticmethod
    def _field(answer: dict[str, Any], name: str) -> str:
        """Something between us may answer 200 to everything; only S3's own answer has this field."""
        if not (found := answer.get(name)):
            raise ResponseParserError(f"{name} is missing")
        return str(found)

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code, status = s3_faults.code(error), s3_faults.status(error)
            raise _Refused(self._message(what, s3_faults.explain(error)), code, status) from error
        except s3_faults.FAULTS as error:
            raise self._unavailable(what, s3_faults.explain(error)) from error

    def _unavailable(self, what: str, why: str) -> ArtifactStoreUnavailable:
        return ArtifactStoreUnavailable(self._message(what, why))

    def _message(self, what: str, why: str) -> str:
        return f"{what} in {self._location}: {why}"


class _Refused(ArtifactStoreUnavailable):
    """The storage answered, with an error."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
