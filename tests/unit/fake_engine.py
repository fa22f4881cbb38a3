"""An engine with one sandbox, for those who look at what it uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.sandbox.port import EngineUnavailable, Inspection, SandboxGone, SandboxUse


@dataclass
class FakeEngine:
    """Of `SandboxBackend`, what a gauge asks. `process_id` None: the sandbox has ended."""

    process_id: int | None
    use: SandboxUse | None = None
    away: bool = False
    gone: bool = False
    calls: list[str] = field(default_factory=list)

    def inspect(self, sandbox: str) -> Inspection:
        self._called("inspect", sandbox)
        running = self.process_id is not None
        return Inspection(running, True, None if running else 0, False, self.process_id)

    def used(self, sandbox: str) -> SandboxUse | None:
        self._called("used", sandbox)
        return self.use

    def _called(self, verb: str, sandbox: str) -> None:
        assert len(sandbox) == 64
        if self.away:
            raise EngineUnavailable("the engine does not answer")
        if self.gone:
            raise SandboxGone(f"the engine knows no sandbox {sandbox}")
        self.calls.append(verb)
