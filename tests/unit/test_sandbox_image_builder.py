"""How the sandbox images are described, and what the builder makes of the engine's answers."""

from pathlib import Path

import docker
import pytest

from orchestrator.profiles import BUILT_IN
from workers.images import IMAGES, ImageBuildFailed, base, build, builder
from workers.images.advice import how_to_get


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


def test_a_context_has_the_same_bytes_each_time_and_differs_between_images() -> None:
    assert builder._context("basic") == builder._context("basic")
    assert builder._context("basic") != builder._context("agentic-dev")


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
