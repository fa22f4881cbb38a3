"""What `sandbox doctor` says of the way to the model API."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.settings import load
from workers.checkup import model_api
from workers.finding import Finding, Level

KEY = "sk-ant-0123456789"


def found(tmp_path: Path, **environment: str) -> list[Finding]:
    return list(model_api.access(load(environment, data_dir=tmp_path)))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    return file


def test_no_key_is_noted_with_what_follows_from_it(tmp_path: Path) -> None:
    [one] = found(tmp_path)
    assert one.level is Level.NOTE
    assert "`claude` tasks fail at staging with secret_unavailable; `run` tasks need none" in one.seen
    assert "SANDBOX_MODEL_API_KEY_FILE" in str(one.advice)


def test_a_key_that_can_be_read_is_well(tmp_path: Path, key: Path) -> None:
    [one] = found(tmp_path, SANDBOX_MODEL_API_KEY_FILE=str(key))
    assert (one.level, "https://api.anthropic.com" in one.seen, KEY in str(one)) == (Level.OK, True, False)


def test_a_key_that_is_empty_or_gone_is_a_problem(tmp_path: Path, key: Path) -> None:
    key.write_text("")
    [empty] = found(tmp_path, SANDBOX_MODEL_API_KEY_FILE=str(key))
    key.unlink()
    [gone] = found(tmp_path, SANDBOX_MODEL_API_KEY_FILE=str(key))
    assert (empty.level, gone.level) == (Level.PROBLEM, Level.PROBLEM)
    assert "is empty: `claude` tasks fail at staging" in empty.seen
    assert "cannot be read: No such file" in gone.seen


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644])
def test_a_file_that_others_may_read_is_noted(tmp_path: Path, key: Path, mode: int) -> None:
    key.chmod(mode)
    well, open_ = found(tmp_path, SANDBOX_MODEL_API_KEY_FILE=str(key))
    assert (well.level, open_.level, open_.advice) == (Level.OK, Level.NOTE, f"chmod 0600 {key}")


def test_a_link_from_what_tasks_may_name_is_a_problem(tmp_path: Path, key: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    key.rename(secrets / "key")
    key.symlink_to(secrets / "key")
    _, one = found(tmp_path, SANDBOX_MODEL_API_KEY_FILE=str(key), SANDBOX_SECRETS_DIR=str(secrets))
    assert (one.level, "every task may read it" in one.seen) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("https://gateway.example", Level.OK), ("http://localhost:1", Level.OK), ("http://127.0.0.1:1", Level.OK),
        ("http://[::1]:1", Level.OK), ("http://10.1.2.3/anthropic", Level.OK), ("http://gateway.example", Level.NOTE),
        ("http://8.8.8.8", Level.NOTE),
    ],
)  # fmt: skip
def test_an_address_on_which_the_key_travels_in_clear_is_noted(
    tmp_path: Path, key: Path, url: str, level: Level
) -> None:
    [one] = found(tmp_path, SANDBOX_MODEL_API_KEY_FILE=str(key), SANDBOX_MODEL_API_URL=url)
    assert (one.level, url in one.seen) == (level, True)


def test_prices_are_counted_and_a_file_that_is_no_good_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("own: {input: 1, output: 2}")
    _, well = found(tmp_path, SANDBOX_MODEL_PRICES_FILE=str(file))
    file.write_text("own: {input: 1}\nother: 2")
    _, *bad = found(tmp_path, SANDBOX_MODEL_PRICES_FILE=str(file))
    assert (well.level, well.seen.startswith(f"1 prices in {file}")) == (Level.OK, True)
    assert [one.level for one in bad] == [Level.PROBLEM, Level.PROBLEM]
