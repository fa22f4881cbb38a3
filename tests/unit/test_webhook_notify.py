"""`notify` of a manifest: who may be told, of what, and that nobody is shown what signs it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from orchestrator import manifest
from orchestrator.manifest import InvalidManifest, Manifest, ManifestError, ManifestPolicy, Notify
from orchestrator.manifest.notify import without_secrets

POLICY = ManifestPolicy(profiles=None, allowed_images=None)
URL = "https://hooks.example.org/sandbox?team=a"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
HOME = ManifestPolicy(profiles=None, allowed_images=None, webhook_networks=(ipaddress.ip_network("127.0.0.1/32"),))


def checked(*entries: Any, policy: ManifestPolicy = POLICY) -> Manifest:
    data = {"version": "1", "kind": "Task", "metadata": {"name": "n"}, "run": {"command": ["true"]}}
    return manifest.check({**data, "notify": list(entries)}, policy=policy)


def error_of(*entries: Any, policy: ManifestPolicy = POLICY) -> ManifestError:
    with pytest.raises(InvalidManifest) as caught:
        checked(*entries, policy=policy)
    (error,) = caught.value.errors
    return error


def test_one_is_told_of_the_end_unless_it_says_what_else() -> None:
    made = checked({"url": URL}, {"url": URL, "events": ["artifact", "state_change"], "secret": SECRET})
    assert made.notify == (
        Notify(URL, ("terminal",), None),
        Notify(URL, ("artifact", "state_change"), SECRET),
    )
    assert made.definition["notify"][0] == {"url": URL, "events": ["terminal"]}


def test_a_definition_of_the_version_before_tells_nobody() -> None:
    definition = checked().definition
    del definition["notify"]
    assert Manifest.from_definition(definition).notify == ()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example.org/",
        "hooks.example.org",
        "https://user:password@hooks.example.org/",
        "https://hooks.example.org/#part",
        "https://hooks.example.org/a b",
        "https://hooks.example.org:0/",
        "https://hooks.example.org:70000/",
        "https:///path",
        "https://hooks.exämple.org/",
        "https://[::1",
        "https://[fe80::1%25eth0]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://localhost:8122/",
        "http://me.LOCALHOST/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::]/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://[fc00::1]/",
        "http://224.0.0.1/",
    ],
)
def test_a_url_that_is_none_or_leads_inside_is_refused_where_it_stands(url: str) -> None:
    error = error_of({"url": URL}, {"url": url})
    assert (error.field, error.validation) == ("notify[1].url", "notify_url")
    assert ": it" in error.message
    assert "; " in error.message


def test_no_password_of_a_url_is_shown_in_a_refusal() -> None:
    assert "hunter2" not in error_of({"url": "https://me:hunter2@hooks.example.org/"}).message


def test_addresses_that_the_operator_names_are_taken_and_others_of_their_kind_are_not() -> None:
    assert checked({"url": "http://127.0.0.1:9000/x"}, {"url": "http://localhost:9000/"}, policy=HOME).notify
    assert "127.0.0.2" in error_of({"url": "http://127.0.0.2:9000/x"}, policy=HOME).message


def test_an_offline_check_judges_no_address() -> None:
    assert checked({"url": "http://10.0.0.1/"}, policy=ManifestPolicy.offline()).notify
    assert error_of({"url": "ftp://10.0.0.1/"}, policy=ManifestPolicy.offline()).validation == "notify_url"


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("too short", "it has 9 characters"),
        ("whsec_" + "A" * 30, "stands no base64"),
        ("whsec_" + "A" * 24, "stands no base64 of at least 24 bytes"),
        ("whsec_" + "!" * 44, "stands no base64"),
        ("a line\nand another one, for ever", "control character"),
        ("[redacted]", "which answers show in place of one"),
    ],
)
def test_a_secret_that_signs_nothing_safely_is_refused_and_not_repeated(secret: str, words: str) -> None:
    error = error_of({"url": URL, "secret": secret})
    assert (error.field, error.validation) == ("notify[0].secret", "notify_secret")
    assert words in error.message
    assert secret == "[redacted]" or secret not in error.message


@pytest.mark.parametrize("secret", [12345678901234567890123456, "x" * 513, ["x" * 30]])
def test_no_refusal_of_the_schema_repeats_a_secret(secret: Any) -> None:
    message = error_of({"url": URL, "secret": secret}).message
    assert "1234567890" not in message
    assert "xxxx" not in message


@pytest.mark.parametrize(
    "entry", [{"url": URL, "events": []}, {"url": URL, "events": ["finished"]}, {"events": ["terminal"]}, {"url": ""}]
)
def test_an_entry_against_the_schema_is_refused(entry: dict[str, Any]) -> None:
    assert error_of(entry).field.startswith("notify[0]")


def test_ten_are_told_and_no_more() -> None:
    assert len(checked(*[{"url": URL}] * 10).notify) == 10
    assert error_of(*[{"url": URL}] * 11).validation == "length"


def test_what_is_shown_of_a_definition_says_that_there_is_a_secret_and_not_which() -> None:
    definition = checked({"url": URL}, {"url": URL, "secret": SECRET}).definition
    shown = without_secrets(definition)
    assert [one.get("secret") for one in shown["notify"]] == [None, "[redacted]"]
    assert definition["notify"][1]["secret"] == SECRET
    assert SECRET not in repr(checked({"url": URL, "secret": SECRET}).notify)
