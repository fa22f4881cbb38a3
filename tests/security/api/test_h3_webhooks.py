"""H3: no webhook reaches this host, a private network or a metadata service, however its URL or its name is written.

What counts is who came to a service that listens on all addresses of this host: nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

import pytest

from orchestrator.access import ANYBODY
from orchestrator.addresses import ForbiddenAddress, resolved, system_lookup
from orchestrator.product import Product
from orchestrator.services import webhooks as services
from orchestrator.store import deliveries
from orchestrator.webhooks.notifier import Notifier
from orchestrator.webhooks.retrying import Tried
from orchestrator.webhooks.sending import Sender
from tests.integration.api.conftest import CheckedClient
from tests.integration.api.installation import MANIFEST
from tests.integration.api.waiting import eventually
from tests.security.host_service import HostService, host_service
from tests.servers.receiver import receiving

LOOPBACK = (
    "127.0.0.1", "127.0.0.2", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "localhost", "LOCALHOST.", "a.localhost", "0",
    "[::]", "127.0.0.1.", "[::127.0.0.1]", "0.0.0.0",  # noqa: S104 - nothing binds to it
)  # fmt: skip
INSIDE = (
    "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "[fd20:ce::254]", "169.254.170.2",
    "10.0.0.1", "172.16.0.1", "172.17.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "[fe80::1]", "[fc00::1]",
    "224.0.0.1", "255.255.255.255", "[ff02::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
)  # fmt: skip
NAME = "hooks.example.org"
BODY, HEADERS = b"{}", {"webhook-id": "msg_1"}


@pytest.fixture
def service() -> Iterator[HostService]:
    with host_service() as found:
        yield found


def leading_to(*addresses: str) -> Sender:
    """Sends as a server does whose operator allows nothing, and for which every name leads to these addresses."""
    return Sender((), lookup=lambda _name, _port: addresses, seconds=5)


@pytest.mark.parametrize("host", [*LOOPBACK, *INSIDE])
def test_h3_an_address_inside_is_refused_when_the_webhook_is_made_and_in_a_manifest(
    client: CheckedClient, service: HostService, host: str
) -> None:
    url = f"http://{host}:{service.port}/"
    refused = client.post("/api/v1/webhooks", json={"url": url})
    assert (refused.status_code, refused.json["details"]) == (400, {"parameter": "url"})  # type: ignore[index]
    manifest = f'{MANIFEST}notify: [{{url: "{url}"}}]\n'
    assert client.submit(manifest).json["errors"][0]["pointer"] == "/notify/0/url"  # type: ignore[index]
    assert client.get("/api/v1/webhooks").json["total_count"] == 0  # type: ignore[index]


@pytest.mark.parametrize("host", [*LOOPBACK, *INSIDE])
def test_h3_an_address_inside_is_not_dialled_even_if_it_has_come_into_the_store(
    service: HostService, host: str
) -> None:
    tried = Sender((), seconds=5)(f"http://{host}:{service.port}/", BODY, HEADERS)
    assert tried.status is None
    assert not tried.is_delivered
    assert service.visitors == []


@pytest.mark.parametrize("text", ["127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "localhost", "0"])
def test_h3_what_the_resolver_takes_for_an_address_is_judged_as_one(text: str) -> None:
    with pytest.raises(ForbiddenAddress):
        resolved(text, 80, (), system_lookup)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1"])
def test_h3_a_name_that_leads_inside_is_not_dialled_nor_is_one_that_also_leads_outside(
    service: HostService, address: str
) -> None:
    url = f"http://{NAME}:{service.port}/"
    for leads in ([address], ["203.0.113.7", address], [address, "203.0.113.7"]):
        tried = leading_to(*leads)(url, BODY, HEADERS)
        assert f"{NAME} leads to {address}, which is not a public address" in str(tried.error)
        assert "SANDBOX_WEBHOOK_PRIVATE_CIDRS" in str(tried.error)
    assert service.visitors == []


def test_h3_no_address_of_this_host_is_dialled_even_where_its_network_is_allowed(service: HostService) -> None:
    if not service.addresses:
        pytest.skip("this host has no address but loopback")
    everything = [ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
    for address in service.addresses:
        for sender in (
            leading_to(address),
            Sender(everything, lookup=lambda _n, _p, leads=address: [leads], seconds=5),
        ):
            assert not sender(f"http://{NAME}:{service.port}/", BODY, HEADERS).is_delivered
    assert service.visitors == []


def test_h3_a_redirect_to_this_host_is_not_followed(service: HostService) -> None:
    sender = Sender([ipaddress.ip_network("127.0.0.1/32")], seconds=5)
    with receiving() as receiver:
        receiver.answer = lambda _request: 302
        for host in ("127.0.0.1", "localhost", "169.254.169.254", *service.addresses[:1]):
            receiver.location = f"http://{f'[{host}]' if ':' in host else host}:{service.port}/"
            tried = sender(receiver.url, BODY, HEADERS)
            assert tried.status == 302
            assert "which is not followed" in str(tried.error)
    assert service.visitors == []


class Rebinding:
    """A DNS that answers something else each time; then what it answered last."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _name: str, _port: int) -> Sequence[str]:
        self.asked += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


def test_h3_a_name_is_asked_once_a_try_and_what_it_answers_later_is_nothing_to_that_try(service: HostService) -> None:
    """The second answer would be the listener's; the first, which was judged, has nobody on that port."""
    lookup = Rebinding("127.0.0.9", "127.0.0.1")
    sender = Sender([ipaddress.ip_network("127.0.0.9/32")], lookup=lookup, seconds=5)
    with receiving() as at_the_second:
        tried = sender(f"http://{NAME}:{at_the_second.port}/", BODY, HEADERS)
        assert "refused" in str(tried.error)
        assert lookup.asked == 1
        again = sender(f"http://{NAME}:{at_the_second.port}/", BODY, HEADERS)
        assert "127.0.0.1, which is not a public address" in str(again.error)
        assert at_the_second.received == []


def test_h3_a_name_that_turns_inside_is_refused_at_its_next_delivery(
    client: CheckedClient, product: Product, service: HostService
) -> None:
    """From the webhook to the log of its deliveries: what was allowed yesterday is judged again today."""
    lookup = Rebinding("127.0.0.1", "127.0.0.2")
    sender = Sender([ipaddress.ip_network("127.0.0.1/32")], lookup=lookup, seconds=5)
    with receiving() as receiver:
        made = services.create(product, f"http://{NAME}:{receiver.port}/", wanted=["state_change"], by=ANYBODY)
        notifier = Notifier(product, sender)
        notifier.start()
        try:
            client.task()
            eventually("the first is delivered", lambda: outcomes(product, made.id) == [Tried(204, None, 0)])
            client.task()
            eventually("the second was tried", lambda: len(outcomes(product, made.id)) == 2)
        finally:
            notifier.stop()
        assert len(receiver.received) == 1
    assert "127.0.0.2, which is not a public address" in str(outcomes(product, made.id)[0].error)
    assert service.visitors == []


def outcomes(product: Product, webhook_id: str) -> list[Tried]:
    """What came of the deliveries that were tried, newest first."""
    with product.database.read() as tx:
        found, _ = deliveries.find(tx, webhook_id, limit=10, offset=0)
    return [Tried(one.last_status, one.last_error, 0) for one in found if one.tries]
