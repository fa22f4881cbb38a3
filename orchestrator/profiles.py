"""Sandbox profiles: what an operator offers under a name (`vm.profile`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of sandbox. `allowed_images` are glob patterns that `run.image` must match."""

    name: str
    image: str
    allowed_images: tuple[str, ...] = ()
    writable_root: bool = False
    runtime: str | None = None
    pids: int = 512
    tmp_bytes: int = 512 << 20


BUILT_IN = {
    "basic": Profile("basic", "sandbox/basic:latest"),
    "agentic-dev": Profile("agentic-dev", "sandbox/agentic-dev:latest"),
}

_TYPES: dict[str, type | tuple[type, ...]] = {
    "image": str,
    "allowed_images": list,
    "writable_root": bool,
    "runtime": str,
    "pids": int,
    "tmp_bytes": int,
}


def load_profiles(path: str, errors: list[str]) -> dict[str, Profile]:
    """Return the built-in profiles with those of the YAML file `path` over them; add problems to `errors`."""
    profiles = dict(BUILT_IN)
    if path:
        try:
            document = yaml.safe_load(Path(path).read_text())
        except (OSError, yaml.YAMLError) as error:
            errors.append(f"SANDBOX_PROFILES={path} cannot be read: {error}; correct the file or unset it")
            return profiles
        if not isinstance(document, dict):
            errors.append(f"SANDBOX_PROFILES={path} must be a map: profile name -> {', '.join(_TYPES)}")
            return profiles
        for name, fields in document.items():
            _add(profiles, str(name), fields, errors)
    return {name: replace(one, allowed_images=(one.image, *one.allowed_images)) for name, one in profiles.items()}


def _add(profiles: dict[str, Profile], name: str, fields: Any, errors: list[str]) -> None:
    if not isinstance(fields, dict):
        errors.append(f"profile {name} must be a map of {', '.join(_TYPES)}")
        return
    bad = [key for key, value in fields.items() if key not in _TYPES or not isinstance(value, _TYPES[key])]
    if bad:
        errors.append(f"profile {name}: {', '.join(map(str, bad))} is unknown or of the wrong type; use {_TYPES}")
        return
    if name not in profiles and "image" not in fields:
        errors.append(f"profile {name} names no image; add `image: NAME:TAG`")
        return
    known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    base = profiles.get(name)
    profiles[name] = replace(base, **known) if base else Profile(name, **known)
