"""Exits 0 when this environment holds exactly the pins of requirements.lock and this checkout, editable.

Stands in for a stamp file, which would lie after a `pip install` by hand, and for pip, which takes seconds.
"""

# ruff: noqa: INP001 – a script beside .ci/install, in no package
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def missing_pins() -> list[str]:
    """Return the pins of the lock file that are not installed in that version."""
    missing = []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith((" ", "#")) or not line.strip():
            continue
        pin = Requirement(line.rstrip("\\ "))
        if pin.marker is None or pin.marker.evaluate():
            try:
                installed = metadata.version(pin.name)
            except metadata.PackageNotFoundError:
                installed = None
            if installed is None or not pin.specifier.contains(installed, prereleases=True):
                missing.append(f"{pin.name} is {installed}, not {pin.specifier}")
    return missing


def checkout_problems() -> list[str]:
    """Return what differs between pyproject.toml and its editable installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    try:
        installed = metadata.distribution(project["name"])
    except metadata.PackageNotFoundError:
        return [f"{project['name']} is not installed"]
    if ROOT.as_uri() not in (installed.read_text("direct_url.json") or ""):
        return [f"{project['name']} is installed from another directory"]
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    wanted = {(group, name, value) for group, entries in groups.items() for name, value in entries.items()}
    present = {(entry.group, entry.name, entry.value) for entry in installed.entry_points}
    return ["the entry points in pyproject.toml changed"] if wanted != present else []


sys.exit(1 if missing_pins() or checkout_problems() else 0)
