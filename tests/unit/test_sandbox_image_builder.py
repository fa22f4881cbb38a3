"""How the sandbox images are described, and what the builder makes of the engine's answers."""

import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import docker
import pytest

from orchestrator.profiles import BUILT_IN
from tests.unit.tiny_cli import cli_of
from workers.images import IMAGES, ImageBuildFailed, base, build, builder, cli_cache
from workers.images.advice import how_to_get
from workers.images.agent_cli import AGENT_LABEL
from workers.images.context import open_context


def no_engine() -> docker.DockerClient:
    """A client that nothing listens to: a test that reaches for it fails."""
    return docker.DockerClient(base_url="unix:///nonexistent/docker.sock", version="1.41")


def test_every_built_in_profile_names_an_image_that_ships() -> None:
    assert {name: profile.image for name, profile in BUILT_IN.items()} == {
        name: image.tag for name, image in IMAGES.items()
    }


def test_every_parent_is_a_shipped_image_and_has_a_dockerfile() -> None:
    for name, image in IMAGES.items():
        assert image.parent is None or image.parent in IMAGES
        dockerfile = Path(builder.__file__).parent / name / "Dockerfile"
        assert "ARG BASE=" in dockerfile.read_text()


@pytest.mark.parametrize("name", IMAGES)
def test_dockerfiles_use_only_the_classic_syntax(name: str) -> None:
    text = (Path(builder.__file__).parent / name / "Dockerfile").read_text()
    assert "# syntax=" not in text
    assert "--mount" not in text
    assert "<<" not in text


def test_a_content_is_the_same_each_time_and_differs_between_images_parents_and_agents() -> None:
    contents = {
        builder.content_digest("basic", "sha256:1", None),
        builder.content_digest("basic", "sha256:2", None),
        builder.content_digest("agentic-dev", "sha256:1", None),
        builder.content_digest("agentic-dev", "sha256:1", cli_of(b"one")),
        builder.content_digest("agentic-dev", "sha256:1", cli_of(b"other")),
    }
    assert len(contents) == 5
    assert builder.content_digest("agentic-dev", "sha256:1", cli_of(b"one")) in contents


def test_a_context_carries_the_program_as_an_executable_beside_the_dockerfile(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_bytes(b"program")
    with open_context("agentic-dev", program, image="x") as context, tarfile.open(fileobj=context) as archive:
        assert archive.getnames() == ["Dockerfile", "claude"]
        member = archive.getmember("claude")
        content = archive.extractfile(member)
        assert content is not None
        assert (content.read(), member.mode, member.uid, member.mtime) == (b"program", 0o755, 0, 0)
    assert list(tmp_path.iterdir()) == [program]


def test_a_context_that_there_is_no_room_for_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildFailed, match=f"cannot be written to {tmp_path}/gone: .*; make room"):
        open_context("agentic-dev", tmp_path / "gone" / "claude", image="x")


@dataclass
class Image:
    id: str
    tags: list[str]
    labels: dict[str, str]
    attrs: dict[str, str]


@dataclass
class Engine:
    """An engine that has the base, and keeps of a build what it was asked for. It is its own `images` and `api`."""

    architecture: str = "amd64"
    stored: dict[str, Image] = field(default_factory=dict)
    built: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = self.api = self
        self._store(base.PULLED, {})

    def tags_built(self) -> list[str]:
        return [one["tag"] for one in self.built]

    def _store(self, tag: str, labels: dict[str, str]) -> None:
        number = len(self.built)
        self.stored[tag] = Image(f"sha256:{tag}{number}", [tag], labels, {"Architecture": self.architecture})

    def get(self, name: str) -> Image:
        found = self.stored.get(name)
        if found is None:
            raise docker.errors.ImageNotFound(name)
        return found

    def build(
        self, *, fileobj: IO[bytes], tag: str, labels: dict[str, str], **options: Any
    ) -> Iterator[dict[str, str]]:
        with tarfile.open(fileobj=fileobj) as archive:
            files = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
        self.built.append({"tag": tag, "labels": labels, "files": files, **options})
        self._store(tag, labels)
        yield {"stream": f"built {tag}\n"}

    def list(self, *, name: str) -> list[Image]:
        return [self.stored[name]] if name in self.stored else []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on a host that reaches no registry; the lock names the program `one`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cli_cache, "SOURCES", ())
    monkeypatch.setattr(builder, "locked", lambda: {"amd64": cli_of(b"one")})
    return tmp_path / "sandbox" / "cli"


def put(cache: Path, program: bytes) -> Path:
    place = cache / cli_of(program).sha256
    place.mkdir(parents=True)
    (place / "claude").write_bytes(program)
    return place


def built_on(engine: Engine, name: str = "agentic-dev") -> tuple[str, str]:
    """Build; return the image's id and what was said."""
    said: list[str] = []
    image_id = build(name, engine=engine, echo=said.append)  # type: ignore[arg-type]
    return image_id, "\n".join(said)


def test_the_agent_s_image_holds_the_locked_program_and_its_label_says_which(cache: Path) -> None:
    put(cache, b"one")
    engine = Engine()
    built_on(engine)
    assert engine.tags_built() == ["sandbox/basic:latest", "sandbox/agentic-dev:latest"]
    basic, agentic = engine.built
    assert ("claude" in basic["files"], agentic["files"]["claude"]) == (False, b"one")
    assert AGENT_LABEL not in basic["labels"]
    assert (agentic["labels"][AGENT_LABEL], agentic["buildargs"]["CLAUDE_VERSION"]) == ("9.9.9", "9.9.9")


def test_an_image_that_is_up_to_date_is_left_alone_and_nothing_is_fetched_for_it(cache: Path) -> None:
    place = put(cache, b"one")
    engine = Engine()
    first, _ = built_on(engine)
    shutil.rmtree(place)
    assert built_on(engine) == (first, "sandbox/basic:latest is up to date\nsandbox/agentic-dev:latest is up to date")
    assert len(engine.built) == 2


def test_another_program_in_the_lock_renews_the_agent_s_image_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, b"one")
    engine = Engine()
    built_on(engine)
    put(cache, b"two")
    monkeypatch.setattr(builder, "locked", lambda: {"amd64": cli_of(b"two")})
    built_on(engine)
    assert engine.tags_built()[2:] == ["sandbox/agentic-dev:latest"]
    assert engine.built[2]["files"]["claude"] == b"two"


def test_a_program_that_cannot_be_had_ends_the_build_before_anything_is_sent(cache: Path) -> None:
    engine = Engine()
    with pytest.raises(ImageBuildFailed, match=r"sandbox/agentic-dev:latest was not built: claude 9\.9\.9"):
        built_on(engine)
    assert engine.tags_built() == ["sandbox/basic:latest"]
    built_on(engine, "basic")


def test_a_machine_that_the_lock_has_no_program_for_is_named(cache: Path) -> None:
    with pytest.raises(ImageBuildFailed, match=r"image for arm64, and .* for amd64 only; .* add arm64 to the lock"):
        built_on(Engine("arm64"))


def test_an_unknown_name_is_refused_with_the_names_that_ship() -> None:
    with pytest.raises(ImageBuildFailed, match="use one of basic, agentic-dev"):
        build("nope", engine=no_engine(), echo=print)


def test_the_output_of_a_build_becomes_whole_lines_without_colours() -> None:
    messages = [
        {"stream": "Step 1/2 : RUN x\n"},
        {"stream": "\n"},
        {"stream": "one\ntw"},
        {"aux": {"ID": "sha256:0"}},
        {"stream": "\x1b[91mo\n\x1b[0m"},
        {"stream": "no line end"},
    ]
    assert list(builder._lines(iter(messages))) == ["Step 1/2 : RUN x", "one", "two", "no line end"]


def test_an_error_in_the_output_ends_the_build() -> None:
    lines = builder._lines(iter([{"stream": "one\n"}, {"error": "returned a non-zero code: 1\n"}]))
    assert next(lines) == "one"
    with pytest.raises(docker.errors.BuildError, match="non-zero code"):
        next(lines)


def test_a_failure_has_a_message_of_three_parts_and_ends_with_the_output() -> None:
    failure = ImageBuildFailed("x:latest", "it broke", "mend", ["first", "last"])
    assert str(failure) == (
        "the image x:latest was not built: it broke; mend\n  last lines of the output:\n    first\n    last"
    )


def test_the_deb822_sources_of_the_host_are_used(tmp_path: Path) -> None:
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    text = "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\n"
    (tmp_path / "apt" / "sources.list.d" / "debian.sources").write_text(text)
    [copy] = base._sources(tmp_path / "apt", tmp_path)
    assert (copy.name, copy.read_text()) == ("debian.sources", text)


def test_of_a_sources_list_only_the_binary_lines_of_the_suite_are_used(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "deb cdrom:[disc]/ bookworm main\n"
        "deb http://mirror.test/debian bookworm main\n"
        "deb-src http://mirror.test/debian bookworm main\n"
        "deb http://mirror.test/debian trixie main\n"
    )
    target = tmp_path / "copies"
    target.mkdir()
    [copy] = base._sources(tmp_path, target)
    assert copy.read_text() == "deb http://mirror.test/debian bookworm main\n"


@pytest.mark.parametrize(
    "line",
    [
        "deb http://user:word@mirror.test/debian bookworm main\n",
        "deb http://mirror.test/debian trixie main\n",
    ],
)
def test_sources_with_a_password_or_of_another_suite_are_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / "sources.list").write_text(line)
    assert base._sources(tmp_path, tmp_path) == []


def test_a_host_without_mmdebstrap_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    monkeypatch.setattr(base.shutil, "which", lambda _: None)
    with pytest.raises(ImageBuildFailed, match="apt-get install mmdebstrap"):
        base._check_host(Path("/"))


def test_a_host_that_is_no_debian_is_told_how_to_bring_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.platform, "freedesktop_os_release", lambda: {"ID": "fedora"})
    with pytest.raises(ImageBuildFailed, match=r"this host is fedora, no Debian; .*docker load"):
        base._check_host(Path("/"))


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        ("sandbox/basic:latest", "sandbox image build basic"),
        ("sandbox/agentic-dev:latest", "sandbox image build agentic-dev"),
        ("sandbox/other:latest", "docker pull"),
        ("registry.test/mine:1", "docker load"),
    ],
)
def test_a_missing_image_is_built_when_it_is_ours_and_brought_when_it_is_not(image: str, advice: str) -> None:
    assert advice in how_to_get(image)
