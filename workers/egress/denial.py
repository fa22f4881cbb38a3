"""The one exception of the egress filter: a connection that the policy does not allow."""

from __future__ import annotations

from orchestrator.contacts import EgressRule


class Denied(Exception):
    """A connection that is not passed on: by which rule, why, and what to do about it."""

    def __init__(self, rule: EgressRule, why: str, advice: str) -> None:
        super().__init__(f"{why}; {advice}")
        self.rule = rule
        self.advice = advice
