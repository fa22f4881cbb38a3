"""What this host refuses, whatever the API let pass: its own settings and its own engine count, too."""

from __future__ import annotations

from orchestrator.outcomes import Fault, Reason, failure
from workers.attempt import Attempt, StepFailed
from workers.offered import runtime_of, withheld


def check_profile(attempt: Attempt) -> None:
    """Refuse an image or a runtime that this worker does not give. Raises `StepFailed`, `EngineUnavailable`."""
    _check_image(attempt)
    profile, engine = attempt.profile, attempt.equipment.engine.facts()
    why = withheld(profile, engine)
    if why is not None:
        raise StepFailed(failure(Reason.SANDBOX_ERROR, f"profile {profile.name} is not offered here: {why}"))
    name, runtime = runtime_of(profile, engine)
    wanted = None if runtime.loopback else _what_needs_loopback(attempt)
    if wanted is not None:
        message = (
            f"{wanted} needs a way out through the sandbox's loopback, and the runtime {name} of profile "
            f"{profile.name} does not lead there: it has a network stack of its own"
        )
        hint = f"add --network=host to the runtimeArgs of {name} in the engine's daemon.json, or use another profile"
        raise StepFailed(failure(Reason.SANDBOX_ERROR, message, hint=hint))


def _what_needs_loopback(attempt: Attempt) -> str | None:
    repository = attempt.manifest.repository
    if repository is not None and not repository.url.startswith("file://"):
        return "the clone of repository.url"
    return "network_mode outbound" if attempt.manifest.vm.network_mode == "outbound" else None


def _check_image(attempt: Attempt) -> None:
    image, profile = attempt.agent.image(attempt.manifest), attempt.profile
    if image is None:
        return
    rules = profile.image_rules
    if not rules.allows(image):
        why = "this worker's list of images for that profile does not hold it"
    elif rules.lacks_digest(image):
        why = "that profile takes only images named by digest on this worker (NAME@sha256:…)"
    else:
        return
    message = f"image {image} may not be used with profile {profile.name}: {why}"
    hint = "use an image that is allowed, or have the operator give API and workers the same SANDBOX_PROFILES"
    raise StepFailed(failure(Reason.IMAGE_UNAVAILABLE, message, hint=hint, fault=Fault.USER))
