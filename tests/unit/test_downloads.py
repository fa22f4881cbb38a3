"""Downloads: resumed, verified, and never outside the place the user named."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.client import (
    ChecksumMismatch,
    Client,
    DownloadFailed,
    NotFound,
    ServerRefused,
    ServerUnreachable,
    UnsafeName,
)
from api.partial_file import PartialFile, target_below
from tests.unit.fake_api import FakeApi, task

DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as running:
        running.tasks["t"] = task("t", "completed")
        running.artifacts["t"] = {"out/data.bin": DATA, "a/same.txt": b"a", "b/same.txt": b"b", "empty": b""}
        yield running


@pytest.fixture
def client(api: FakeApi) -> Iterator[Client]:
    with Client(api.url, sleep=lambda _: None) as made:
        yield made


def parts_in(directory: Path) -> list[Path]:
    return list(directory.glob(".sandbox-*.part"))


def ranges(api: FakeApi) -> list[str | None]:
    return [one.headers.get("range") for one in api.requests("GET", "data.bin")]


def answering(*answers: httpx.Response) -> Client:
    left = list(answers)
    return Client("http://server.test", transport=httpx.MockTransport(lambda _: left.pop(0)), sleep=lambda _: None)


def offer(size: int, **headers: str) -> dict[str, str]:
    return {"Content-Length": str(size), "X-Checksum-SHA256": SHA, "ETag": '"1"', **headers}


def test_a_download_is_verified_and_appears_whole(client: Client, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    got = client.download(
        "t",
        "out/data.bin",
        tmp_path / "x",
        checksum=f"sha256:{SHA}",
        on_progress=lambda *pair: seen.append(pair),
    )
    assert (tmp_path / "x").read_bytes() == DATA
    assert (got.sha256, got.size_bytes, got.verified, got.kept_bytes) == (SHA, len(DATA), True, 0)
    assert seen[-1] == (len(DATA), len(DATA))
    assert parts_in(tmp_path) == []


def test_a_cut_download_resumes_within_the_same_call(api: FakeApi, client: Client, tmp_path: Path) -> None:
    api.cut_bytes_after = [1000, 500_000]
    client.download("t", "out/data.bin", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert ranges(api) == [None, "bytes=1000-", "bytes=501000-"]
    assert api.requests("GET", "data.bin")[1].headers["if-range"] == f'"{SHA}"'


def test_a_download_that_was_given_up_resumes_in_the_next_call(api: FakeApi, client: Client, tmp_path: Path) -> None:
    api.cut_bytes_after = [700, 0, 0, 0, 0, 0]
    with pytest.raises(ServerUnreachable, match=f"700 of {len(DATA)} bytes are kept"):
        client.download("t", "out/data.bin", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert len(parts_in(tmp_path)) == 1
    got = client.download("t", "out/data.bin", tmp_path / "x")
    assert got.kept_bytes == 700
    assert (tmp_path / "x").read_bytes() == DATA
    assert ranges(api)[-1] == "bytes=700-"
    assert parts_in(tmp_path) == []


def test_the_rest_of_another_version_is_never_appended(api: FakeApi, client: Client, tmp_path: Path) -> None:
    api.cut_bytes_after = [700, 0, 0, 0, 0, 0]
    with pytest.raises(ServerUnreachable):
        client.download("t", "out/data.bin", tmp_path / "x")
    api.artifacts["t"]["out/data.bin"] = DATA[::-1]
    client.download("t", "out/data.bin", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA[::-1]
    assert ranges(api)[-1] is None


def test_a_server_that_ignores_ranges_begins_again(tmp_path: Path) -> None:
    whole = [httpx.Response(200, headers=offer(len(DATA)), content=iter([body])) for body in (b"", DATA[:50], DATA)]
    answering(*whole).download("t", "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_another_range_than_asked_for_is_refused(tmp_path: Path) -> None:
    wrong = offer(10, **{"Content-Range": f"bytes 40-49/{len(DATA)}"})
    client = answering(
        httpx.Response(200, headers=offer(len(DATA))),
        httpx.Response(200, headers=offer(len(DATA)), content=iter([DATA[:50]])),
        httpx.Response(206, headers=wrong, content=iter([DATA[40:50]])),
    )
    with pytest.raises(DownloadFailed, match="another range"):
        client.download("t", "x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_content_that_changes_during_the_download_is_refused(tmp_path: Path) -> None:
    client = answering(
        httpx.Response(200, headers=offer(len(DATA))),
        httpx.Response(200, headers=offer(len(DATA)) | {"X-Checksum-SHA256": "0" * 64}, content=DATA),
    )
    with pytest.raises(DownloadFailed, match="changed on the server"):
        client.download("t", "x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    headers = offer(10)
    client = answering(
        httpx.Response(200, headers=headers),
        httpx.Response(200, headers=headers, content=iter([DATA[:6], DATA[:6]])),
    )
    with pytest.raises(DownloadFailed, match="more bytes"):
        client.download("t", "x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_are_thrown_away(api: FakeApi, client: Client, tmp_path: Path) -> None:
    api.corrupt = True
    with pytest.raises(ChecksumMismatch, match=SHA):
        client.download("t", "out/data.bin", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_are_kept_when_nobody_wants_them_verified(api: FakeApi, client: Client, tmp_path: Path) -> None:
    api.corrupt = True
    got = client.download("t", "out/data.bin", tmp_path / "x", verify=False)
    assert (got.verified, (tmp_path / "x").stat().st_size) == (False, len(DATA))


def test_the_list_and_the_transfer_must_agree(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch, match="list the artifacts again"):
        client.download("t", "out/data.bin", tmp_path / "x", checksum="sha256:" + "0" * 64)


def test_without_a_checksum_only_an_unverified_download_is_possible(tmp_path: Path) -> None:
    bare = [httpx.Response(200, headers={"Content-Length": "3"}, content=iter([b"abc"])) for _ in range(3)]
    client = answering(*bare)
    with pytest.raises(DownloadFailed, match="--no-verify"):
        client.download("t", "x", tmp_path / "x")
    client.download("t", "x", tmp_path / "x", verify=False)
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_file_that_is_already_there_is_not_fetched_again(api: FakeApi, client: Client, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    assert client.download("t", "out/data.bin", tmp_path / "x").kept_bytes == len(DATA)
    assert api.requests("GET", "data.bin") == []


def test_an_older_file_is_replaced(client: Client, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    client.download("t", "out/data.bin", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_an_empty_artifact_becomes_an_empty_file(client: Client, tmp_path: Path) -> None:
    client.download("t", "empty", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b""


def test_an_unknown_and_an_ambiguous_name_come_with_the_servers_words(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no artifact nope"):
        client.download("t", "nope", tmp_path / "x")
    with pytest.raises(ServerRefused, match=r"a/same\.txt") as caught:
        client.download("t", "same.txt", tmp_path / "x")
    assert caught.value.error == "ambiguous_artifact_name"
    client.download("t", "b/same.txt", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"b"


def test_a_directory_that_is_missing_is_a_local_fault(client: Client, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="cannot be written"):
        client.download("t", "empty", tmp_path / "missing" / "x")


def test_a_directory_in_the_targets_place_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="is a directory"):
        client.download("t", "empty", tmp_path)


def test_a_symbolic_link_in_the_targets_place_is_not_followed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "x").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeName, match="symbolic link"):
        client.download("t", "empty", tmp_path / "x")
    assert (tmp_path / "secret").read_text() == "kept"


@pytest.mark.parametrize("lay", ["link", "pipe"])
def test_what_lies_in_the_unfinished_files_place_is_not_used(lay: str, tmp_path: Path) -> None:
    part = PartialFile(tmp_path / "x", SHA)
    if lay == "link":
        part.path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(part.path)
    with pytest.raises((OSError, DownloadFailed)), part:
        part.append(b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_two_downloads_of_the_same_file_do_not_mix(client: Client, tmp_path: Path) -> None:
    part = PartialFile(tmp_path / "x", SHA)
    with part.path.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadFailed, match="another command"):
            client.download("t", "out/data.bin", tmp_path / "x")


HOSTILE = [
    "../escape",
    "a/../../escape",
    "/etc/passwd",
    "a//b",
    "",
    ".",
    "a/.",
    "..\\escape",
    "C:\\escape",
    "C:escape",
    "a\x00b",
    "a\nb",
    "a\u202eb",
    "a/",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_has_no_place(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(UnsafeName):
        target_below(inside, name)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_a_symbolic_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeName, match="symbolic link"):
        target_below(tmp_path / "inside", "link/x")
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_ordinary_name_keeps_its_directories(tmp_path: Path) -> None:
    assert target_below(tmp_path, "out/.hidden/ä b.txt") == tmp_path / "out" / ".hidden" / "ä b.txt"
    assert (tmp_path / "out" / ".hidden").is_dir()


def test_a_file_in_a_directorys_place_is_a_local_fault(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(DownloadFailed, match="cannot be written"):
        target_below(tmp_path, "a/b")
