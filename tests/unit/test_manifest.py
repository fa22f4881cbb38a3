"""Manifests: what is valid, what each refusal says, and where it points."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import schemas
from orchestrator import manifest
from orchestrator.image_rules import ImageRules
from orchestrator.manifest import InvalidManifest, Manifest, ManifestError, ManifestPolicy
from orchestrator.outcomes import RETRIED_BY_DEFAULT, Reason
from orchestrator.quantities import DURATION_PATTERN, SIZE_PATTERN

EXAMPLES = Path(__file__).parents[2] / "examples" / "quick-reference"
POLICY = ManifestPolicy(profiles=frozenset({"agentic-dev", "basic"}), allowed_images=("sandbox/*", "python:3.11"))
REPOSITORY = {"url": "https://github.com/org/repo.git"}


def run_manifest(**sections: Any) -> dict[str, Any]:
    return {
        "version": "1",
        "kind": "Task",
        "metadata": {"name": "n"},
        "run": {"command": ["true"]},
        **sections,
    }


def claude_manifest(**fields: Any) -> dict[str, Any]:
    claude = {"prompt": "do it", **fields.pop("claude", {})}
    manifest_ = run_manifest(repository=REPOSITORY, claude=claude, **fields)
    del manifest_["run"]
    return manifest_


def errors_of(data: Any, policy: ManifestPolicy = POLICY) -> tuple[ManifestError, ...]:
    with pytest.raises(InvalidManifest) as caught:
        manifest.check(data, policy=policy)
    return caught.value.errors


def errors_of_text(text: str, content_type: str = "application/yaml") -> tuple[ManifestError, ...]:
    with pytest.raises(InvalidManifest) as caught:
        manifest.parse(text.encode(), content_type, policy=POLICY)
    return caught.value.errors


def only_error(data: Any, policy: ManifestPolicy = POLICY) -> ManifestError:
    (error,) = errors_of(data, policy)
    return error


# What is valid


@pytest.mark.parametrize("name", ["minimal", "bug-fix", "security-audit", "large-vm"])
def test_the_manifests_of_the_quick_reference_validate_unchanged(name: str) -> None:
    body = (EXAMPLES / f"{name}.yaml").read_bytes()
    made = manifest.parse(body, "application/yaml", policy=POLICY)
    assert made.claude is not None
    assert made.repository is not None
    assert made.repository.url.startswith("https://github.com/org/")
    as_json = manifest.parse(json.dumps(made.definition).encode(), "application/json", policy=POLICY)
    assert as_json == made


def test_the_defaults_are_those_of_the_contract() -> None:
    made = manifest.parse((EXAMPLES / "minimal.yaml").read_bytes(), "text/yaml", policy=POLICY)
    assert made.definition == {
        "version": "1",
        "kind": "Task",
        "metadata": {"id": None, "name": "My Task", "labels": {}},
        "repository": {
            "url": "https://github.com/org/repo.git",
            "branch": "main",
            "commit": None,
            "depth": None,
            "submodules": False,
            "subpath": None,  # no credential: a worker of the version before does not know it
        },
        "claude": {
            "prompt": "Your instructions here",
            "headless": True,
            "interactive": False,
            "skip_permissions": True,
            "output_format": "stream-json",
            "model": "claude-sonnet-4-5-20250929",
            "allowed_tools": [],
            "mcp_config": None,
            "max_turns": None,
            "max_budget_usd": None,
        },
        "vm": {
            "profile": "agentic-dev",
            "cpus": 4,
            "memory": "8G",
            "disk": "40G",
            "network_mode": "isolated",
            "allowed_hosts": [],
        },
        "secrets": [],
        "lifecycle": {
            "timeout": "24h",
            "stage_timeout": "15m",
            "provision_timeout": "10m",
            "collect_timeout": "15m",
            "queue_timeout": None,
            "idle_timeout": None,
            "input_timeout": None,
            "pause_clock_on_input": False,
            "stop_grace": "10s",
            "failure_action": "destroy",
            "preserve_for": "24h",
            "keep_session": False,
            "artifact_patterns": [],
            "retry": {
                "max_attempts": 1,
                "on": [str(reason) for reason in RETRIED_BY_DEFAULT],
                "backoff": "5s",
            },
        },
        "notify": [],
        "priority": 0,
        "parent_id": None,
    }


def test_typed_sections_carry_seconds_and_bytes() -> None:
    made = manifest.check(
        run_manifest(
            metadata={"id": "t-1", "name": "n", "labels": {"team": "a"}},
            repository={**REPOSITORY, "depth": 1, "subpath": "a/b"},
            run={"script": "make", "env": {"A": "1"}, "image": "python:3.11"},
            vm={
                "cpus": 0.5,
                "memory": "512M",
                "disk": "1G",
                "network_mode": "outbound",
                "allowed_hosts": ["A.B.com."],
            },
            secrets=[{"name": "T", "source": "vault", "key": "ci/github:token"}],
            lifecycle={
                "timeout": "90s",
                "idle_timeout": "5m",
                "retry": {"max_attempts": 3, "on": ["timeout"]},
            },
            priority=-5,
            parent_id="p",
        ),
        policy=POLICY,
    )
    assert (made.id, made.name, made.labels, made.priority, made.parent_id) == (
        "t-1",
        "n",
        {"team": "a"},
        -5,
        "p",
    )
    assert made.repository == manifest.Repository(REPOSITORY["url"], None, None, 1, False, "a/b")
    assert made.run == manifest.Run(None, "make", "python:3.11", {"A": "1"})
    assert made.claude is None
    assert made.vm == manifest.Vm("agentic-dev", 0.5, 512 << 20, 1 << 30, "outbound", ("a.b.com",))
    assert made.secrets == (manifest.Secret("T", "vault", "ci/github:token"),)
    limits = made.lifecycle
    assert (limits.timeout_seconds, limits.idle_timeout_seconds, limits.queue_timeout_seconds) == (
        90,
        300,
        None,
    )
    assert (
        limits.stage_timeout_seconds,
        limits.provision_timeout_seconds,
        limits.collect_timeout_seconds,
    ) == (
        900,
        600,
        900,
    )
    assert limits.retry == manifest.Retry(3, ("timeout",), 5)
    assert (limits.input_timeout_seconds, limits.pause_clock_on_input, limits.keep_session) == (None, False, False)


def test_an_interactive_agent_has_a_budget_limits_of_its_waits_and_a_session_to_keep() -> None:
    limits = {"input_timeout": "2h", "pause_clock_on_input": True, "keep_session": True}
    made = manifest.check(
        claude_manifest(claude={"interactive": True, "max_budget_usd": 2.5}, lifecycle=limits), policy=POLICY
    )
    assert made.claude is not None
    assert (made.claude.interactive, made.claude.max_budget_usd) == (True, 2.5)
    limits = made.lifecycle
    assert (limits.input_timeout_seconds, limits.pause_clock_on_input, limits.keep_session) == (7200, True, True)
    whole = manifest.check(claude_manifest(claude={"max_budget_usd": 3}), policy=POLICY)
    assert whole.claude is not None
    assert whole.claude.max_budget_usd == 3


def test_a_definition_of_the_version_before_is_that_of_an_agent_nobody_talks_to() -> None:
    stored = manifest.check(claude_manifest(), policy=POLICY).definition
    for section, names in {
        "claude": ("interactive", "max_budget_usd"),
        "lifecycle": ("input_timeout", "pause_clock_on_input", "keep_session"),
    }.items():
        for name in names:
            del stored[section][name]
    read = Manifest.from_definition(stored)
    assert read.claude is not None
    assert (read.claude.interactive, read.claude.max_budget_usd) == (False, None)
    assert read.lifecycle.input_timeout_seconds is None
    assert (read.lifecycle.pause_clock_on_input, read.lifecycle.keep_session) == (False, False)


@pytest.mark.parametrize(
    "tool", ["Read", "Bash(git *)", "Bash(git commit -m:*)", "mcp__github__create_issue", "mcp__a"]
)
def test_tools_may_be_patterns(tool: str) -> None:
    made = manifest.check(claude_manifest(claude={"allowed_tools": [tool]}), policy=POLICY)
    assert made.claude is not None
    assert made.claude.allowed_tools == (tool,)


def test_a_definition_is_itself_a_valid_manifest_and_its_keys_have_one_order() -> None:
    shuffled = {
        key: run_manifest(vm={"disk": "1G", "cpus": 1})[key] for key in ("vm", "run", "metadata", "kind", "version")
    }
    made = manifest.check(shuffled, policy=POLICY)
    again = manifest.check(made.definition, policy=POLICY)
    assert json.dumps(again.definition) == json.dumps(made.definition)
    assert list(made.definition)[:4] == ["version", "kind", "metadata", "run"]
    assert list(made.definition["vm"])[:2] == ["profile", "cpus"]


def test_a_stored_definition_is_read_without_judging_it_and_gets_the_fields_added_since() -> None:
    stored = manifest.check(run_manifest(vm={"profile": "basic"}), policy=POLICY).definition
    del stored["lifecycle"]["idle_timeout"]
    stored["vm"]["profile"] = "no-longer-there"
    read = Manifest.from_definition(stored)
    assert read.vm.profile == "no-longer-there"
    assert read.lifecycle.idle_timeout_seconds is None


def test_a_check_leaves_the_data_it_was_given_alone() -> None:
    data = run_manifest(vm={}, lifecycle={"retry": {"max_attempts": 2.0}})
    before = copy.deepcopy(data)
    manifest.check(data, policy=POLICY).definition["vm"]["cpus"] = 99
    assert data == before
    assert manifest.check(data, policy=POLICY).vm.cpus == 4


@pytest.mark.parametrize("identity", [None, ""])
def test_a_null_or_empty_id_leaves_the_choice_to_the_server(identity: str | None) -> None:
    assert manifest.check(run_manifest(metadata={"id": identity, "name": "n"}), policy=POLICY).id is None


def test_a_whole_float_becomes_an_integer_where_one_is_wanted() -> None:
    body = json.dumps(run_manifest(priority=4.0, vm={"cpus": 4.0})).encode()
    made = manifest.parse(body, "application/json", policy=POLICY)
    assert made.priority == 4
    assert type(made.definition["priority"]) is int


def test_unquoted_scalars_arrive_as_written_where_text_is_wanted() -> None:
    text = """
version: "1"
kind: Task
metadata: {name: 2024, labels: {version: 1.10, on: yes, day: 2026-01-29, ok: true, hex: 0x1F}}
repository: {url: "https://h.tld/r", branch: no, commit: 1234567}
run: {command: [sleep, 10], env: {PORT: 8080, CLOCK: 22:22, MODE: 010}}
"""
    made = manifest.parse(text.encode(), "application/yaml", policy=POLICY)
    assert made.name == "2024"
    assert made.labels == {"version": "1.10", "on": "yes", "day": "2026-01-29", "ok": "true", "hex": "0x1F"}
    assert made.repository is not None
    assert (made.repository.branch, made.repository.commit) == ("no", "1234567")
    assert made.run is not None
    assert made.run.command == ("sleep", "10")
    assert made.run.env == {"PORT": "8080", "CLOCK": "22:22", "MODE": "010"}


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/org/repo.git",
        "https://user:password@git.example.com:8443/r",
        "http://10.0.0.5/r.git",
        "http://[::1]:8080/r.git",
        "ssh://git@github.com/org/repo.git",
        "ssh://git@host.tld:2222/~me/r",
        "git@github.com:org/repo.git",
        "org-1@github.com:org/repo.git",
    ],
)
def test_repository_urls_of_the_four_forms_are_accepted(url: str) -> None:
    assert manifest.check(run_manifest(repository={"url": url}), policy=POLICY)


@pytest.mark.parametrize(
    "branch", ["main", "feature/x-1", "v1.2.3", "a.b/c@d", "ünï", "a#b", "release/2026.01", "a;b$(x)"]
)
def test_ref_names_that_git_takes_are_accepted(branch: str) -> None:
    assert manifest.check(run_manifest(repository={**REPOSITORY, "branch": branch}), policy=POLICY)


@pytest.mark.parametrize(
    "host",
    ["api.github.com", "*.example.com", "host.tld:8443", "*.a.b.c:1", "xn--bcher-kva.example", "1.2.tld"],
)
def test_host_names_are_accepted_with_outbound(host: str) -> None:
    vm = {"network_mode": "outbound", "allowed_hosts": [host]}
    assert manifest.check(run_manifest(vm=vm), policy=POLICY).vm.allowed_hosts == (host,)


# What is refused


def with_(path: str, value: Any) -> dict[str, Any]:
    """Return a valid manifest in which `path` has `value`; `claude.…` makes it a claude manifest."""
    data = claude_manifest() if path.startswith("claude") else run_manifest()
    if path.startswith("repository."):
        data["repository"] = dict(REPOSITORY)
    place = data
    *way, last = path.split(".")
    for step in way:
        place = place.setdefault(step, {})
    place[last] = value
    return data


REFUSED = [
    ("version", "2", "const"),
    ("version", 1, "type"),
    ("kind", "Job", "const"),
    ("metadata.name", "", "length"),
    ("metadata.name", "x" * 201, "length"),
    ("metadata.name", None, "type"),
    ("metadata.name", ["x"], "type"),
    ("metadata.id", "stream", "reserved_id"),
    ("metadata.id", "-x", "pattern"),
    ("metadata.id", "a/b", "pattern"),
    ("metadata.id", "a\n", "pattern"),
    ("metadata.id", "x" * 129, "pattern"),
    ("metadata.labels", {f"k{n}": "v" for n in range(65)}, "length"),
    ("metadata.labels", {"k": 1}, "type"),
    ("metadata.labels", {"k": "x" * 257}, "length"),
    ("metadata.labels", {"-k": "v"}, "key_form"),
    ("metadata.labels", {"k\n": "v"}, "key_form"),
    ("metadata.labels", {"k" * 64: "v"}, "key_form"),
    ("repository.commit", "abc", "pattern"),
    ("repository.commit", "g" * 40, "pattern"),
    ("repository.depth", 0, "range"),
    ("repository.depth", 1.5, "type"),
    ("repository.depth", True, "type"),
    ("repository.submodules", "yes", "type"),
    ("repository.subpath", "/etc", "outside"),
    ("repository.subpath", "a/../..", "outside"),
    ("repository.subpath", "a\0b", "nul_character"),
    ("claude.prompt", "", "length"),
    ("claude.prompt", "ü" * (1 << 19) + "x", "length"),
    ("claude.output_format", "xml", "enum"),
    ("claude.model", "--help", "pattern"),
    ("claude.prompt", " \t\n\u3000", "blank"),
    ("claude.headless", False, "headless"),
    ("claude.headless", 0, "type"),
    ("claude.interactive", "yes", "type"),
    ("claude.model", "a\nb", "pattern"),
    ("claude.max_turns", 0, "range"),
    ("claude.max_budget_usd", 0, "range"),
    ("claude.max_budget_usd", -0.5, "range"),
    ("claude.max_budget_usd", 1e7, "range"),
    ("claude.max_budget_usd", float("nan"), "number"),
    ("claude.max_budget_usd", "5", "type"),
    ("claude.max_budget_usd", True, "type"),
    ("claude.allowed_tools", "Read", "type"),
    ("claude.allowed_tools", [""], "pattern"),
    ("claude.allowed_tools", ["--dangerously-skip-permissions"], "pattern"),
    ("claude.allowed_tools", ["Read,Write"], "pattern"),
    ("claude.allowed_tools", ["Bash(a\nb)"], "pattern"),
    ("claude.allowed_tools", [" Read"], "pattern"),
    ("claude.allowed_tools", ["x" * 257], "pattern"),
    ("claude.mcp_config", {}, "required"),
    ("claude.mcp_config", {"mcpServers": {"s": {"args": []}}}, "mcp_server"),
    ("claude.mcp_config", {"mcpServers": {"s": {"command": ["npx"]}}}, "type"),
    ("claude.mcp_config", {"mcpServers": {"s": {"command": "x", "env": {"A": "${GONE}"}}}}, "unknown_secret"),
    ("claude.mcp_config", {"mcpServers": {"s": {"url": "x", "headers": {"A": "${A:-b}"}}}}, "unknown_secret"),
    ("run.command", [], "length"),
    ("run.command", [""], "length"),
    ("run.command", "echo hi", "type"),
    ("run.command", ["echo", "x" * (128 << 10)], "length"),
    ("run.image", "evil/image", "image_not_allowed"),
    ("run.image", "--privileged", "pattern"),
    ("run.env", {"PATH": "x"}, "reserved_name"),
    ("run.env", {"HOME": "x"}, "reserved_name"),
    ("run.env", {"HTTP_PROXY": "x"}, "reserved_name"),
    ("run.env", {"https_proxy": "x"}, "reserved_name"),
    ("run.env", {"no_proxy": "x"}, "reserved_name"),
    ("run.env", {"LD_PRELOAD": "x"}, "reserved_name"),
    ("run.env", {"A=B": "x"}, "key_form"),
    ("run.env", {"1A": "x"}, "key_form"),
    ("run.env", {"A\0": "x"}, "nul_character"),
    ("run.env", {"A": "x" * (128 << 10)}, "length"),
    ("vm.profile", "nope", "unknown_profile"),
    ("vm.cpus", 0, "range"),
    ("vm.cpus", 257, "range"),
    ("vm.cpus", float("nan"), "number"),
    ("vm.cpus", float("inf"), "number"),
    ("vm.cpus", "4", "type"),
    ("vm.memory", "8", "pattern"),
    ("vm.memory", "1M", "range"),
    ("vm.memory", "999999999G", "range"),
    ("vm.disk", "0G", "range"),
    ("vm.disk", "40GB", "pattern"),
    ("vm.network_mode", "none", "enum"),
    ("vm.allowed_hosts", ["api.github.com"], "allowed_hosts_mode"),
    ("secrets", [{"name": "PATH", "source": "env", "key": "A"}], "reserved_name"),
    ("secrets", [{"name": "a-b", "source": "env", "key": "A"}], "pattern"),
    ("secrets", [{"name": "A", "source": "gcp", "key": "A"}], "enum"),
    ("secrets", [{"name": "A", "source": "env"}], "required"),
    ("secrets", [{"name": "A", "source": "env", "key": "a b"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "file", "key": "../../etc/shadow"}], "outside"),
    ("secrets", [{"name": "A", "source": "file", "key": "/etc/shadow"}], "outside"),
    ("secrets", [{"name": "A", "source": "file", "key": "a//b"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "file", "key": "./a"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "file", "key": "a/"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "file", "key": "a\n"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "env", "key": "A=B"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "vault", "key": "a/../b"}], "secret_key"),
    ("secrets", [{"name": "A", "source": "vault", "key": "a?b"}], "secret_key"),
    ("repository.credential", 5, "type"),
    ("repository.credential", "", "length"),
    ("repository.credential", "GONE", "unknown_secret"),
    ("secrets", [{"name": "A", "source": "vault", "key": "/a"}], "secret_key"),
    ("lifecycle.timeout", "0s", "range"),
    ("lifecycle.timeout", "169h", "range"),
    ("lifecycle.timeout", "1d", "pattern"),
    ("lifecycle.timeout", 60, "type"),
    ("lifecycle.timeout", "10s\n", "pattern"),
    ("lifecycle.stage_timeout", "0m", "range"),
    ("lifecycle.provision_timeout", "999999999h", "range"),
    ("lifecycle.collect_timeout", "", "pattern"),
    ("lifecycle.queue_timeout", "0s", "range"),
    ("lifecycle.idle_timeout", "-1s", "pattern"),
    ("lifecycle.input_timeout", "1h", "input_mode"),
    ("lifecycle.input_timeout", "1x", "pattern"),
    ("lifecycle.pause_clock_on_input", True, "input_mode"),
    ("lifecycle.pause_clock_on_input", "no", "type"),
    ("lifecycle.keep_session", True, "keep_session"),
    ("lifecycle.keep_session", 1, "type"),
    ("lifecycle.stop_grace", "200h", "range"),
    ("lifecycle.preserve_for", None, "type"),
    ("lifecycle.failure_action", "keep", "enum"),
    ("lifecycle.artifact_patterns", ["x"] * 65, "length"),
    ("lifecycle.artifact_patterns", ["x" * 257], "length"),
    ("lifecycle.artifact_patterns", ["../x"], "outside"),
    ("lifecycle.artifact_patterns", ["/etc/*"], "outside"),
    ("lifecycle.artifact_patterns", [""], "length"),
    ("lifecycle.retry", {"max_attempts": 11}, "range"),
    ("lifecycle.retry", {"max_attempts": 0}, "range"),
    ("lifecycle.retry", {"on": ["cancelled"]}, "enum"),
    ("lifecycle.retry", {"on": ["exit_zero"]}, "enum"),
    ("lifecycle.retry", {"backoff": "5"}, "pattern"),
    ("priority", 101, "range"),
    ("priority", -101, "range"),
    ("priority", 10**30, "number"),
    ("priority", 0.5, "type"),
    ("parent_id", "", "pattern"),
    ("parent_id", "\ud800", "lone_surrogate"),
    ("extra", 1, "unknown_field"),
    ("vm.gpu", 1, "unknown_field"),
]


@pytest.mark.parametrize(("path", "value", "validation"), REFUSED)
def test_a_value_against_the_contract_is_refused_in_three_parts(path: str, value: Any, validation: str) -> None:
    error = only_error(with_(path, value))
    assert error.validation == validation
    assert error.field.startswith(path)
    assert re.match(r"[^;]+(:|;) .+; .+", error.message, re.DOTALL), error.message
    assert len(error.message) < 500


@pytest.mark.parametrize(
    "branch", ["-x",
     "--upload-pack=touch /tmp/pwn", "a b", "a..b", "a~b", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a@{b", "@",
     "a.lock", "a.lock/b", ".a", "a/.b", "/a", "a/", "a//b", "a.", "a\x7f", "a\nb", "a\tb"],
)  # fmt: skip
def test_a_name_that_git_takes_for_no_ref_or_for_an_option_is_refused(branch: str) -> None:
    error = only_error(with_("repository.branch", branch))
    assert (error.field, error.validation) == ("repository.branch", "ref_name")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("--upload-pack=touch /tmp/pwn", "option"),
        ("-u", "option"),
        ("ext::sh -c id", "not allowed"),
        ("ext::sh", "helper program"),
        ("fd::7", "helper program"),
        ("git://host.tld/r", "not supported"),
        ("ftp://host.tld/r", "not supported"),
        ("HTTPS://host.tld/r", "not supported"),
        ("ssh://-oProxyCommand=id/r", "no host name"),
        ("ssh://-oProxyCommand=id@host.tld/r", "no host name"),
        ("https://", "names no host"),
        ("https://host.tld", "no repository"),
        ("https://host.tld:99999/r", "taken apart"),
        ("https://[::1/r", "taken apart"),
        ("https://ho%2dst/r", "no host name"),
        ("https://host.tld\\@evil/r", "not allowed"),
        ("https://host.tld/a b", "not allowed"),
        ("https://host.tld/r\n", "not allowed"),
        ("git@-host:r", "not valid"),
        ("git@host:-r", "not valid"),
        ("git@host::r", "not valid"),
        ("/srv/repo", "no transport"),
        ("../repo", "no transport"),
        ("host.tld:r", "no transport"),
        ("https://h.tld/" + "x" * 2048, "at most 2,048"),
    ],
)
def test_a_repository_url_that_could_run_something_or_is_none_is_refused(url: str, why: str) -> None:
    error = only_error(with_("repository.url", url))
    assert error.field == "repository.url"
    assert why in error.message


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1:80", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "0x7f000001", "[::1]",
     "[::1]:443", "::1", "fe80::1", "1.2.3.4.", "localhost", "*", "*.", "*.com", "*.com.", "a.*.com", "*a.com",
     "*.*.com", "a.com:0", "a.com:65536", "a.com:x", "a.com:", "a.com:٣", "https://a.com", "a.com/x", "u@a.com",
     "a b.com", "-a.com", "a-.com", "a..com", ".a.com", "a.com\n", "a\0.com", "bücher.example", "a.1",
     "a." + "b" * 64, "a." * 130 + "com", ":" * 299 + "x"],
)  # fmt: skip
def test_a_spelling_that_is_no_plain_host_name_is_refused(host: str) -> None:
    data = run_manifest(vm={"network_mode": "outbound", "allowed_hosts": [host]})
    error = only_error(data)
    assert error.field == "vm.allowed_hosts[0]"
    assert error.validation in {"host", "nul_character"}
    assert len(error.message) < 300


def test_a_url_among_the_hosts_is_answered_with_its_host() -> None:
    data = run_manifest(vm={"network_mode": "outbound", "allowed_hosts": ["https://API.github.com/repos"]})
    assert only_error(data).suggestion == "api.github.com"


def test_hosts_with_full_are_refused_as_without_effect() -> None:
    vm = {"network_mode": "full", "allowed_hosts": ["a.com"]}
    assert "opens every host" in only_error(run_manifest(vm=vm)).message


def test_exactly_one_of_claude_and_run_is_wanted() -> None:
    both = only_error(run_manifest(repository=REPOSITORY, claude={"prompt": "x"}))
    assert both.validation == "exactly_one"
    assert "both claude and run" in both.message
    neither = run_manifest()
    del neither["run"]
    assert "neither claude nor run" in only_error(neither).message


def test_claude_without_a_repository_is_refused() -> None:
    data = claude_manifest()
    del data["repository"]
    error = only_error(data)
    assert (error.field, error.validation) == ("repository", "required")
    assert "claude needs it" in error.message


def test_exactly_one_of_command_and_script_is_wanted() -> None:
    assert "both command and script" in only_error(run_manifest(run={"command": ["a"], "script": "b"})).message
    assert "neither command nor script" in only_error(run_manifest(run={"env": {}})).message


def test_every_missing_field_is_named_once_with_an_example() -> None:
    errors = errors_of({"run": {"command": ["x"]}})
    assert [(error.field, error.validation) for error in errors] == [
        ("version", "required"),
        ("kind", "required"),
        ("metadata", "required"),
    ]
    assert 'add it, for example version: "1"' in errors[0].message


@pytest.mark.parametrize(
    ("path", "value", "suggestion"),
    [
        ("vm.memroy", "8G", "memory"),
        ("vm.Cpus", 1, "cpus"),
        ("repositry", {}, "repository"),
        ("vm.network_mode", "outbond", "outbound"),
        ("vm.profile", "agentic_dev", "agentic-dev"),
        ("kind", "task", "Task"),
        ("version", "1.0", "1"),
        ("vm.zzz", 1, None),
    ],
)
def test_a_misspelt_word_is_answered_with_the_one_that_was_meant(path: str, value: Any, suggestion: str | None) -> None:
    error = only_error(with_(path, value))
    assert error.suggestion == suggestion
    assert ("suggestion" in error.to_dict()) is (suggestion is not None)


def test_secrets_that_set_the_same_variable_are_refused() -> None:
    twice = [{"name": "A", "source": "env", "key": "A"}, {"name": "A", "source": "file", "key": "a"}]
    error = only_error(run_manifest(secrets=twice))
    assert (error.field, error.validation) == ("secrets[1].name", "duplicate_name")
    beside = run_manifest(run={"command": ["x"], "env": {"A": "1"}}, secrets=twice[:1])
    assert "run.env" in only_error(beside).message


TOKEN = {"name": "TOKEN", "source": "env", "key": "TOKEN"}


def with_credential(url: str, **sections: Any) -> dict[str, Any]:
    return run_manifest(repository={"url": url, "credential": "TOKEN"}, secrets=[TOKEN], **sections)


@pytest.mark.parametrize("url", ["https://h/a", "https://u@h/a", "ssh://git@h/a", "git@h:a/b"])
def test_a_credential_goes_with_a_repository_over_https_or_ssh(url: str) -> None:
    repository = manifest.check(with_credential(url), policy=POLICY).repository
    assert repository is not None
    assert repository.credential == "TOKEN"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h/a", "everybody on the way could read it"),
        ("https://u:p@h/a", "holds a password already"),
        ("ssh://u:p@h/a", "holds a password already"),
        ("file:///srv/a", "needs none"),
    ],
)
def test_a_credential_that_cannot_go_with_the_url_is_refused_where_it_stands(url: str, words: str) -> None:
    policy = ManifestPolicy(frozenset({"agentic-dev", "basic"}), None, True)
    error = only_error(with_credential(url), policy)
    assert (error.pointer, error.validation) == ("/repository/credential", "credential")
    assert words in error.message


def test_a_misspelt_credential_is_answered_with_the_name_of_the_secret() -> None:
    error = only_error(run_manifest(repository={"url": "https://h/a", "credential": "TOKE"}, secrets=[TOKEN]))
    assert (error.pointer, error.suggestion) == ("/repository/credential", "TOKEN")


def test_the_repository_s_credential_cannot_be_handed_to_a_server_of_the_agent() -> None:
    servers = {"mcpServers": {"s": {"url": "x", "headers": {"A": "${TOKEN}"}}}}
    data = with_credential("https://h/a", claude={"prompt": "x", "mcp_config": servers})
    del data["run"]
    error = only_error(data)
    assert error.validation == "unknown_secret"
    assert "it is not handed to the command" in error.message


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_X", "CLAUDE_CODE_MAX_TURNS", "CLAUDE_CONFIG_DIR"])
def test_what_leads_an_agent_to_the_model_is_no_name_for_a_secret_of_its_task(name: str) -> None:
    secrets = [{"name": "A", "source": "env", "key": "A"}, {"name": name, "source": "env", "key": "A"}]
    error = only_error(claude_manifest(secrets=secrets))
    assert (error.field, error.validation) == ("secrets[1].name", "reserved_name")
    assert "without giving it the key" in error.message
    assert manifest.check(run_manifest(secrets=secrets), policy=POLICY).secrets[1].name == name


def test_the_limits_of_a_wait_for_input_want_an_agent_that_waits() -> None:
    limits = "lifecycle:\n  pause_clock_on_input: true\n  input_timeout: 1h\n"
    errors = errors_of_text((EXAMPLES / "minimal.yaml").read_text() + limits)
    assert [(error.field, error.validation, error.line, error.column) for error in errors] == [
        ("lifecycle.pause_clock_on_input", "input_mode", 11, 25),
        ("lifecycle.input_timeout", "input_mode", 12, 18),
    ]
    waits = {"interactive": True}
    assert only_error(claude_manifest(claude=waits, lifecycle={"input_timeout": "169h"})).validation == "range"
    without = {"input_timeout": None, "pause_clock_on_input": False}
    assert manifest.check(claude_manifest(lifecycle=without), policy=POLICY)


def test_an_agent_without_headless_is_answered_with_what_takes_its_place() -> None:
    assert "set claude.interactive: true" in only_error(with_("claude.headless", False)).message


def test_a_misspelt_reference_is_answered_with_the_name_of_the_secret() -> None:
    servers = {"s": {"command": "x", "env": {"A": "${GITHUB_TOKN}", "B": "${GITHUB_TOKEN}$HOME"}, "args": ["${X}"]}}
    data = claude_manifest(
        claude={"mcp_config": {"mcpServers": servers}},
        secrets=[{"name": "GITHUB_TOKEN", "source": "env", "key": "GITHUB_TOKEN"}],
    )
    error = only_error(data)
    assert error.field == "claude.mcp_config.mcpServers.s.env.A"
    assert error.suggestion == "${GITHUB_TOKEN}"


def test_file_repositories_follow_the_operators_setting(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-not"
    (allowed / "repo").mkdir(parents=True)
    other.mkdir()
    (allowed / "link").symlink_to(other)
    policy = ManifestPolicy(frozenset({"agentic-dev"}), file_repositories=(str(allowed),))

    def fault(path: Path | str, policy: ManifestPolicy = policy) -> str | None:
        try:
            manifest.check(run_manifest(repository={"url": f"file://{path}"}), policy=policy)
        except InvalidManifest as refused:
            return refused.errors[0].message
        return None

    assert fault(allowed / "repo") is None
    for outside in (other, allowed / "link", f"{allowed}/../allowed-not", "/etc"):
        assert "SANDBOX_FILE_REPOSITORIES" in (fault(outside) or "")
    for broken in ("host/path", f"{allowed}/%2e%2e/x", ""):
        assert "file://" in (fault(broken) or "")
    assert fault("/etc", ManifestPolicy(frozenset({"agentic-dev"}), file_repositories=True)) is None
    assert "nowhere" in (fault(allowed / "repo", ManifestPolicy(frozenset({"agentic-dev"}))) or "")


def test_a_server_without_the_default_profile_wants_one_named() -> None:
    policy = ManifestPolicy(frozenset({"basic"}))
    assert only_error(run_manifest(), policy).field == "vm.profile"
    assert manifest.check(run_manifest(vm={"profile": "basic"}), policy=policy)


def test_an_image_is_judged_by_the_rules_of_its_profile() -> None:
    rules = {"basic": ImageRules(("r.example/*",)), "agentic-dev": ImageRules(("r.example/*",), require_digest=True)}
    policy = ManifestPolicy(frozenset(rules), images=rules)

    def with_image(image: str, profile: str) -> dict[str, Any]:
        return run_manifest(run={"command": ["x"], "image": image}, vm={"profile": profile})

    for data in (
        with_image("r.example/tool:1", "basic"),
        with_image(f"r.example/tool:1@sha256:{'a' * 64}", "agentic-dev"),
    ):
        assert manifest.check(data, policy=policy)
    for image, validation in (("r.example/tool:1", "image_digest"), ("other.example/tool:1", "image_not_allowed")):
        error = only_error(with_image(image, "agentic-dev"), policy)
        assert (error.field, error.validation) == ("run.image", validation)


def test_an_offline_check_judges_nothing_that_only_the_operator_knows() -> None:
    data = run_manifest(
        run={"command": ["x"], "image": "any/image"}, vm={"profile": "any"}, repository={"url": "file:///x"}
    )
    assert manifest.check(data, policy=ManifestPolicy.offline()).vm.profile == "any"


@pytest.mark.parametrize("body", ["[]", "1", '"text"', "true"])
def test_a_document_that_is_no_map_is_refused(body: str) -> None:
    for content_type in ("application/json", "application/yaml"):
        (error,) = errors_of_text(body, content_type)
        assert (error.field, error.pointer, error.validation, error.line) == ("", "", "type", 1)


# How it is told


BROKEN = """\
version: "1"
kind: Task
metadata:
  labels: {"a/~b c": x}
repository:
  url: https://me:hunter2@h.tld
  brnch: x
run:
  command: [x]
  env:
    TOKEN: {a: 1}
    PATH: x
vm: {cpus: 0, memory: 8}
secrets:
  - {name: A, source: env, key: A}
  - name: 7x
    source: env
"""


def test_every_error_comes_at_once_with_line_column_and_pointer_in_the_order_of_the_text() -> None:
    found = [(e.line, e.column, e.field, e.pointer, e.validation) for e in errors_of_text(BROKEN)]
    assert found == [
        (3, 1, "metadata.name", "/metadata/name", "required"),
        (4, 12, 'metadata.labels["a/~b c"]', "/metadata/labels/a~1~0b c", "key_form"),
        (6, 8, "repository.url", "/repository/url", "repository_url"),
        (7, 3, "repository.brnch", "/repository/brnch", "unknown_field"),
        (11, 12, "run.env.TOKEN", "/run/env/TOKEN", "type"),
        (12, 11, "run.env.PATH", "/run/env/PATH", "reserved_name"),
        (13, 12, "vm.cpus", "/vm/cpus", "range"),
        (13, 23, "vm.memory", "/vm/memory", "pattern"),
        (16, 5, "secrets[1].key", "/secrets/1/key", "required"),
        (16, 11, "secrets[1].name", "/secrets/1/name", "pattern"),
    ]


def test_errors_in_json_have_places_too() -> None:
    (error,) = errors_of_text(json.dumps(run_manifest(vm={"cpus": "x"}), indent=1), "application/json")
    assert (error.field, error.line, error.column) == ("vm.cpus", 13, 11)


def test_a_refused_text_is_an_invalid_manifest_with_its_place() -> None:
    (error,) = errors_of_text("vm:\n  cpus: 1\n  cpus: 64\n")
    assert error.to_dict() == {
        "field": "vm.cpus",
        "pointer": "/vm/cpus",
        "line": 3,
        "column": 3,
        "validation": "duplicate_key",
        "message": "the key 'cpus' stands twice, in line 2 and in line 3: readers disagree which of the two counts; "
        "remove one",
    }


def test_the_exception_says_the_first_error_and_how_many_more() -> None:
    with pytest.raises(InvalidManifest, match=r"the manifest is not valid: version is missing.*\(and 2 more\)"):
        manifest.check({"run": {"command": ["x"]}}, policy=POLICY)


def test_messages_show_no_password_of_a_url_and_no_value_of_a_variable() -> None:
    url = only_error(with_("repository.url", "https://me:hunter2@p@h.tld")).message
    variable = only_error(with_("run.env", {"TOKEN": 4711471147})).message
    assert "hunter2" not in url
    assert "4711" not in variable


def test_a_document_with_thousands_of_errors_names_a_hundred() -> None:
    vm = {f"unknown{n}": n for n in range(9000)}
    assert len(errors_of(run_manifest(vm=vm))) == 100
    assert (
        only_error(run_manifest(metadata={"name": "n", "labels": {f"k{n}": "v" for n in range(9000)}})).validation
        == "length"
    )


@pytest.mark.parametrize(("body", "content_type", "refusal"), [
    (b"x" * ((2 << 20) + 1), "application/yaml", manifest.DocumentTooLarge),
    (b"{}", "text/plain", manifest.UnsupportedContentType),
])  # fmt: skip
def test_size_and_content_type_are_refusals_of_their_own(
    body: bytes, content_type: str, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        manifest.parse(body, content_type, policy=POLICY)


# The published schema


def fields_of(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, field in schema.get("properties", {}).items():
        found += [(f"{path}.{name}", field), *fields_of(field, f"{path}.{name}")]
    for part in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(part, dict):
            found += fields_of(part, f"{path}[]")
    return found


FIELDS = fields_of(schemas.load(schemas.TASK))


def test_every_field_of_the_schema_has_title_and_description_and_its_examples_are_valid() -> None:
    Draft202012Validator.check_schema(schemas.load(schemas.TASK))
    for path, field in FIELDS:
        assert field["title"], path
        assert field["description"], path
        for example in [*field.get("examples", []), *([field["default"]] if "default" in field else [])]:
            Draft202012Validator(field).validate(example)


def test_no_object_of_the_schema_takes_unknown_fields_but_the_open_ones() -> None:
    open_ones = {
        path for path, field in FIELDS if "properties" in field and field.get("additionalProperties") is not False
    }
    assert open_ones == {".claude.mcp_config"}


def test_durations_and_sizes_of_the_schema_are_those_the_product_parses() -> None:
    patterns = {path: field["pattern"] for path, field in FIELDS if "pattern" in field}
    durations = {path for path, pattern in patterns.items() if pattern == DURATION_PATTERN}
    assert {path.rpartition(".")[2] for path in durations} == {
        "timeout", "stage_timeout", "provision_timeout", "collect_timeout", "queue_timeout", "idle_timeout",
        "input_timeout", "stop_grace", "preserve_for", "backoff",
    }  # fmt: skip
    assert {path for path, pattern in patterns.items() if pattern == SIZE_PATTERN} == {
        ".vm.memory",
        ".vm.disk",
    }


def test_the_reasons_to_retry_are_those_an_attempt_can_end_with() -> None:
    retry = dict(FIELDS)[".lifecycle.retry.on"]
    assert set(retry["items"]["enum"]) == {str(reason) for reason in Reason} - {"exit_zero", "cancelled"}
    assert retry["default"] == [str(reason) for reason in RETRIED_BY_DEFAULT]


def test_what_the_published_schema_accepts_alone_includes_the_examples() -> None:
    validator = Draft202012Validator(schemas.load(schemas.TASK))
    for name in ("minimal", "bug-fix", "security-audit", "large-vm"):
        made = manifest.parse((EXAMPLES / f"{name}.yaml").read_bytes(), "text/yaml", policy=POLICY)
        validator.validate(made.definition)


# Anything at all

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
WORDS = st.sampled_from(["1", "Task", "${A}", "10s", "8G", "outbound", "a.b", "file:///x", "-x", "stream"])
KEYS = st.text(max_size=4) | st.sampled_from(["name", "url", "env"])
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from([path[1:].replace("[]", "") for path, _ in FIELDS])


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_arbitrary_data_raises_nothing_but_the_declared_error(data: Any) -> None:
    with pytest.raises(InvalidManifest):
        manifest.check(data, policy=POLICY)


@settings(max_examples=300, deadline=None)
@given(PATHS, VALUES)
def test_arbitrary_values_in_any_field_give_a_manifest_or_the_declared_error(path: str, value: Any) -> None:
    data = claude_manifest() if path.startswith("claude") else run_manifest(repository=dict(REPOSITORY))
    place: Any = data
    *way, last = path.split(".")
    for step in way:
        place = place.setdefault(step, {})
    if not isinstance(place, dict):
        return
    place[last] = value
    with contextlib.suppress(InvalidManifest):
        made = manifest.check(data, policy=POLICY)
        assert manifest.check(made.definition, policy=POLICY) == made
        assert made.vm.memory_bytes > 0
        assert made.lifecycle.timeout_seconds > 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["application/yaml", "application/json"]))
def test_arbitrary_bytes_raise_nothing_but_the_declared_error(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidManifest):
        manifest.parse(body, content_type, policy=POLICY)
