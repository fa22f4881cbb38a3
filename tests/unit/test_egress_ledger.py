"""What is counted of a sandbox's traffic, what is told in its log, and that neither grows without bound."""

from __future__ import annotations

from orchestrator.contacts import OTHERS, UNREADABLE, EgressRule
from workers.egress.denial import Denied
from workers.egress.ledger import MAX_CONTACTS, MAX_LINES, Ledger

NOT_ALLOWED = Denied(EgressRule.NOT_ALLOWED, "it may not be reached", "add it")
LINE = "egress denied: {}:443 (not_allowed) – add it"


def test_the_first_denial_of_a_host_and_port_is_told_at_once_and_the_others_as_a_count() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.on_denied("a.test", 443, NOT_ALLOWED)
    ledger.on_denied("a.test", 22, Denied(EgressRule.PORT, "", "add a.test:22"))
    ledger.on_denied("b.test", 443, NOT_ALLOWED)
    assert ledger.news.is_set()
    assert ledger.take_lines() == [
        LINE.format("a.test"),
        "egress denied: a.test:22 (port) – add a.test:22",
        LINE.format("b.test"),
    ]
    assert not ledger.news.is_set()
    assert ledger.take_counts() == ["egress denied: a.test:443 – 3 times so far"]
    assert (ledger.take_lines(), ledger.take_counts()) == ([], [])
    ledger.on_denied("b.test", 443, Denied(EgressRule.SNI, "", ""))
    assert ledger.take_counts() == ["egress denied: b.test:443 – 2 times so far"]


def test_what_is_stored_is_of_the_whole_attempt_and_only_what_changed() -> None:
    ledger = Ledger()
    assert ledger.take_traffic() is None
    ledger.on_bytes(10, 0)
    ledger.on_bytes(0, 30)
    ledger.on_denied("a.test", 443, NOT_ALLOWED)
    ledger.on_denied("b.test", 443, NOT_ALLOWED)
    first = ledger.take_traffic()
    assert first is not None
    assert (first.bytes_up, first.bytes_down, [one.host for one in first.contacts]) == (10, 30, ["a.test", "b.test"])
    assert ledger.take_traffic() is None
    ledger.on_bytes(1, 1)
    ledger.on_denied("b.test", 443, NOT_ALLOWED)
    second = ledger.take_traffic()
    assert second is not None
    assert (second.bytes_up, second.bytes_down) == (11, 31)
    [contact] = second.contacts
    assert (contact.host, contact.count, contact.passed) == ("b.test", 2, False)
    assert contact.first_at <= contact.last_at


def test_a_worker_that_takes_over_counts_on_and_tells_nothing_twice() -> None:
    before = Ledger()
    before.on_bytes(5, 6)
    before.on_denied("a.test", 443, NOT_ALLOWED)
    stored = before.take_traffic()
    assert stored is not None
    ledger = Ledger()
    ledger.load(stored.bytes_up, stored.bytes_down, stored.contacts)
    assert ledger.take_traffic() is None
    ledger.on_denied("a.test", 443, NOT_ALLOWED)
    ledger.on_bytes(1, 0)
    after = ledger.take_traffic()
    assert after is not None
    assert (after.bytes_up, after.bytes_down, after.contacts[0].count) == (6, 6, 2)
    assert ledger.take_lines() == []
    assert ledger.take_counts() == ["egress denied: a.test:443 – 2 times so far"]


def test_what_passes_is_kept_only_where_the_profile_learns() -> None:
    for learning in (False, True):
        ledger = Ledger(learning=learning)
        ledger.on_passed("a.test", 443)
        traffic = ledger.take_traffic()
        assert (traffic is not None) is learning
        if traffic:
            assert [(one.host, one.rule, one.passed) for one in traffic.contacts] == [("a.test", "learned", True)]
        assert (ledger.denied(), ledger.take_lines(), ledger.take_counts()) == ([], [], [])


def test_a_host_that_cannot_be_reached_is_told_once_and_is_no_denial() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.on_failed("a.test", 443, "a.test cannot be resolved: Name or service not known")
    assert ledger.take_lines() == ["egress failed: a.test cannot be resolved: Name or service not known"]
    assert (ledger.denied(), ledger.take_traffic()) == ([], None)


def test_a_sandbox_that_asks_for_ever_new_hosts_fills_neither_store_nor_log() -> None:
    ledger = Ledger()
    for number in range(10_000):
        ledger.on_denied(f"host-{number}.test", 443, NOT_ALLOWED)
    traffic = ledger.take_traffic()
    assert traffic is not None
    assert len(traffic.contacts) == MAX_CONTACTS + 1
    [others] = [one for one in traffic.contacts if one.host == OTHERS]
    assert (others.port, others.count) == (0, 10_000 - MAX_CONTACTS)
    lines = ledger.take_lines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1].startswith("egress denied: more hosts are refused than are told here")
    assert ledger.take_counts() == []


def test_a_host_is_shown_without_the_secrets_it_may_hold() -> None:
    ledger = Ledger(shown=lambda host: host.replace("s3cret", "***"))
    ledger.on_denied("s3cret.evil.test", 443, NOT_ALLOWED)
    ledger.on_denied(UNREADABLE, 0, Denied(EgressRule.SYNTAX, "", "x"))
    assert [one.host for one in ledger.denied()] == ["***.evil.test", UNREADABLE]
    ledger.on_denied("s3cret.test", 22, Denied(EgressRule.PORT, "", "add s3cret.test:22"))
    ledger.on_failed("s3cret.b.test", 443, "s3cret.b.test cannot be resolved")
    lines = ledger.take_lines()
    assert len(lines) == 4
    assert "s3cret" not in str(lines)
