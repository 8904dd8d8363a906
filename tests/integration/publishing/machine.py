"""Steps and invariants that the state machines of published data share."""

from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.integration.publishing.driver import Driver
from tests.integration.publishing.scenario import Scenario


class PlatformMachine(RuleBasedStateMachine):
    """Base of both machines: dead runs, the check after each step, and a repaired platform at the end."""

    driver: Driver
    scenario: Scenario

    @rule()
    def mark_dead_runs(self) -> None:
        self.driver.mark_dead_runs()

    @invariant()
    def what_is_published_holds(self) -> None:
        if hasattr(self, "scenario"):
            self.scenario.judge()

    def teardown(self) -> None:
        if hasattr(self, "scenario"):
            try:
                self.scenario.repair(["2024-01-08", "2024-01-09"])
            finally:
                self.scenario.close()
