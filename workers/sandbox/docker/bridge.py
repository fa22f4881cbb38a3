"""A bridge network of our own in the engine: made, compared with what was asked for, removed."""

from __future__ import annotations

from typing import Any

import docker
from docker.errors import NotFound

from workers.sandbox.port import BridgeSpec

OPTION = "com.docker.network.bridge."


def make_bridge(api: docker.APIClient, spec: BridgeSpec) -> None:
    """Make it, unless one that is as asked for is there; another one of its name is replaced. Raises the SDK's errors.

    The engine refuses to remove a network that a running container uses.
    """
    present = _of_name(api, spec.name)
    if len(present) == 1 and not _faults(present[0], spec):
        return
    for one in present:
        _remove(api, one["Id"])
    api.create_network(
        spec.name, driver="bridge", options=_options(spec), labels=dict(spec.labels), check_duplicate=True
    )


def bridge_faults(api: docker.APIClient, spec: BridgeSpec) -> tuple[str, ...]:
    """Name what is not as asked for. Raises the SDK's errors."""
    present = _of_name(api, spec.name)
    if len(present) != 1:
        return (f"the engine has {len(present) or 'no'} network named {spec.name}",)
    return tuple(_faults(present[0], spec))


def remove_bridge(api: docker.APIClient, name: str) -> None:
    """Remove it; harmless when there is none. Raises the SDK's errors, also while a running container uses it."""
    for one in _of_name(api, name):
        _remove(api, one["Id"])


def _remove(api: docker.APIClient, network: str) -> None:
    try:
        api.remove_network(network)
    except NotFound:
        return


def _of_name(api: docker.APIClient, name: str) -> list[dict[str, Any]]:
    """The engine's filter takes a part of the name, too; and it allows two networks of one name."""
    return [one for one in api.networks(names=[name]) if one["Name"] == name]


def _options(spec: BridgeSpec) -> dict[str, str]:
    return {
        f"{OPTION}name": spec.interface,
        f"{OPTION}enable_icc": "false",
        f"{OPTION}enable_ip_masquerade": "true",
        f"{OPTION}host_binding_ipv4": "127.0.0.1",
    }


def _faults(found: dict[str, Any], spec: BridgeSpec) -> list[str]:
    asked: dict[str, Any] = {"Driver": "bridge", "EnableIPv6": False, "Internal": False, "Ingress": False}
    faults = [f"{key} of network {spec.name} is {found.get(key)!r}" for key in asked if found.get(key) != asked[key]]
    options = found.get("Options") or {}
    faults += [
        f"{key} of network {spec.name} is {options.get(key)!r}"
        for key, value in _options(spec).items()
        if options.get(key) != value
    ]
    labels = found.get("Labels") or {}
    if not labels.items() >= dict(spec.labels).items():
        faults.append(f"network {spec.name} is not this worker's own")
    return faults
