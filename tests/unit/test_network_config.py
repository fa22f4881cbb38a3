"""The network of a sandbox in the engine's words, and each way in which a made container can differ from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.test_golden_list import inspected
from tests.unit.test_spec import SPEC
from workers.sandbox.docker.golden_list import mismatches
from workers.sandbox.docker.network_config import network_config
from workers.sandbox.docker.spec import container_config
from workers.sandbox.port import JoinedNetwork, NamedNetwork, Network, NoNetwork

NAMED = NamedNetwork("sandbox-full-1", ("10.0.0.53",))
JOINED = JoinedNetwork("f00d")
CONNECTED = {NoNetwork(): ["none"], JOINED: [], NAMED: ["sandbox-full-1"]}


def made(network: Network) -> dict[str, Any]:
    return {
        **inspected(replace(SPEC, network=network)),
        "NetworkSettings": {"Networks": dict.fromkeys(CONNECTED[network])},
    }


def test_a_sandbox_has_no_network_unless_it_is_asked_for() -> None:
    assert SPEC.network == NoNetwork()
    assert network_config(SPEC.network) == {"NetworkMode": "none"}


def test_a_joined_network_and_the_full_one_are_named_to_the_engine() -> None:
    assert network_config(JOINED) == {"NetworkMode": "container:f00d"}
    assert "Hostname" not in container_config(replace(SPEC, network=JOINED))
    assert network_config(NAMED) == {"NetworkMode": "sandbox-full-1", "Dns": ["10.0.0.53"], "DnsSearch": ["."]}


@pytest.mark.parametrize("network", CONNECTED)
def test_what_was_made_as_asked_for_has_no_mismatch(network: Network) -> None:
    assert mismatches(made(network), replace(SPEC, network=network)) == ()


@pytest.mark.parametrize(
    ("asked", "given"),
    [(asked, given) for asked in CONNECTED for given in CONNECTED if asked != given],
)
def test_another_network_than_the_one_asked_for_is_named(asked: Network, given: Network) -> None:
    assert any("NetworkMode" in one for one in mismatches(made(given), replace(SPEC, network=asked)))


@pytest.mark.parametrize("network", CONNECTED)
def test_a_network_that_somebody_connected_later_is_named(network: Network) -> None:
    found = made(network)
    found["NetworkSettings"]["Networks"]["bridge"] = {}
    [fault] = mismatches(found, replace(SPEC, network=network))
    assert fault.startswith("it is connected to ['bridge'")


@pytest.mark.parametrize(
    ("name", "value"),
    [("Dns", ["8.8.8.8"]), ("DnsSearch", ["lan"]), ("ExtraHosts", ["a:1.2.3.4"]), ("Links", ["b"]),
     ("PortBindings", {"80/tcp": []})],
)  # fmt: skip
def test_other_resolvers_hosts_links_or_ports_are_named(name: str, value: Any) -> None:
    found = made(NAMED)
    found["HostConfig"][name] = value
    assert any(name in one for one in mismatches(found, replace(SPEC, network=NAMED)))
