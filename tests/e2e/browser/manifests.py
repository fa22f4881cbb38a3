"""Manifests that the browser tests submit."""

from __future__ import annotations

SMALL = """\
version: "1"
kind: Task
metadata:
  name: {name}
run:
  script: |
{script}
vm:
  profile: basic
  cpus: 0.5
  memory: 128M
  disk: 1G
lifecycle:
  timeout: 5m
"""


def small(script: str, name: str = "From the page", more: str = "") -> str:
    """A manifest as a person would write it. `more`: lines that belong under `lifecycle`."""
    indented = "\n".join(f"    {line}" for line in script.strip().splitlines())
    return SMALL.format(name=name, script=indented) + more
