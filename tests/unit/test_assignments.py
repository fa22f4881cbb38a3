"""`--set path=value` and what it makes of a manifest."""

from __future__ import annotations

from typing import Any

import click
import pytest

from api.commands.assignments import assign, merge_patch, parsed
from api.commands.manifest_file import ManifestFile
from orchestrator.manifest import ManifestPolicy, parse


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("vm.memory=2G", ("vm", "memory"), "2G"),
        ("vm.cpus=0.5", ("vm", "cpus"), 0.5),
        ("priority=-3", ("priority",), -3),
        ("run.env.FOO=", ("run", "env", "FOO"), ""),
        ("run.env.FOO=a=b", ("run", "env", "FOO"), "a=b"),
        ("run.command[0]=ls", ("run", "command", 0), "ls"),
        ("secrets[1].name=X", ("secrets", 1, "name"), "X"),
        ('metadata.labels["a.b/c"]=1', ("metadata", "labels", "a.b/c"), 1),
        ("metadata.labels.app/name=x", ("metadata", "labels", "app/name"), "x"),
        ("claude.headless=false", ("claude", "headless"), False),
        ("claude.model=no", ("claude", "model"), "no"),
        ("lifecycle.idle_timeout=null", ("lifecycle", "idle_timeout"), None),
        ('vm.allowed_hosts=["a.test", "b.test"]', ("vm", "allowed_hosts"), ["a.test", "b.test"]),
        ('metadata.name="1"', ("metadata", "name"), "1"),
        ('lifecycle.retry={"max_attempts": 3}', ("lifecycle", "retry"), {"max_attempts": 3}),
    ],
)
def test_an_assignment_has_a_path_and_a_yaml_value(text: str, path: tuple[str | int, ...], value: Any) -> None:
    found = parsed(text)
    assert (found.path, found.value) == (path, value)
    assert type(found.value) is type(value)


@pytest.mark.parametrize("text", ["", "=1", "vm", "vm.=1", ".vm=1", "vm..cpus=1", "[0]=1", "a[x]=1", "a[-1]=1", "a=[1"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|correct or quote"):
        parsed(text)


def test_maps_and_lists_that_are_missing_are_made() -> None:
    before = {"vm": {"cpus": 1}}
    after = assign(assign(before, parsed("vm.memory=2G")), parsed("secrets[0].name=X"))
    assert after == {"vm": {"cpus": 1, "memory": "2G"}, "secrets": [{"name": "X"}]}
    assert before == {"vm": {"cpus": 1}}


def test_a_list_grows_by_its_length_and_no_further() -> None:
    assert assign({"a": [1]}, parsed("a[1]=2")) == {"a": [1, 2]}
    with pytest.raises(click.UsageError, match="a list of 1"):
        assign({"a": [1]}, parsed("a[2]=2"))


@pytest.mark.parametrize("text", ["a.b=1", "a[0]=1", "a.b.c=1"])
def test_a_path_through_a_single_value_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="a single value"):
        assign({"a": "text"}, parsed(text))


def test_a_patch_holds_changed_lists_whole_and_nothing_else() -> None:
    definition = {"run": {"command": ["a", "b"], "env": {"X": "1"}}, "vm": {"cpus": 4}}
    changes = [
        parsed("run.command[1]=c"),
        parsed("run.command[2]=d"),
        parsed("vm.memory=1G"),
        parsed("vm.cpus=null"),
    ]
    assert merge_patch(definition, changes) == {
        "run": {"command": ["a", "c", "d"]},
        "vm": {"memory": "1G", "cpus": None},
    }


def test_a_number_that_goes_where_text_is_wanted_stays_as_it_was_spelled() -> None:
    changes = [parsed("metadata.labels.v=1.10"), parsed("run.env.N=5"), parsed("run.command[1]=false")]
    definition = {"metadata": {"labels": {}}, "run": {"command": ["echo", "x"]}, "vm": {"cpus": 4}}
    assert merge_patch(definition, [*changes, parsed("vm.cpus=1.50")]) == {
        "metadata": {"labels": {"v": "1.10"}},
        "run": {"env": {"N": "5"}, "command": ["echo", "false"]},
        "vm": {"cpus": 1.5},
    }


def test_a_changed_manifest_keeps_every_other_value_as_it_was_written() -> None:
    text = (
        'version: "1"\nkind: Task\nmetadata: {name: 010, labels: {v: 1.10, on: no}}\n'
        'run: {script: "\\U0001F600 ä", env: {D: 2026-01-29, E: 0x1F}}\nvm: {cpus: 1}\n'
    )
    changed = ManifestFile("f.yaml", text.encode(), "application/yaml").changed(
        [parsed("vm.cpus=2.50"), parsed("metadata.labels.w=1.20")]
    )
    assert changed.content_type == "application/json"
    made = parse(changed.body, changed.content_type, policy=ManifestPolicy.offline())
    assert made.definition["metadata"]["name"] == "010"
    assert made.labels == {"v": "1.10", "on": "no", "w": "1.20"}
    assert made.definition["run"] | {"image": None} == {
        "script": "\U0001f600 ä",
        "env": {"D": "2026-01-29", "E": "0x1F"},
        "image": None,
    }
    assert made.vm.cpus == 2.5
    assert changed.error_lines([{"field": "a", "line": 3, "column": 1, "message": "bad"}]) == ["f.yaml: a: bad"]
