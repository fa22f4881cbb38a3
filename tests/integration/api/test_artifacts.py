from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest
from werkzeug.http import parse_options_header
from werkzeug.test import TestResponse

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.models import Claim
from tests.integration.api import openapi
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import BuildHost
from tests.integration.api.test_errors import assert_error
from tests.integration.api.waiting import chance

BASE = "/api/v1/tasks/maker"
REPORT = b"0123456789" * 100
BIG = chance(7).randbytes((1 << 20) * 2 + 12_345)
NAMES = [
    "plain.txt", "with space.txt", 'a"quoted".txt', "semi;colon.txt", "a\\b.txt", "..\\..\\win.txt", "100%.txt",
    "%2e%2e%2f", "%00", "caf\u00e9.txt", "\u540d\u524d.txt", "\U0001f600.png", "<img onerror=alert(1)>.html", "-rf",
    ".hidden", "CON", "a'b`$(x).txt", "a\u202eb.txt", "x" * 255, "question?.txt", "hash#.txt", "plus+and&=.txt", "a:b",
    "~", "*", "[x]", "{y}", "|", "@", ",", "deep/er/still/file.txt", "dir with space/\u00fc/\u540d.bin", "a/..b/c",
    "metadata.json", "artifacts.tar.gz", "logs", "e\u0301.txt",
]  # fmt: skip


@pytest.fixture
def claim(client: CheckedClient, host: BuildHost) -> Claim:
    return host.run(client.task(id="maker", name="The maker"))


@pytest.fixture
def report(host: BuildHost, claim: Claim) -> str:
    host.keep(claim, {"out/report.html": REPORT})
    host.exit(claim)
    return f"{BASE}/artifacts/out/report.html"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listed(client: CheckedClient) -> list[dict[str, object]]:
    body = client.get(f"{BASE}/artifacts").json
    assert body
    assert body["total_count"] == len(body["artifacts"])
    assert body["total_size_bytes"] == sum(one["size_bytes"] for one in body["artifacts"])
    return list(body["artifacts"])


def file_name(response: TestResponse) -> str:
    """The name in Content-Disposition, as RFC 6266 readers find it."""
    header = response.headers["Content-Disposition"]
    assert header.startswith("attachment")
    assert header.isprintable()
    return parse_options_header(header)[1]["filename"]


def test_the_list_has_everything_of_each_artifact(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    assert listed(client) == []
    host.keep(claim, {"b/report.md": b"text", "a.bin": b""})
    first, second = listed(client)
    assert (first["path"], first["name"], first["size_bytes"]) == ("a.bin", "a.bin", 0)
    assert (second["path"], second["name"], second["checksum"]) == (
        "b/report.md",
        "report.md",
        f"sha256:{sha(b'text')}",
    )
    assert second["download_url"] == f"{BASE}/artifacts/b/report.md"


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_goes_through_list_download_and_archive(
    client: CheckedClient, host: BuildHost, claim: Claim, name: str
) -> None:
    data = name.encode() * 3
    host.keep(claim, {name: data, "other": b"other"})
    url = next(str(one["download_url"]) for one in listed(client) if one["path"] == name)
    assert url.isascii()
    response = client.get(url)
    assert response.status_code == 200
    assert response.data == data
    assert file_name(response) == name.rsplit("/", 1)[-1]
    assert client.head(url).headers["X-Checksum-SHA256"] == sha(data)
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{BASE}/artifacts.tar.gz").data)) as archive:
        member = archive.extractfile("metadata.json_" if name == "metadata.json" else name)
        assert member
        assert member.read() == data


def test_no_artifact_takes_the_place_of_our_metadata_when_the_archive_is_extracted(
    client: CheckedClient, host: BuildHost, claim: Claim, tmp_path: Path
) -> None:
    renamed = {
        "metadata.json": "metadata.json_",
        "metadata.json_": "metadata.json__",
        "METADATA.json": "METADATA.json_",
    }
    kept = {"sub/metadata.json": "sub/metadata.json", "metadata.jsonx": "metadata.jsonx", "_": "_"}
    host.keep(claim, {name: name.encode() for name in (*renamed, *kept)})
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{BASE}/artifacts.tar.gz").data)) as archive:
        archive.extractall(tmp_path, filter="data")
    assert {one["path"] for one in json.loads((tmp_path / "metadata.json").read_text())["artifacts"]} == {
        *renamed,
        *kept,
    }
    for name, inside in {**renamed, **kept}.items():
        assert (tmp_path / inside).read_bytes() == name.encode()


def test_a_directory_named_like_our_metadata_is_extracted_beside_it(
    client: CheckedClient, host: BuildHost, claim: Claim, tmp_path: Path
) -> None:
    host.keep(claim, {"metadata.json/x": b"x"})
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{BASE}/artifacts.tar.gz").data)) as archive:
        archive.extractall(tmp_path, filter="data")
    assert (tmp_path / "metadata.json").is_file()
    assert (tmp_path / "metadata.json_" / "x").read_bytes() == b"x"


def test_a_download_is_always_an_attachment_that_no_browser_renders(client: CheckedClient, report: str) -> None:
    response = client.get(report)
    assert response.data == REPORT
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Length"] == str(len(REPORT))
    assert response.headers["X-Checksum-SHA256"] == sha(REPORT)
    assert response.headers["ETag"] == f'"{sha(REPORT)}"'
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "sandbox"
    assert file_name(response) == "report.html"


def test_head_tells_the_same_without_the_bytes(client: CheckedClient, report: str) -> None:
    get, head = client.get(report), client.head(report)
    assert head.status_code == 200
    assert head.data == b""
    varying = {"X-Request-Id", "Date"}
    assert {k: v for k, v in head.headers if k not in varying} == {k: v for k, v in get.headers if k not in varying}
    assert client.head(report, headers={"Range": "bytes=5-6"}).headers["Content-Length"] == str(len(REPORT))
    assert client.head(f"{BASE}/artifacts/none").status_code == 404


def test_the_path_wins_over_the_base_name(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.keep(claim, {"report.md": b"top", "sub/report.md": b"below", "sub/only.md": b"only"})
    assert client.get(f"{BASE}/artifacts/report.md").data == b"top"
    assert client.get(f"{BASE}/artifacts/sub/report.md").data == b"below"
    assert client.get(f"{BASE}/artifacts/only.md").data == b"only"


def test_a_base_name_of_several_artifacts_is_409_with_their_paths(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    host.keep(claim, {"b/report.md": b"1", "a/report.md": b"2"})
    body = assert_error(client.get(f"{BASE}/artifacts/report.md"), 409, "ambiguous_artifact_name")
    assert body["details"] == {"candidates": ["a/report.md", "b/report.md"]}


@pytest.mark.parametrize(
    "path",
    [
        "none", "out", "out/", "out/report.html/", "/out/report.html", "out//report.html", "./out/report.html",
        "OUT/report.html", "out/../out/report.html", "%2e%2e/report.html", "..%2freport.html", "%2fetc%2fpasswd",
        "out%5creport.html", "out/report.html%0a", "out/report.htm", "%ff", "", "maker",
    ],
)  # fmt: skip
def test_a_path_that_is_no_artifacts_is_404_without_redirects(client: CheckedClient, report: str, path: str) -> None:
    response = client.get(f"{BASE}/artifacts/{path}")
    assert response.status_code == 404
    assert response.json
    assert response.json["error"] in ("artifact_not_found", "not_found")
    assert "Location" not in response.headers


def test_a_slash_may_be_percent_encoded(client: CheckedClient, report: str) -> None:
    assert client.get(f"{BASE}/artifacts/out%2Freport.html").data == REPORT


SIZE = len(REPORT)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=10-19", 10, 20),
        ("bytes=990-5000", 990, SIZE),
        ("bytes=999-", 999, SIZE),
        ("bytes=-1", 999, SIZE),
        ("bytes=-1000", 0, SIZE),
        ("bytes=-5000", 0, SIZE),
        ("BYTES=5-6", 5, 7),
    ],
)
def test_a_range_gives_its_bytes(client: CheckedClient, report: str, asked: str, start: int, stop: int) -> None:
    response = client.get(report, headers={"Range": asked})
    assert response.status_code == 206
    assert response.data == REPORT[start:stop]
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response.headers["Content-Length"] == str(stop - start)
    assert response.headers["X-Checksum-SHA256"] == sha(REPORT)


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5000-6000", f"bytes={10**30}-"])
def test_a_range_outside_is_416_and_says_how_much_there_is(client: CheckedClient, report: str, asked: str) -> None:
    response = client.get(report, headers={"Range": asked})
    assert_error(response, 416, "invalid_parameter")
    assert response.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=x", "lines=1-2", "bytes=", "bytes=1-2,5-6", "", "bytes=--1", "bytes=\u0663-"]
)
def test_a_range_nobody_understands_gives_the_whole(client: CheckedClient, report: str, asked: str) -> None:
    response = client.get(report, headers={"Range": asked.encode("utf-8").decode("latin-1")})
    assert response.status_code == 200
    assert response.data == REPORT


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (f'"{sha(REPORT)}"', 206),
        ('"another"', 200),
        ("Wed, 21 Oct 2037 07:28:00 GMT", 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("nonsense", 200),
    ],
)
def test_a_resumed_download_gets_the_rest_only_of_the_same_bytes(
    client: CheckedClient, report: str, condition: str, status: int
) -> None:
    response = client.get(report, headers={"Range": "bytes=100-", "If-Range": condition})
    assert response.status_code == status
    assert response.data == (REPORT[100:] if status == 206 else REPORT)


@pytest.mark.parametrize("tag", [f'"{sha(REPORT)}"', f'W/"{sha(REPORT)}"', "*", f'"x", "{sha(REPORT)}"'])
def test_who_has_the_bytes_already_gets_304(client: CheckedClient, report: str, tag: str) -> None:
    response = client.get(report, headers={"If-None-Match": tag, "Range": "bytes=0-1"})
    assert response.status_code == 304
    assert response.data == b""
    assert response.headers["ETag"] == f'"{sha(REPORT)}"'
    assert client.get(report, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_download_cut_at_random_places_and_resumed_is_the_file(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    host.keep(claim, {"big.bin": BIG})
    url, random_ = f"{BASE}/artifacts/big.bin", chance(11)
    got = b""
    while len(got) < len(BIG):
        response = client.get(url, headers={"Range": f"bytes={len(got)}-", "If-Range": f'"{sha(BIG)}"'})
        assert response.status_code == 206
        got += response.data[: random_.randrange(1, 1 << 19)]
    assert sha(got) == sha(BIG)
    assert client.get(url).data == BIG


def test_an_empty_artifact_is_downloaded_and_has_no_ranges(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    host.keep(claim, {"empty": b""})
    response = client.get(f"{BASE}/artifacts/empty")
    assert (response.status_code, response.data, response.headers["Content-Length"]) == (200, b"", "0")
    assert response.headers["X-Checksum-SHA256"] == sha(b"")
    ranged = client.get(f"{BASE}/artifacts/empty", headers={"Range": "bytes=0-"})
    assert_error(ranged, 416, "invalid_parameter")
    assert ranged.headers["Content-Range"] == "bytes */0"
    assert client.head(f"{BASE}/artifacts/empty").headers["Content-Length"] == "0"


def test_the_archive_extracts_safely_and_holds_every_artifact_and_the_metadata(
    client: CheckedClient, host: BuildHost, claim: Claim, tmp_path: Path
) -> None:
    files = {
        "big.bin": BIG,
        "empty": b"",
        "out/" + "d/" * 60 + "deep.txt": b"deep",
        "\u540d\u524d/x y.txt": b"utf-8",
        "b" * 150: b"long",
    }
    host.keep(claim, files)
    host.end_command(claim, image="sandbox/basic:latest", image_digest="sha256:0123", commit="abc123")
    from orchestrator.outcomes import of_exit
    from orchestrator.services.conclude import conclude

    conclude(host.product, claim, of_exit(4, oom_killed=False))
    response = client.get(f"{BASE}/artifacts.tar.gz")
    assert response.status_code == 200
    assert response.mimetype == "application/gzip"
    assert file_name(response) == "maker-artifacts.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(response.data), mode="r:gz") as archive:
        members = archive.getmembers()
        assert all(member.isreg() and (member.uid, member.gid, member.mode) == (0, 0, 0o644) for member in members)
        assert len({member.mtime for member in members}) == 1
        archive.extractall(tmp_path / "python", filter="data")
    metadata = json.loads((tmp_path / "python" / "metadata.json").read_text())
    for directory in ("python", "tar"):
        if directory == "tar":  # what people have on their machines reads it, too
            (tmp_path / "tar").mkdir()
            archive_file = tmp_path / "all.tar.gz"
            archive_file.write_bytes(response.data)
            told = subprocess.run(
                ["tar", "-xzf", archive_file, "-C", tmp_path / "tar"], capture_output=True, check=True
            )
            assert told.stderr == b""
        for path, data in files.items():
            assert (tmp_path / directory / path).read_bytes() == data
    openapi.validate(openapi.component("ArchiveMetadata"), metadata)
    assert metadata["task_id"] == "maker"
    assert metadata["outcome"]["exit_code"] == 4
    assert (metadata["image_digest"], metadata["commit"]) == ("sha256:0123", "abc123")
    assert {one["path"] for one in metadata["artifacts"]} == set(files)


def test_the_archive_of_a_task_without_artifacts_holds_the_metadata_alone(client: CheckedClient) -> None:
    client.task(id="maker")
    data = client.get(f"{BASE}/artifacts.tar.gz").data
    assert len(gzip.decompress(data)) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["metadata.json"]
        metadata = archive.extractfile("metadata.json")
        assert metadata
        openapi.validate(openapi.component("ArchiveMetadata"), json.load(metadata))
    head = client.head(f"{BASE}/artifacts.tar.gz")
    assert (head.status_code, head.data) == (200, b"")


def test_the_archive_is_a_whole_number_of_tar_records(client: CheckedClient, host: BuildHost, claim: Claim) -> None:
    host.keep(claim, {"a": b"x" * 700, "b": b"y"})
    assert len(gzip.decompress(client.get(f"{BASE}/artifacts.tar.gz").data)) % tarfile.RECORDSIZE == 0


def test_only_the_latest_attempts_artifacts_are_shown(client: CheckedClient, host: BuildHost) -> None:
    from tests.integration.api.test_logs import RETRIED, start_again

    client.submit(RETRIED.replace("id: again", "id: maker"))
    claim = host.run("maker")
    host.keep(claim, {"first": b"1"})
    host.end_command(claim)
    host.lose(claim)
    assert [one["path"] for one in listed(client)] == ["first"]
    claim = start_again(host, "maker")
    assert listed(client) == []
    host.keep(claim, {"second": b"2"})
    assert [one["path"] for one in listed(client)] == ["second"]
    assert_error(client.get(f"{BASE}/artifacts/first"), 404, "artifact_not_found")
    earlier = client.get(f"{BASE}/artifacts?attempt=1").get_json()["artifacts"]
    assert [one["path"] for one in earlier] == ["first"]
    assert client.get(earlier[0]["download_url"]).data == b"1"
    assert b"first" in gzip.decompress(client.get(f"{BASE}/artifacts.tar.gz?attempt=1").data)
    assert_error(client.get(f"{BASE}/artifacts?attempt=3"), 400, "invalid_parameter")


def test_bytes_that_went_away_under_a_download_are_404(client: CheckedClient, host: BuildHost, report: str) -> None:
    host.product.artifacts.delete_prefix("tasks/maker")
    assert_error(client.get(report), 404, "artifact_not_found")


def test_a_storage_that_does_not_answer_is_503(
    client: CheckedClient, host: BuildHost, report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ArtifactStoreUnavailable("the artifact directory is away for this test; mount it")

    monkeypatch.setattr(type(host.product.artifacts), "open", away)
    assert_error(client.get(report), 503, "service_unavailable")


def test_a_download_url_survives_a_second_quoting_of_its_parts(
    client: CheckedClient, host: BuildHost, claim: Claim
) -> None:
    host.keep(claim, {"100%/a b": b"x"})
    assert listed(client)[0]["download_url"] == f"{BASE}/artifacts/" + quote("100%/a b")
