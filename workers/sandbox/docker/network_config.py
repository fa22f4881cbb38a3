"""The network of a sandbox in the engine's words (pure), and back to a check of a made container."""

from __future__ import annotations

from typing import Any

from workers.sandbox.port import JoinedNetwork, NamedNetwork, Network

HOST_NAME = "sandbox"
NO_SEARCH = "."
"""The engine's word for a resolv.conf without a search list: the host's own domain is nobody's business."""


def network_config(network: Network) -> dict[str, Any]:
    """The part of `HostConfig` that decides what a container can reach."""
    if isinstance(network, JoinedNetwork):
        return {"NetworkMode": f"container:{network.sandbox}"}
    if isinstance(network, NamedNetwork):
        return {"NetworkMode": network.name, "Dns": list(network.resolvers), "DnsSearch": [NO_SEARCH]}
    return {"NetworkMode": "none"}


def hostname(network: Network) -> dict[str, str]:
    """A container that joins another one has that one's name; the engine refuses to be given another."""
    return {} if isinstance(network, JoinedNetwork) else {"Hostname": HOST_NAME}


def network_faults(inspected: dict[str, Any], network: Network) -> list[str]:
    """Name what of a made container's network is not as asked for: its mode, its resolvers, what it is connected to."""
    asked, applied = network_config(network), inspected["HostConfig"]
    found = [
        f"{name} is {applied.get(name)!r}, asked for {asked.get(name)!r}"
        for name in ("NetworkMode", "Dns", "DnsSearch")
        if (applied.get(name) or None) != asked.get(name)
    ]
    found += [f"{name} is {applied[name]!r}" for name in ("ExtraHosts", "Links", "PortBindings") if applied.get(name)]
    connected = sorted((inspected.get("NetworkSettings") or {}).get("Networks") or ())
    if connected != _connected(network):
        found.append(f"it is connected to {connected}, asked for {_connected(network)}")
    return found


def _connected(network: Network) -> list[str]:
    if isinstance(network, JoinedNetwork):
        return []
    return [network.name if isinstance(network, NamedNetwork) else "none"]
