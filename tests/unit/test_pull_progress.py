"""How far a pull is: told every tenth or every few seconds, from what the engine says of each layer."""

from __future__ import annotations

from typing import Any

from workers.sandbox.docker.pull_progress import PullProgress, megabytes

MB = 1_000_000


def event(status: str, layer: str = "a", current: int | None = None, total: int | None = None) -> dict[str, Any]:
    return {"status": status, "id": layer, "progressDetail": {"current": current, "total": total} if total else {}}


def test_each_tenth_is_told_once() -> None:
    progress = PullProgress("i:1", 100.0)
    said = [progress.take(event("Downloading", "a", done * MB, 100 * MB), 100.1) for done in range(0, 101, 5)]
    told = [words for words in said if words]
    assert told[0] == "pulling image i:1: 10.0 MB of 100.0 MB (10 %), 0 of 1 layers are here"
    assert [words.split("(")[1].split(" ")[0] for words in told] == [str(part) for part in range(10, 101, 10)]


def test_a_slow_pull_is_told_every_five_seconds_and_not_more_often() -> None:
    progress = PullProgress("i:1", 0.0)
    said = [progress.take(event("Downloading", "a", second, 1000 * MB), float(second)) for second in range(1, 21)]
    assert [number + 1 for number, words in enumerate(said) if words] == [5, 10, 15, 20]


def test_layers_that_are_here_already_and_layers_that_come_are_counted() -> None:
    progress = PullProgress("i:1", 0.0)
    for one in (
        event("Pulling from library/i", "1"),
        event("Already exists", "a"),
        event("Pulling fs layer", "b"),
        event("Waiting", "c"),
        event("Downloading", "b", 4 * MB, 8 * MB),
        event("Downloading", "b", 6 * MB, 8 * MB),
        event("Download complete", "b"),
        event("Pull complete", "b"),
    ):
        progress.take(one, 1.0)
    assert progress.end(2.5) == "pulled image i:1: 8.0 MB in 2.5 s, 2 of 3 layers are here"


def test_a_layer_of_unknown_size_breaks_nothing() -> None:
    progress = PullProgress("i:1", 0.0)
    assert progress.take({"status": "Downloading", "id": "a", "progressDetail": {"current": 5 * MB}}, 0.1)
    assert progress.take({"status": "Downloading", "id": "a", "progressDetail": {"total": -1}}, 0.1) is None
    assert progress.take({"status": "Digest: sha256:1"}, 99.0) is None
    assert progress.take({}, 99.0) is None


def test_sizes_are_written_as_a_person_reads_them() -> None:
    assert [megabytes(count) for count in (0, 99_999, 100_000, 2_550_000)] == [
        "0 bytes",
        "99999 bytes",
        "0.1 MB",
        "2.5 MB",
    ]
