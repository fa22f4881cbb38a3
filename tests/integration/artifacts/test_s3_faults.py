"""An object storage that fails in every way: told in plain words, in bounded time, nothing half stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from orchestrator.artifacts import ArtifactStoreUnavailable
from orchestrator.artifacts.location import S3Location
from orchestrator.artifacts.s3 import PART_BYTES, S3Store
from orchestrator.artifacts.s3_client import Patience
from tests.integration.artifacts.contract import BIG, KEY, SMALL, get, is_there, put
from tests.integration.artifacts.faulty_front import Answer, Call, Fault, FaultyFront, closed, refusal, silence
from tests.integration.artifacts.test_s3 import keys, uploads
from tests.servers.s3 import SECRET, S3Server

STEADY = Patience(connect_seconds=30, read_seconds=30, attempts=1)
HASTY = Patience(connect_seconds=30, read_seconds=3, attempts=1)
"""For servers that hang only: a busy machine must not look like one."""
ENDPOINT_PASSWORD = "password-of-an-endpoint"

WAYS: dict[str, tuple[Callable[[], Answer], str]] = {
    "answers 500": (lambda: refusal(500, "InternalError", SECRET), "it answered 500 InternalError; try again"),
    "answers 503": (lambda: refusal(503, "SlowDown", SECRET), "it answered 503 SlowDown; try again"),
    "denies": (lambda: refusal(403, "AccessDenied", SECRET), "it answered 403 AccessDenied; check the credentials and"),
    "tells a secret as its code": (lambda: refusal(400, SECRET), "it answered 400 unknown; try again"),
    "hangs": (silence, "it did not answer in time; try again"),
    "cuts the connection": (closed, "the connection broke; try again"),
    "is a web page": (
        lambda: Answer(200, {"Content-Type": "text/html"}, b"<p>Welcome"),
        "it answered 500 500; try again",
    ),
}


@pytest.fixture
def front(s3_server: S3Server) -> Iterator[FaultyFront]:
    with FaultyFront(s3_server.port).running() as front:
        yield front


@pytest.fixture
def store(front: FaultyFront, s3_location: S3Location, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://user:{ENDPOINT_PASSWORD}@127.0.0.1:{front.port}")
    return S3Store(s3_location, transfer=STEADY, probe=STEADY)


@pytest.fixture
def hasty(store: S3Store, s3_location: S3Location) -> S3Store:
    """The same, with a short wait for each transfer."""
    return S3Store(s3_location, transfer=HASTY, probe=STEADY)


@pytest.fixture
def nothing_stored(s3_server: S3Server, s3_location: S3Location) -> Iterator[None]:
    """Holds after the test: no key, no part of one."""
    yield
    assert keys(s3_server, s3_location) == set()
    assert uploads(s3_server, s3_location) == []


def only(method: str, containing: str, answer: Callable[[], Answer], times: int = 1 << 30) -> Fault:
    left = threading.Semaphore(times)

    def fault(call: Call) -> Answer | None:
        if call.method == method and containing in call.path and left.acquire(blocking=False):
            return answer()
        return None

    return fault


def failure(call: Callable[[], Any]) -> str:
    with pytest.raises(ArtifactStoreUnavailable) as caught:
        call()
    message = str(caught.value)
    assert SECRET not in message
    assert ENDPOINT_PASSWORD not in message
    return message


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("data", "method", "containing"),
    [(SMALL, "PUT", KEY), (BIG, "POST", "?uploads"), (BIG, "PUT", "partNumber=2"), (BIG, "POST", "uploadId=")],
    ids=["small", "begin", "part", "end"],
)
@pytest.mark.usefixtures("nothing_stored")
def test_a_put_that_fails_stores_nothing(
    front: FaultyFront, store: S3Store, hasty: S3Store, *, way: str, data: bytes, method: str, containing: str
) -> None:
    answer, why = WAYS[way]
    front.fault = only(method, containing, answer)
    message = failure(lambda: put(hasty if way == "hangs" else store, data))
    assert message.startswith(f"artifact {KEY} cannot be stored")
    assert f"/some/where: {why}" in message
    front.fault = None
    assert not is_there(store)


@pytest.mark.parametrize("way", ["answers 500", "hangs", "cuts the connection"])
@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.usefixtures("store")
def test_a_fault_that_passes_is_not_noticed(front: FaultyFront, s3_location: S3Location, way: str, data: bytes) -> None:
    store = S3Store(s3_location, transfer=replace(HASTY if way == "hangs" else STEADY, attempts=3))
    front.fault = only("PUT", KEY, WAYS[way][0], times=1)
    put(store, data)
    front.fault = only("GET", KEY, WAYS[way][0], times=1)
    assert get(store) == data


@pytest.mark.usefixtures("store", "nothing_stored")
def test_a_request_is_sent_three_times_and_no_more(front: FaultyFront, s3_location: S3Location) -> None:
    front.fault = only("PUT", KEY, WAYS["answers 500"][0])
    failure(lambda: put(S3Store(s3_location), SMALL))
    assert len(front.calls) == 3


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.usefixtures("nothing_stored")
def test_who_agrees_to_everything_is_no_storage(front: FaultyFront, store: S3Store, data: bytes) -> None:
    front.fault = only("PUT", KEY, lambda: Answer(200, {}, b""))
    assert "its answer is not S3's; check AWS_ENDPOINT_URL_S3" in failure(lambda: put(store, data))


@pytest.mark.usefixtures("nothing_stored")
def test_bytes_that_change_on_the_way_are_refused_by_the_storage(front: FaultyFront, store: S3Store) -> None:
    def flip(call: Call) -> None:
        if call.method == "PUT" and call.body:
            call.body = bytes([call.body[0] ^ 1]) + call.body[1:]

    front.fault = flip
    for data in (SMALL, BIG):
        assert "it answered 400 BadDigest; try again" in failure(partial(put, store, data))
    front.fault = None
    assert not is_there(store)


def test_a_storage_that_dies_under_an_upload_ends_it_and_keeps_the_old_artifact(
    front: FaultyFront, store: S3Store, s3_server: S3Server, s3_location: S3Location
) -> None:
    put(store, SMALL)
    hasty = S3Store(s3_location, transfer=HASTY, probe=HASTY)
    dead = threading.Event()

    def dies(call: Call) -> Answer | None:
        if "partNumber=2" in call.path:
            dead.set()
        return silence() if dead.is_set() else None

    front.fault = dies
    assert "it did not answer in time" in failure(lambda: put(hasty, BIG))
    front.fault = None
    assert get(store) == SMALL
    assert len(uploads(s3_server, s3_location)) == 1, "nobody could abort it: the lifecycle rule is for this"
    put(store, BIG)
    assert get(store) == BIG


@pytest.mark.parametrize("way", [way for way in WAYS if way != "is a web page"])
def test_what_fails_is_told_by_every_verb(
    front: FaultyFront, store: S3Store, s3_location: S3Location, way: str
) -> None:
    put(store, SMALL)
    asked = S3Store(s3_location, transfer=HASTY, probe=HASTY) if way == "hangs" else store
    answer, why = WAYS[way]
    front.fault = lambda _: answer()
    for call, what in (
        (lambda: asked.open(KEY), f"artifact {KEY} cannot be read"),
        (lambda: asked.delete_prefix("tasks/one"), "artifacts below tasks/one cannot be removed"),
        (asked.ping, "nothing can be stored"),
    ):
        assert failure(call).startswith(f"{what} in {s3_location}: {why}")
    front.fault = None
    store.ping()
    assert get(store) == SMALL


def test_a_storage_that_is_not_there_is_told(s3_location: S3Location) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        store = S3Store(s3_location, transfer=HASTY, probe=HASTY)
    for call in (lambda: put(store, SMALL), lambda: store.open(KEY), store.ping):
        assert "it cannot be reached; check AWS_ENDPOINT_URL_S3 and the network" in failure(call)


@pytest.mark.parametrize("hang", [False, True], ids=["cut", "hanging"])
@pytest.mark.parametrize("asked", [(0, None), (5, None), (5, PART_BYTES)])
def test_an_answer_that_breaks_off_is_an_error_and_no_short_file(
    front: FaultyFront, store: S3Store, hasty: S3Store, asked: tuple[int, int | None], *, hang: bool
) -> None:
    put(store, BIG)

    def breaks(call: Call) -> Answer | None:
        if call.method != "GET":
            return None
        answer = call.forward()
        answer.cut_at, answer.hang = len(answer.body) // 2, hang
        return answer

    front.fault = breaks
    message = failure(lambda: get(hasty if hang else store, *asked))
    assert message.startswith(f"artifact {KEY} cannot be read to its end in s3://")
    assert ("it did not answer in time" if hang else "the connection broke") in message


def test_a_storage_that_ignores_a_range_is_not_believed(front: FaultyFront, store: S3Store) -> None:
    put(store, SMALL)

    def whole(call: Call) -> Answer | None:
        call.headers.pop("range", None)
        return None

    front.fault = whole
    assert "it gave the whole for a part; use a storage that knows the Range header" in failure(
        lambda: get(store, 5, 9)
    )
    assert get(store) == SMALL


def test_a_key_that_cannot_be_removed_is_told(front: FaultyFront, store: S3Store) -> None:
    put(store, SMALL)
    error = f"<Error><Key>x</Key><Code>AccessDenied</Code><Message>{SECRET}</Message></Error>"
    denied = f"<?xml version='1.0'?><DeleteResult>{error}</DeleteResult>"
    front.fault = only("POST", "?delete", lambda: Answer(200, {"Content-Type": "application/xml"}, denied.encode()))
    assert "artifacts below tasks/one cannot be removed" in failure(lambda: store.delete_prefix("tasks/one"))
    assert "AccessDenied; check the credentials and the permissions" in failure(
        lambda: store.delete_prefix("tasks/one")
    )


def test_credentials_that_may_only_read_fail_the_ping(front: FaultyFront, store: S3Store) -> None:
    front.fault = only("PUT", "", WAYS["denies"][0])
    assert "nothing can be stored in s3://" in failure(store.ping)
    front.fault = None
    store.ping()
    front.calls.clear()
    store.ping()
    assert [call.method for call in front.calls] == ["GET"], "a write for each health check would be dear"


def test_nothing_newer_than_old_servers_know_is_sent(front: FaultyFront, store: S3Store) -> None:
    put(store, SMALL)
    put(store, BIG)
    put(store, b"")
    store.ping()
    store.delete_prefix("tasks/one")
    for call in front.calls:
        assert not call.headers["x-amz-content-sha256"].startswith("STREAMING")
        assert "x-amz-trailer" not in call.headers
        assert call.method != "PUT" or "content-md5" in call.headers
    assert any(call.path.endswith("?delete") for call in front.calls)
