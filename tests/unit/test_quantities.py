"""Durations and sizes."""

from __future__ import annotations

import pytest

from orchestrator.quantities import duration_seconds, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("168h", 604_800)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "h", "1d", "1.5h", "-1s", "1h30m", " 1s", "1s\n", "1S", "١s", "9" * 5000 + "s"]
)
def test_any_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: .*; write for example 90s, 15m or 24h"):
        duration_seconds(text)


@pytest.mark.parametrize(("text", "size"), [("1M", 1 << 20), ("512M", 512 << 20), ("8G", 8 << 30), ("40G", 40 << 30)])
def test_a_size_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "8", "8g", "8GB", "8Gi", "1.5G", "-1G", "8 G", "8G\n", "1T", "٨G", "9" * 5000 + "G"]
)
def test_any_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size: .*; write for example 512M or 8G"):
        size_bytes(text)
