"""What an operator offers as `vm.profile`."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.profiles import Profile, load_profiles


def loaded(directory: Path, text: str | bytes) -> tuple[dict[str, Profile], list[str]]:
    path = directory / "profiles.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    errors: list[str] = []
    return load_profiles(str(path), errors), errors


def test_without_a_file_there_are_the_two_profiles_that_ship() -> None:
    errors: list[str] = []
    found = load_profiles("", errors)
    assert errors == []
    assert {name: one.image for name, one in found.items()} == {
        "basic": "sandbox/basic:latest",
        "agentic-dev": "sandbox/agentic-dev:latest",
    }


def test_a_profiles_own_image_is_always_allowed(tmp_path: Path) -> None:
    found, errors = loaded(tmp_path, "gpu: {image: 'gpu:1', allowed_images: ['gpu:*']}")
    assert errors == []
    assert found["gpu"].allowed_images == ("gpu:1", "gpu:*")
    assert found["basic"].allowed_images == ("sandbox/basic:latest",)


def test_a_new_profile_says_all_that_the_contract_names(tmp_path: Path) -> None:
    text = "gpu: {image: 'gpu:1', writable_root: true, runtime: runsc, pids: 99, tmp_bytes: 1024}"
    found, errors = loaded(tmp_path, text)
    assert errors == []
    assert found["gpu"] == Profile("gpu", "gpu:1", ("gpu:1",), True, "runsc", 99, 1024)


def test_a_built_in_profile_can_be_changed_in_part(tmp_path: Path) -> None:
    found, errors = loaded(tmp_path, "basic: {pids: 64}")
    assert errors == []
    assert (found["basic"].pids, found["basic"].image) == (64, "sandbox/basic:latest")


def test_every_bad_profile_is_named_and_every_bad_field_of_it(tmp_path: Path) -> None:
    text = """
no-image: {pids: 3}
no-map: [1]
wrong: {image: 7, colour: red, pids: true, writable_root: "yes", allowed_images: [1], tmp_bytes: 0}
good: {image: 'a:1'}
"""
    found, errors = loaded(tmp_path, text)
    assert "good" in found
    assert not {"no-image", "no-map", "wrong"} & set(found)
    assert len(errors) == 3
    assert errors[0] == "profile no-image names no image; add `image: NAME:TAG`"
    assert errors[1].startswith("profile no-map must be a map of image, ")
    for problem in (
        "image is 7; give a text",
        "'colour' is no field of a profile; use image, ",
        "pids is True; give a whole number above 0",
        "writable_root is 'yes'; give true or false",
        "allowed_images is [1]; give a list of texts",
        "tmp_bytes is 0; give a whole number above 0",
    ):
        assert problem in errors[2]


@pytest.mark.parametrize("text", ["[1, 2]", "", "{a: [", b"\xff\xfe\xff", "a: !!python/object:os.system {}"])
def test_a_file_that_holds_no_profiles_is_an_error_with_its_path(tmp_path: Path, text: str | bytes) -> None:
    found, errors = loaded(tmp_path, text)
    assert len(errors) == 1
    assert f"SANDBOX_PROFILES={tmp_path}/profiles.yaml" in errors[0]
    assert set(found) == {"basic", "agentic-dev"}


def test_a_file_that_is_not_there_is_an_error() -> None:
    errors: list[str] = []
    load_profiles("/nowhere/profiles.yaml", errors)
    assert errors[0].startswith("SANDBOX_PROFILES=/nowhere/profiles.yaml cannot be read")


def test_which_images_a_profile_takes_is_its_own_matter(tmp_path: Path) -> None:
    text = f"""
open: {{image: 'a:1', allowed_images: ['r.example/*']}}
pinned: {{image: 'a:1', allowed_images: ['r.example/*'], require_digest: true}}
exact: {{image: 'r.example/a@sha256:{"1" * 64}', require_digest: true}}
"""
    found, errors = loaded(tmp_path, text)
    assert errors == []
    rules = {name: one.image_rules for name, one in found.items()}
    pinned = f"r.example/b:2@sha256:{'2' * 64}"
    assert not rules["basic"].allows("r.example/b:2")
    assert rules["open"].allows("r.example/b:2")
    assert not rules["open"].lacks_digest("r.example/b:2")
    assert rules["pinned"].lacks_digest("r.example/b:2")
    assert not rules["pinned"].lacks_digest(pinned)
    assert rules["pinned"].lacks_digest(pinned[:-1])
    assert rules["pinned"].allows(pinned)
    assert rules["exact"].allows(f"r.example/a@sha256:{'1' * 64}")
    assert not rules["exact"].allows(f"r.example/a@sha256:{'2' * 64}")


def test_a_profile_may_let_its_sandboxes_reach_all_public_hosts_to_learn(tmp_path: Path) -> None:
    found, errors = loaded(tmp_path, "learner: {image: 'a:1', learn_egress: true}")
    assert errors == []
    assert (found["learner"].learn_egress, found["basic"].learn_egress) == (True, False)
    _, errors = loaded(tmp_path, "learner: {image: 'a:1', learn_egress: public}")
    assert "learn_egress is 'public'; give true or false" in errors[0]
