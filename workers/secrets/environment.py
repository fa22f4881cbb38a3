"""`source: env`: variables of the worker's environment that the operator set aside for tasks."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.settings import Settings, secret_variable
from workers.secrets.port import SecretRefused


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """See `Source`. Other variables, such as the password of the worker's store, have no key."""

    settings: Settings

    def read(self, key: str) -> bytes:
        value = secret_variable(self.settings, key)
        if value is not None:
            return value
        variable = self.settings.secrets_env_prefix + key
        if key in self.settings.secrets_env:
            raise SecretRefused(f"neither {variable} nor {key} is set there", f"the operator sets {key} for the worker")
        raise SecretRefused(
            f"{variable} is not set there, and SANDBOX_SECRETS_ENV does not list {key}",
            f"the operator sets {variable} for the worker, or lists {key} in SANDBOX_SECRETS_ENV",
        )
