"""What every artifact storage does. A subclass gives the fixture `store`."""

from __future__ import annotations

import gc
import hashlib
import io
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.artifacts import CHUNK_BYTES, ArtifactStore, Stored, TooLarge
from orchestrator.artifacts.s3 import PART_BYTES

KEY = "tasks/one/1/0"
SMALL = b"0123456789" * 100
BIG = random.Random(5).randbytes(2 * PART_BYTES + 12_345)  # noqa: S311 - the same in every run
RANGES = [
    (0, None), (0, 0), (0, 1), (0, 1000), (10, 0), (10, 20), (990, 5000), (999, None), (1000, None), (5000, None),
    (5000, 7),
]  # fmt: skip


class Failure(Exception):
    """The source breaks."""


class Watched(io.BytesIO):
    """A source that calls `look` before each read."""

    def __init__(self, data: bytes, look: Callable[[int], None]) -> None:
        super().__init__(data)
        self._look = look

    def read(self, size: int | None = -1, /) -> bytes:
        self._look(self.tell())
        return super().read(size)


def put(store: ArtifactStore, data: bytes, key: str = KEY, limit: int = 1 << 30) -> Stored:
    return store.put(key, io.BytesIO(data), limit=limit)


def get(store: ArtifactStore, start: int = 0, length: int | None = None, key: str = KEY) -> bytes:
    return b"".join(store.open(key, start, length))


def is_there(store: ArtifactStore, key: str = KEY) -> bool:
    try:
        store.open(key)
    except KeyError:
        return False
    return True


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


class ArtifactStoreContract:
    @pytest.mark.parametrize("data", [b"", b"x", SMALL, BIG[:PART_BYTES], BIG], ids=lambda data: str(len(data)))
    def test_what_was_put_is_there_with_its_size_and_checksum(self, store: ArtifactStore, data: bytes) -> None:
        assert put(store, data) == Stored(len(data), hashlib.sha256(data).hexdigest())
        assert get(store) == data

    @pytest.mark.parametrize(("start", "length"), RANGES)
    def test_a_range_gives_its_bytes(self, store: ArtifactStore, start: int, length: int | None) -> None:
        put(store, SMALL)
        assert get(store, start, length) == SMALL[start : None if length is None else start + length]

    def test_a_range_across_parts_and_chunks_gives_its_bytes(self, store: ArtifactStore) -> None:
        put(store, BIG)
        for start, length in ((PART_BYTES - 5, 10), (1, 3 * CHUNK_BYTES + 1), (len(BIG) - 9, None)):
            assert get(store, start, length) == BIG[start : None if length is None else start + length]

    def test_an_empty_artifact_has_no_ranges_and_is_there(self, store: ArtifactStore) -> None:
        put(store, b"")
        assert [get(store, *asked) for asked in ((0, None), (0, 0), (0, 5), (5, 5))] == [b""] * 4

    @pytest.mark.parametrize(("start", "length"), [(0, None), (5, None), (0, 0), (5, 5)])
    def test_an_unknown_key_is_told_at_once(self, store: ArtifactStore, start: int, length: int | None) -> None:
        with pytest.raises(KeyError, match=re.escape(KEY)):
            store.open(KEY, start, length)

    def test_a_second_put_replaces_the_first(self, store: ArtifactStore) -> None:
        put(store, BIG)
        assert put(store, SMALL).size_bytes == len(SMALL)
        assert get(store) == SMALL

    @pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
    def test_one_byte_above_the_limit_stores_nothing(self, store: ArtifactStore, data: bytes) -> None:
        with pytest.raises(TooLarge, match=f"larger than the {len(data) - 1} bytes"):
            put(store, data, limit=len(data) - 1)
        assert not is_there(store)
        put(store, data, limit=len(data))
        with pytest.raises(TooLarge):
            put(store, data + b"x", limit=len(data))
        assert get(store) == data

    def test_a_limit_of_nothing_takes_an_empty_artifact(self, store: ArtifactStore) -> None:
        assert put(store, b"", limit=0).size_bytes == 0
        with pytest.raises(TooLarge):
            put(store, b"x", limit=0)

    def test_nothing_is_to_be_seen_before_all_is_stored(self, store: ArtifactStore) -> None:
        seen: list[bool] = []
        store.put(KEY, Watched(BIG, lambda _: seen.append(is_there(store))), limit=len(BIG))
        assert len(seen) > len(BIG) // CHUNK_BYTES
        assert not any(seen)
        assert is_there(store)

    @pytest.mark.parametrize("at", [0, CHUNK_BYTES, PART_BYTES + CHUNK_BYTES])
    def test_a_source_that_breaks_stores_nothing_and_keeps_what_was_there(self, store: ArtifactStore, at: int) -> None:
        def breaks(position: int) -> None:
            if position >= at:
                raise Failure

        for before in (None, SMALL):
            if before:
                put(store, before)
            with pytest.raises(Failure):
                store.put(KEY, Watched(BIG, breaks), limit=len(BIG))
            assert is_there(store) == bool(before)
        assert get(store) == SMALL

    def test_of_several_puts_at_once_one_wins_whole(self, store: ArtifactStore) -> None:
        rivals = [bytes([number]) * (PART_BYTES + number) for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            stored = list(pool.map(lambda data: put(store, data), rivals))
        found = get(store)
        assert found in rivals
        assert Stored(len(found), hashlib.sha256(found).hexdigest()) in stored

    def test_threads_put_and_read_side_by_side(self, store: ArtifactStore) -> None:
        def both(number: int) -> bool:
            data = f"{number}".encode() * 1000
            put(store, data, key=f"tasks/one/1/{number}")
            return get(store, 0, None, key=f"tasks/one/1/{number}") == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(both, range(80)))

    def test_readers_that_stop_early_or_never_begin_leave_nothing_open(self, store: ArtifactStore) -> None:
        put(store, BIG)
        get(store)
        before = open_files()
        for _ in range(100):
            reader: Any = store.open(KEY)
            with closing(reader):
                assert BIG.startswith(next(reader))
            assert list(reader) == []
            next(store.open(KEY, 5))  # dropped
            store.open(KEY)  # not even begun
        assert open_files() <= before + 5

    def test_a_prefix_is_removed_with_all_below_and_nothing_beside(self, store: ArtifactStore) -> None:
        for key in ("tasks/one/1/0", "tasks/one/2/0", "tasks/one-more/1/0", "tasks/on/1/0"):
            put(store, SMALL, key)
        for _ in range(2):
            store.delete_prefix("tasks/one")
            assert not is_there(store, "tasks/one/1/0")
            assert not is_there(store, "tasks/one/2/0")
        assert is_there(store, "tasks/one-more/1/0")
        assert is_there(store, "tasks/on/1/0")
        store.delete_prefix("tasks/never-was")

    def test_more_keys_than_one_page_lists_are_removed(self, store: ArtifactStore) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: put(store, b"x", f"tasks/one/1/{number}"), range(1203)))
        store.delete_prefix("tasks/one")
        assert not any(is_there(store, f"tasks/one/1/{number}") for number in (0, 500, 999, 1000, 1001, 1202))

    def test_a_prefix_can_be_removed_by_two_at_once(self, store: ArtifactStore) -> None:
        for number in range(50):
            put(store, b"x", f"tasks/one/{number}/0")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(store.delete_prefix, ["tasks/one"] * 4))
        assert not is_there(store, "tasks/one/0/0")

    def test_a_storage_that_works_answers_a_ping(self, store: ArtifactStore) -> None:
        for _ in range(3):
            store.ping()
