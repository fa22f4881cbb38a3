"""The README shows what the code says."""

from __future__ import annotations

from pathlib import Path

from orchestrator.states import mermaid

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_picture_of_the_life_cycle_is_the_table() -> None:
    picture = README.split("<!-- lifecycle -->\n```mermaid\n")[1].split("\n```\n<!-- /lifecycle -->")[0]
    assert picture == mermaid()
