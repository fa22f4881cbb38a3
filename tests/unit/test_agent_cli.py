"""The agent's command line on the host: which one is locked, where it is kept, what is not taken for it."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.unit.tiny_cli import WHEEL_NAME, cli_of, make_npm_package, make_wheel
from workers.images import ImageBuildFailed, agent_cli, cli_cache, cli_sources
from workers.images.agent_cli import AgentCli
from workers.images.cli_cache import cache_directory, provide_cli
from workers.images.cli_sources import SourceFailed, npm_package, pip_wheel

PROGRAM = b"#!/bin/sh\necho '9.9.9 (Claude Code)'\n"
CLI = cli_of(PROGRAM)


class Registry:
    """A source: the archive it gives, or why it does not; how often it was asked."""

    def __init__(self, give: Callable[[Path], Path] | str) -> None:
        self.give = give
        self.asked = 0

    def __call__(self, cli: AgentCli, work: Path, echo: Callable[[str], None]) -> Path:
        echo(f"asked for {cli.version}")
        self.asked += 1
        if isinstance(self.give, str):
            raise SourceFailed(self.give, (f"said by: {self.give}",))
        return self.give(work)


def with_wheel(program: bytes = PROGRAM) -> Registry:
    return Registry(lambda work: make_wheel(work, program)[0])


def with_npm_package(program: bytes = PROGRAM) -> Registry:
    return Registry(lambda work: make_npm_package(work / "a.tgz", program))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the program in a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sandbox" / "cli" / CLI.sha256


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *given: monkeypatch.setattr(cli_cache, "SOURCES", given)


def provided() -> Path:
    return provide_cli(CLI, print, image="x:latest")


def test_the_lock_names_a_version_and_the_digests_of_program_and_wheel() -> None:
    locked = agent_cli.locked()
    assert "amd64" in locked
    for cli in locked.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", cli.version)
        assert re.fullmatch(r"[0-9a-f]{64}", cli.sha256)
        assert re.fullmatch(r"[0-9a-f]{64}", cli.wheel.sha256)
        assert cli.npm.version == cli.version


def test_a_lock_with_a_field_that_nobody_reads_is_refused() -> None:
    wheel = {"package": "p", "version": "1", "platform": "l", "sha256": "0", "member": "m", "url": "u"}
    document = {"version": "1", "program": {"amd64": {"sha256": "0", "wheel": wheel, "npm": {}}}}
    with pytest.raises(TypeError, match="url"):
        agent_cli.read_lock(document)


@pytest.mark.parametrize("registry_of", [with_wheel, with_npm_package])
def test_a_program_is_fetched_once_and_is_all_that_stays(
    place: Path, sources: Callable[..., None], registry_of: Callable[[], Registry]
) -> None:
    registry = registry_of()
    sources(registry)
    assert provided() == provided() == place / "claude"
    assert registry.asked == 1
    assert [one.name for one in place.iterdir()] == ["claude"]
    assert (place / "claude").read_bytes() == PROGRAM
    assert stat.S_IMODE((place / "claude").stat().st_mode) == 0o755
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_the_second_source_is_asked_when_the_first_does_not_give_it(place: Path, sources: Callable[..., None]) -> None:
    sources(Registry("no index"), with_npm_package())
    assert provided().read_bytes() == PROGRAM


def test_a_program_with_other_bytes_is_not_taken_from_anywhere(place: Path, sources: Callable[..., None]) -> None:
    sources(with_wheel(b"evil"), with_npm_package(b"evil, too"))
    with pytest.raises(ImageBuildFailed, match=rf"holds a program with sha256 [0-9a-f]{{64}}, not {CLI.sha256}, and "):
        provided()
    assert list(place.iterdir()) == []


def test_an_archive_without_the_program_is_refused(place: Path, sources: Callable[..., None], tmp_path: Path) -> None:
    def broken(work: Path) -> Path:
        (work / "b.tgz").write_bytes(b"no archive")
        return work / "b.tgz"

    sources(Registry(lambda work: make_wheel(work, PROGRAM, member="elsewhere")[0]), Registry(broken))
    with pytest.raises(ImageBuildFailed, match=rf"{WHEEL_NAME} does not hold the program: .*b.tgz does not hold"):
        provided()


def test_a_host_that_reaches_no_registry_is_told_each_reason_and_where_to_put_it(
    place: Path, sources: Callable[..., None]
) -> None:
    sources(Registry("pip ended with exit code 1"), Registry("there is no npm"))
    with pytest.raises(ImageBuildFailed) as failure:
        provided()
    first, *output = str(failure.value).split("\n")
    assert first.startswith(
        "the image x:latest was not built: claude 9.9.9 could not be fetched: "
        "pip ended with exit code 1, and there is no npm; "
    )
    assert "pip download --no-deps --only-binary :all: --platform manylinux_2_17_x86_64 tiny-agent==1.0" in first
    assert str(place) in first
    assert output[1:] == ["    said by: pip ended with exit code 1", "    said by: there is no npm"]


@pytest.mark.parametrize("what", ["wheel", "package", "program"])
def test_what_somebody_put_there_is_taken_before_any_registry_is_asked(
    place: Path, sources: Callable[..., None], what: str
) -> None:
    sources()
    place.mkdir(parents=True)
    if what == "wheel":
        make_wheel(place, PROGRAM)
    elif what == "package":
        make_npm_package(place / "brought.tgz", PROGRAM)
    else:
        (place / "claude").write_bytes(PROGRAM)
    assert provided().read_bytes() == PROGRAM


def test_a_program_that_was_changed_is_fetched_again(place: Path, sources: Callable[..., None]) -> None:
    sources(with_wheel())
    place.mkdir(parents=True)
    (place / "claude").write_bytes(PROGRAM[:-1])
    assert provided().read_bytes() == PROGRAM


def test_what_a_killed_build_left_is_removed_by_the_next_fetch(place: Path, sources: Callable[..., None]) -> None:
    sources(with_wheel())
    (place / "fetch-killed").mkdir(parents=True)
    (place / "fetch-killed" / "half.whl").write_bytes(b"half")
    provided()
    assert [one.name for one in place.iterdir()] == ["claude"]


def test_builds_at_the_same_time_share_one_fetch(place: Path, sources: Callable[..., None]) -> None:
    second_is_on_its_way = Event()

    def slow(work: Path) -> Path:
        second_is_on_its_way.wait(timeout=30)
        return make_wheel(work, PROGRAM)[0]

    def second() -> Path:
        second_is_on_its_way.set()
        return provided()

    registry = Registry(slow)
    sources(registry)
    with ThreadPoolExecutor() as pool:
        results = [pool.submit(provided), pool.submit(second)]
        assert {one.result() for one in results} == {place / "claude"}
    assert registry.asked == 1


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ImageBuildFailed, match=rf"cannot be kept in {tmp_path}/file/.*XDG_CACHE_HOME"):
        provided()


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_the_cache_lies_in_home_unless_an_absolute_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_directory() == tmp_path / ".cache" / "sandbox" / "cli"


def test_a_python_without_pip_and_a_host_without_npm_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_sources, "find_spec", lambda _: None)
    with pytest.raises(SourceFailed, match="has no pip"):
        pip_wheel(CLI, tmp_path, print)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFailed, match="there is no npm"):
        npm_package(CLI, tmp_path, print)


def test_npm_is_asked_for_the_exact_package_and_leaves_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    made = make_npm_package(tmp_path / "made.tgz", PROGRAM)
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n/bin/cp {made} {work}/given.tgz\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert npm_package(CLI, work, print) == work / "given.tgz"
    asked = (tmp_path / "asked").read_text().split()
    assert (asked[0], asked[-1]) == ("pack", "@tiny/agent-linux-x64@9.9.9")
    assert f"--cache={work}/npm-cache" in asked


def test_an_npm_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\necho no such package >&2\nexit 3\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFailed, match="npm ended with exit code 3") as failure:
        npm_package(CLI, tmp_path, print)
    assert failure.value.output == ("no such package",)
