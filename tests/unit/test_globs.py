"""What an artifact pattern means: what a user writes, and which files of a workspace that is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from workers.globs import compile_pattern, leads_into, matches

PATHS = [
    "report.md",
    "notes.txt",
    ".env",
    "out",
    "out/a.json",
    "out/deep/b.json",
    "out/.hidden/c.json",
    "src/out/d.json",
    "src/main.py",
    "with space/ü.txt",
]


def chosen(pattern: str, paths: list[str] | None = None) -> list[str]:
    return [path for path in (paths or PATHS) if matches(path, compile_pattern(pattern))]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """A matcher that backtracks does not come back within any patience; this one is meant for that only."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.md", ["report.md"]),
        ("report.md", ["report.md"]),
        ("./report.md", ["report.md"]),
        ("*.json", []),
        ("**/*.json", ["out/a.json", "out/deep/b.json", "out/.hidden/c.json", "src/out/d.json"]),
        ("**/*.md", ["report.md"]),
        ("out/*.json", ["out/a.json"]),
        ("out/*", ["out/a.json"]),
        ("out/**", ["out/a.json", "out/deep/b.json", "out/.hidden/c.json"]),
        ("out/", ["out/a.json", "out/deep/b.json", "out/.hidden/c.json"]),
        ("out", ["out"]),
        ("out/**/*.json", ["out/a.json", "out/deep/b.json", "out/.hidden/c.json"]),
        ("**/out/**", ["out/a.json", "out/deep/b.json", "out/.hidden/c.json", "src/out/d.json"]),
        ("**", PATHS),
        ("**/", PATHS),
        ("**/**/**", PATHS),
        ("**/.*", [".env"]),
        ("*", ["report.md", "notes.txt", ".env", "out"]),
        ("*/*", ["out/a.json", "src/main.py", "with space/ü.txt"]),
        ("[nr]*.[mt]*", ["report.md", "notes.txt"]),
        ("[!r]*.txt", ["notes.txt"]),
        ("???.????", []),
        ("with space/ü.???", ["with space/ü.txt"]),
        ("OUT/*", []),
        ("{out,src}/*", []),
        (".", []),
        ("**.json", []),
    ],
)
def test_a_pattern_chooses_the_files_a_user_expects(pattern: str, files: list[str]) -> None:
    assert chosen(pattern) == files


def test_a_bracket_without_an_end_is_a_plain_character() -> None:
    assert chosen("a[b", ["a[b", "ab"]) == ["a[b"]


def test_a_name_with_a_line_break_is_matched_as_a_whole() -> None:
    assert chosen("*.txt", ["a\nb.txt", "a.txt\n"]) == ["a\nb.txt"]


def test_stars_that_cannot_match_are_not_tried_in_all_ways() -> None:
    with at_most(5):
        assert chosen("*a" * 30 + "*b", ["a" * 250]) == []
        assert chosen("**/a/" * 20 + "b", ["/".join("a" * 200)]) == []
        assert chosen("**/*a*/" * 20 + "x", ["/".join(["aaaa"] * 300)]) == []


@pytest.mark.parametrize(
    ("pattern", "directory", "may_match_below"),
    [
        ("*.md", "out", False),
        ("out/*.json", "out", True),
        ("out/*.json", "out/deep", False),
        ("out/**", "out/deep/er", True),
        ("out/", "out", True),
        ("**/*.json", "any/where", True),
        ("a/*/c", "a/b", True),
        ("a/*/c", "b/b", False),
        ("a/*/c", "a/b/c", False),
        ("a/**/c/d", "a/x/y", True),
    ],
)
def test_only_directories_in_which_something_may_match_are_looked_into(
    pattern: str, directory: str, may_match_below: bool
) -> None:
    assert leads_into(directory, compile_pattern(pattern)) is may_match_below
