"""H4: every name goes byte-exact through list, download, `-o` and `--all`, and the client writes nothing elsewhere.

Headers, ranges, the archive: tests/integration/api/test_artifacts.py. One name at a time: tests/unit/test_downloads.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.installation import BuildHost, open_product
from tests.integration.api.live import LiveServer
from tests.integration.api.test_artifacts import NAMES
from tests.unit.test_cli import sandbox

ESCAPES = ["../up.txt", "../../up.txt", "/absolute.txt", "a/../../up.txt", "C:\\up.txt", "x\ny", "dir/", "."]
"""A worker refuses these when it collects; a server that is not ours, or is taken over, may still list them."""
TASK = "names"


def content(name: str) -> bytes:
    return f"the content of {name!r}".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with one task that has left an artifact of every name."""
    directory = tmp_path_factory.mktemp("names") / "data"
    product = open_product(directory)
    host = BuildHost(product)
    host.register()
    live = LiveServer(directory)
    live.start()
    submitted = sandbox("task", "submit", "-", server=live.url, stdin=MANIFEST)
    assert submitted.code == 0, submitted.err
    claim = host.run(TASK)
    host.keep(claim, {name: content(name) for name in (*NAMES, *ESCAPES)})
    host.exit(claim)
    yield live
    live.stop()
    product.database.close()


MANIFEST = f"""\
version: "1"
kind: Task
metadata: {{name: Names, id: {TASK}}}
run: {{script: "true"}}
vm: {{profile: basic, cpus: 1, memory: 256M, disk: 1G}}
"""


def everything_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", NAMES)
def test_h4_an_artifact_of_any_name_is_written_byte_exact_to_the_file_that_the_user_names(
    server: LiveServer, tmp_path: Path, name: str
) -> None:
    ran = sandbox("task", "download", TASK, "--output", str(tmp_path / "chosen"), "--", name, server=server.url)
    assert ran.code == 0, ran.err
    assert everything_in(tmp_path) == {"chosen": content(name)}


def test_h4_all_artifacts_go_below_the_directory_and_what_could_leave_it_is_refused_by_name(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "a" / "b" / "inside"
    inside.parent.mkdir(parents=True)
    monkeypatch.chdir(inside.parent)
    ran = sandbox("task", "download", TASK, "--all", "--output", str(inside), server=server.url)
    refused = {name for name in (*NAMES, *ESCAPES) if name in ESCAPES or set(name) & set("\\:\u202e")}
    assert everything_in(tmp_path) == {f"a/b/inside/{name}": content(name) for name in NAMES if name not in refused}
    assert ran.code != 0
    told = [line for line in ran.err.splitlines() if "was not downloaded: its name could lead outside" in line]
    assert len(told) == len(refused)


def test_h4_a_symbolic_link_at_the_destination_is_not_followed(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("kept")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "plain.txt").symlink_to(tmp_path / "outside" / "victim")
    (inside / "deep").symlink_to(tmp_path / "outside")
    ran = sandbox("task", "download", TASK, "--all", "--output", str(inside), server=server.url)
    assert ran.code != 0
    assert everything_in(tmp_path / "outside") == {"victim": b"kept"}
    assert ran.err.count("is a symbolic link") == 2
    assert (inside / "100%.txt").read_bytes() == content("100%.txt")
