"""What a schema cannot say about a manifest: one small function a rule, all run on every manifest.

A rule meets data that may have broken the schema, so it looks only at values of the type it expects;
the wrong type is reported elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import schemas
from orchestrator.documents.parts import Path
from orchestrator.manifest import git_names, hosts
from orchestrator.manifest.agent import AGENT_RULES
from orchestrator.manifest.environment import ENVIRONMENT_RULES
from orchestrator.manifest.errors import Finding, closest, field_name, shown
from orchestrator.manifest.notify import NOTIFY_RULES
from orchestrator.manifest.policy import ManifestPolicy
from orchestrator.manifest.values import entries, mapping, text, value
from orchestrator.quantities import duration_seconds, size_bytes

Rule = Callable[[dict[str, Any], ManifestPolicy], Iterator[Finding]]

MAX_ARGUMENT_BYTES = 128 << 10
"""Linux takes no single argument of this size or more (MAX_ARG_STRLEN)."""
MAX_TIMEOUT_SECONDS = 168 * 3600
MIN_MEMORY_BYTES = 6 << 20
"""The engine refuses a smaller limit."""
MAX_SIZE_BYTES = 1 << 50

_SHORTEST_SECONDS = {
    ("lifecycle", "timeout"): 1,
    ("lifecycle", "stage_timeout"): 1,
    ("lifecycle", "provision_timeout"): 1,
    ("lifecycle", "collect_timeout"): 1,
    ("lifecycle", "queue_timeout"): 1,
    ("lifecycle", "idle_timeout"): 1,
    ("lifecycle", "input_timeout"): 1,
    ("lifecycle", "stop_grace"): 1,
    ("lifecycle", "preserve_for"): 1,
    ("lifecycle", "retry", "backoff"): 0,
}


def findings(data: dict[str, Any], policy: ManifestPolicy) -> Iterator[Finding]:
    """Yield what in `data` breaks a rule."""
    for rule in RULES:
        yield from rule(data, policy)


def id_is_not_reserved(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    path = ("metadata", "id")
    if text(data, *path) == "stream":
        message = 'metadata.id is "stream": that address is the event stream\'s; choose another id'
        yield Finding(path, "reserved_id", message)


def repository_url_is_safe(data: dict[str, Any], policy: ManifestPolicy) -> Iterator[Finding]:
    path = ("repository", "url")
    url = text(data, *path)
    if not url:
        return
    what = f"repository.url is {shown(url)}"
    if (fault := git_names.repository_url_fault(url)) is not None:
        yield Finding(path, "repository_url", f"{what}: {fault}; use {git_names.TRANSPORTS}")
        return
    local = git_names.file_url_path(url)
    if local is not None and not policy.file_repository_allowed(local):
        named = policy.file_repositories
        where = f"below {', '.join(named)}" if isinstance(named, tuple) and named else "nowhere"
        yield Finding(
            path,
            "file_repository",
            f"{what}: the operator allows file:// {where} (setting SANDBOX_FILE_REPOSITORIES); "
            "use https://, or ask the operator to name the directory there",
        )


def branch_is_a_ref_name(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    path = ("repository", "branch")
    branch = text(data, *path)
    if branch and (fault := git_names.ref_name_fault(branch)) is not None:
        yield Finding(path, "ref_name", f"repository.branch is {shown(branch)}: {fault}; write a branch or tag name")


def paths_stay_inside(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    paths: list[tuple[Path, str, str]] = [
        ((*at, index), pattern, "the workspace's root")
        for at in [("lifecycle", "artifact_patterns")]
        for index, pattern in entries(data, *at)
        if isinstance(pattern, str)
    ]
    if subpath := text(data, "repository", "subpath"):
        paths.append((("repository", "subpath"), subpath, "the repository"))
    for index, secret in entries(data, "secrets"):
        key = text(secret, "key")
        if key and text(secret, "source") == "file":
            paths.append((("secrets", index, "key"), key, "the operator's directory of secrets"))
    for path, relative, root in paths:
        if relative.startswith("/"):
            why = "it is absolute"
        elif "/../" in f"/{relative}/":
            why = "'..' leads out of it"
        else:
            continue
        message = f"{field_name(path)} is {shown(relative)}: {why}; write a path relative to {root}, without '..'"
        yield Finding(path, "outside", message)


def durations_are_within_bounds(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for path, shortest in _SHORTEST_SECONDS.items():
        written = text(data, *path)
        if written is None:
            continue
        try:
            seconds = duration_seconds(written)
        except ValueError:
            continue  # the schema's pattern reports it
        if not shortest <= seconds <= MAX_TIMEOUT_SECONDS:
            message = f"{field_name(path)} is {shown(written)}: it must be from {shortest}s to 168h; change it"
            yield Finding(path, "range", message)


def sizes_are_within_bounds(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for path, smallest, words in (
        (("vm", "memory"), MIN_MEMORY_BYTES, "6M"),
        (("vm", "disk"), 1 << 20, "1M"),
    ):
        written = text(data, *path)
        if written is None:
            continue
        try:
            size = size_bytes(written)
        except ValueError:
            continue  # the schema's pattern reports it
        if not smallest <= size <= MAX_SIZE_BYTES:
            message = f"{field_name(path)} is {shown(written)}: it must be from {words} to 1048576G; change it"
            yield Finding(path, "range", message)


def arguments_can_be_passed(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for index, argument in entries(data, "run", "command"):
        path: Path = ("run", "command", index)
        if not isinstance(argument, str):
            continue
        size = len(argument.encode())
        if size >= MAX_ARGUMENT_BYTES:
            message = (
                f"{field_name(path)} has {size:,} bytes: Linux passes only arguments shorter than "
                f"{MAX_ARGUMENT_BYTES:,}; use run.script, or put the text into a file"
            )
            yield Finding(path, "length", message)
        elif index == 0 and not argument:
            message = 'run.command[0] is "": it names the program to run; write for example ["make", "test"]'
            yield Finding(path, "length", message)


def image_is_allowed(data: dict[str, Any], policy: ManifestPolicy) -> Iterator[Finding]:
    image, profile = text(data, "run", "image"), _profile(data)
    if not image or not isinstance(profile, str):
        return
    rules, path = policy.image_rules(profile), ("run", "image")
    if not rules.allows(image):
        allowed = ", ".join((rules.allowed or ())[:20]) or "none"
        message = (
            f"run.image is {shown(image)}: it matches no entry of the operator's list of images ({allowed}) for "
            f"profile {shown(profile)}; use one of these, or leave run.image out for the profile's image"
        )
        yield Finding(path, "image_not_allowed", message)
    elif rules.lacks_digest(image):
        message = (
            f"run.image is {shown(image)}: profile {shown(profile)} takes only images named by digest; write "
            "NAME@sha256:… (64 hexadecimal digits), or leave run.image out for the profile's image"
        )
        yield Finding(path, "image_digest", message)


def profile_is_known(data: dict[str, Any], policy: ManifestPolicy) -> Iterator[Finding]:
    profile = _profile(data)
    if not isinstance(profile, str) or policy.profiles is None or profile in policy.profiles:
        return
    known = sorted(policy.profiles)
    suggestion = closest(profile, known)
    message = (
        f"vm.profile is {shown(profile)}: the operator has defined {', '.join(known) or 'none'}; "
        f"write {suggestion or 'one of these'}"
    )
    yield Finding(("vm", "profile"), "unknown_profile", message, suggestion)


def _profile(data: dict[str, Any]) -> Any:
    """The profile that is asked for. An operator may have none of the default's name; a manifest must name one then."""
    default = schemas.load(schemas.TASK)["properties"]["vm"]["properties"]["profile"]["default"]
    return mapping(data, "vm").get("profile", default)


def hosts_need_outbound(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    mode = value(data, "vm", "network_mode") or "isolated"
    if mode in ("isolated", "full") and value(data, "vm", "allowed_hosts"):
        why = "opens no host" if mode == "isolated" else "opens every host"
        message = (
            f"vm.allowed_hosts is given, but network_mode {mode} {why}: the list would be without effect; "
            "set network_mode: outbound or remove the list"
        )
        yield Finding(("vm", "allowed_hosts"), "allowed_hosts_mode", message)


def hosts_are_names(data: dict[str, Any], _policy: ManifestPolicy) -> Iterator[Finding]:
    for index, host in entries(data, "vm", "allowed_hosts"):
        if not isinstance(host, str) or not host:
            continue
        path: Path = ("vm", "allowed_hosts", index)
        try:
            hosts.parse_host_rule(host)
        except ValueError as error:
            yield Finding(path, "host", f"{field_name(path)} {error}", hosts.host_of_url(host))


RULES: tuple[Rule, ...] = (
    id_is_not_reserved,
    repository_url_is_safe,
    branch_is_a_ref_name,
    paths_stay_inside,
    durations_are_within_bounds,
    sizes_are_within_bounds,
    arguments_can_be_passed,
    image_is_allowed,
    profile_is_known,
    hosts_need_outbound,
    hosts_are_names,
    *AGENT_RULES,
    *ENVIRONMENT_RULES,
    *NOTIFY_RULES,
)
