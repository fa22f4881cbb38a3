"""Sandbox profiles: what an operator offers under a name (`vm.profile`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from orchestrator.image_rules import ImageRules


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of sandbox. `allowed_images` are glob patterns that `run.image` must match.

    `require_digest`: `run.image` must name a digest. `runtime` is one that the engine of a worker knows; a worker
    whose engine does not know it does not offer the profile. `learn_egress`: an `outbound` sandbox reaches every public
    host, and what it reached is kept, to make a list of `allowed_hosts` from.
    """

    name: str
    image: str
    allowed_images: tuple[str, ...] = ()
    writable_root: bool = False
    runtime: str | None = None
    pids: int = 512
    tmp_bytes: int = 512 << 20
    require_digest: bool = False
    learn_egress: bool = False

    @property
    def image_rules(self) -> ImageRules:
        """What `run.image` may be."""
        return ImageRules(self.allowed_images, self.require_digest)


BUILT_IN = {
    "basic": Profile("basic", "sandbox/basic:latest"),
    "agentic-dev": Profile("agentic-dev", "sandbox/agentic-dev:latest"),
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "image": ("a text", _is_text),
    "allowed_images": ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value))),
    "writable_root": ("true or false", lambda value: isinstance(value, bool)),
    "runtime": ("a text", _is_text),
    "pids": ("a whole number above 0", _is_count),
    "tmp_bytes": ("a whole number above 0", _is_count),
    "require_digest": ("true or false", lambda value: isinstance(value, bool)),
    "learn_egress": ("true or false", lambda value: isinstance(value, bool)),
}
"""What a profile may say: the words for a value, and the test of one."""


def load_profiles(path: str, errors: list[str]) -> dict[str, Profile]:
    """Return the built-in profiles with those of the YAML file `path` over them; add problems to `errors`."""
    profiles = dict(BUILT_IN)
    if path:
        try:
            document = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            errors.append(f"SANDBOX_PROFILES={path} cannot be read: {error}; correct the file or unset it")
            return profiles
        if not isinstance(document, dict):
            errors.append(f"SANDBOX_PROFILES={path} must be a map: profile name -> {', '.join(_FIELDS)}")
            return profiles
        for name, fields in document.items():
            _add(profiles, str(name), fields, errors)
    return {name: replace(one, allowed_images=(one.image, *one.allowed_images)) for name, one in profiles.items()}


def _add(profiles: dict[str, Profile], name: str, fields: Any, errors: list[str]) -> None:
    if not isinstance(fields, dict):
        errors.append(f"profile {name} must be a map of {', '.join(_FIELDS)}")
        return
    bad = [problem for key, value in fields.items() if (problem := _problem(key, value))]
    if bad:
        errors.append(f"profile {name}: {'; '.join(bad)}")
        return
    if name not in profiles and "image" not in fields:
        errors.append(f"profile {name} names no image; add `image: NAME:TAG`")
        return
    known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    base = profiles.get(name)
    profiles[name] = replace(base, **known) if base else Profile(name, **known)


def _problem(key: Any, value: Any) -> str | None:
    if key not in _FIELDS:
        return f"{key!r} is no field of a profile; use {', '.join(_FIELDS)}"
    words, fits = _FIELDS[key]
    return None if fits(value) else f"{key} is {value!r}; give {words}"
