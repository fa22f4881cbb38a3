"""What the system call profile of sandboxes permits, read from the file itself."""

import json
from importlib import resources
from typing import Any

import pytest

PROFILE: dict[str, Any] = json.loads((resources.files("workers.sandbox.docker") / "seccomp.json").read_text())
RULES: list[dict[str, Any]] = PROFILE["syscalls"]


def rules_for(name: str) -> list[dict[str, Any]]:
    return [rule for rule in RULES if name in rule["names"]]


def test_everything_that_is_not_listed_is_refused() -> None:
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {rule["action"] for rule in RULES} == {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}


def test_both_supported_architectures_are_mapped() -> None:
    assert [entry["architecture"] for entry in PROFILE["archMap"]] == [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_AARCH64",
    ]


def test_no_rule_depends_on_a_capability() -> None:
    assert not [rule for rule in RULES if "caps" in rule.get("includes", {}) or "excludes" in rule]


@pytest.mark.parametrize(
    "name",
    [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "name_to_handle_at",
        "open_by_handle_at",
        "adjtimex",
        "clock_adjtime",
        "process_vm_readv",
        "process_vm_writev",
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "keyctl",
        "add_key",
        "request_key",
        "kexec_load",
        "init_module",
        "reboot",
        "swapon",
        "socketcall",
        "iopl",
        "ioperm",
    ],
)
def test_a_dangerous_call_is_in_no_rule(name: str) -> None:
    assert rules_for(name) == []


def test_only_address_families_below_af_alg_are_permitted() -> None:
    [rule] = rules_for("socket")
    assert rule["action"] == "SCMP_ACT_ALLOW"
    assert rule["args"] == [{"index": 0, "value": 38, "op": "SCMP_CMP_LT"}]


def test_clone_makes_no_namespaces_and_clone3_is_not_there() -> None:
    [clone] = rules_for("clone")
    [clone3] = rules_for("clone3")
    assert clone["args"] == [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
