"""The online store and the catalog get only data whose blocking checks hold for that exact data."""

from collections.abc import Iterator

import pytest
from dagster import DagsterEventType
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from tests.integration.publishing.driver import Driver, Fault
from tests.integration.publishing.machine import PlatformMachine
from tests.integration.publishing.profile import SETTINGS
from tests.integration.publishing.scenario import (
    BAD_FEATURES,
    BAD_RAW,
    BAD_STAGED,
    FEATURES,
    GOOD,
    LATE,
    ONLINE,
    RAW,
    STAGED,
    Scenario,
)

DAY = st.sampled_from(["2024-01-08", "2024-01-09"])
WINDOW = st.sampled_from(
    [("2024-01-08", "2024-01-08"), ("2024-01-09", "2024-01-09"), ("2024-01-08", "2024-01-09")]
)
STEPS = {
    "land_readings": DagsterEventType.STEP_START,
    "check_raw_readings": DagsterEventType.ASSET_CHECK_EVALUATION,
    "dbt_staged": DagsterEventType.ASSET_MATERIALIZATION,
    "check_staged_stg_readings": DagsterEventType.STEP_START,
    "dbt_features": DagsterEventType.ASSET_MATERIALIZATION,
    "check_features_pump_pressure": DagsterEventType.ASSET_CHECK_EVALUATION,
    "online_store__pump_pressure": DagsterEventType.ASSET_MATERIALIZATION,
}
"""Steps in which a run is killed, each with the event."""
QUALITY = st.sampled_from([GOOD, LATE, BAD_RAW, BAD_STAGED, BAD_FEATURES, BAD_FEATURES])
CHECKS = ["check_raw_readings", "check_staged_stg_readings", "check_features_pump_pressure"]
KILLS = st.builds(
    lambda what, step: Fault(what, STEPS[step], step),
    st.sampled_from(["kill_before", "kill_after"]),
    st.sampled_from(sorted(STEPS)),
)
RAISES = st.builds(lambda step: Fault("raise", DagsterEventType.STEP_START, step), st.sampled_from(CHECKS))
FAULT = st.one_of(st.none(), st.none(), KILLS, RAISES)
PARTS = {
    "raw": RAW,
    "staged": STAGED,
    "features": FEATURES,
    "online": ONLINE,
    "features to online": [*FEATURES, *ONLINE],
    "staged to online": [*STAGED, *FEATURES, *ONLINE],
}


@pytest.fixture
def scenario(publishing_driver: Driver) -> Iterator[Scenario]:
    """The platform as the template has it."""
    found = Scenario(publishing_driver)
    yield found
    found.close()


class Publishing(PlatformMachine):
    """Everything that may happen between a delivery and the online store."""

    @initialize()
    def begin(self) -> None:
        self.scenario = Scenario(self.driver)

    @rule(day=DAY, quality=QUALITY)
    def deliver(self, day: str, quality: str) -> None:
        self.scenario.deliver(day, quality)

    @rule(day=DAY, quality=QUALITY, fault=FAULT)
    def deliver_and_run(self, day: str, quality: str, fault: Fault | None) -> None:
        self.scenario.deliver(day, quality)
        self.scenario.run_graph(day, day, fault=fault)

    @rule(days=WINDOW, fault=FAULT)
    def run_graph(self, days: tuple[str, str], fault: Fault | None) -> None:
        self.scenario.run_graph(*days, fault=fault)

    @rule(days=WINDOW, part=st.sampled_from(sorted(PARTS)), checks=st.booleans(), fault=FAULT)
    def launch(self, days: tuple[str, str], part: str, checks: bool, fault: Fault | None) -> None:
        self.driver.run(PARTS[part], days, checks=checks, fault=fault)

    @rule(days=WINDOW)
    def override(self, days: tuple[str, str]) -> None:
        config = {"ops": {"dbt_features": {"config": {"ignore_failed_checks": True}}}}
        self.driver.run([*FEATURES, *ONLINE], days, config=config)

    @rule(days=WINDOW, part=st.sampled_from(["raw", "staged", "features"]))
    def check(self, days: tuple[str, str], part: str) -> None:
        self.driver.run_checks(PARTS[part], days)

    @rule()
    def backfill(self) -> None:
        self.driver.run([*STAGED, *FEATURES], ("2024-01-06", "2024-01-09"))

    @rule(days=WINDOW, inner=WINDOW)
    def build_while_publishing(self, days: tuple[str, str], inner: tuple[str, str]) -> None:
        def build() -> None:
            self.driver.run([*RAW, *STAGED, *FEATURES], inner)

        fault = Fault("run", DagsterEventType.STEP_START, "online_store__pump_pressure", build)
        self.scenario.run_graph(*days, fault=fault)

    @rule(hours=st.sampled_from([0, 8, 30]), fault=FAULT)
    def due_tick(self, hours: int, fault: Fault | None) -> None:
        self.scenario.move_clock(hours)
        self.driver.sensor_tick("online_rows_due", fault)

    @rule(fault=FAULT)
    def automation_tick(self, fault: Fault | None) -> None:
        self.driver.automation_tick(fault, [*STAGED, *FEATURES, *ONLINE])

    @rule(fault=FAULT)
    def schedule_tick(self, fault: Fault | None) -> None:
        self.driver.schedule_tick(fault)


def test_only_data_whose_checks_hold_is_served_whatever_happens(publishing_driver: Driver) -> None:
    class Machine(Publishing):
        driver = publishing_driver

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_rows_that_come_due_are_not_served_when_their_check_failed(scenario: Scenario) -> None:
    scenario.move_clock(12)
    scenario.deliver("2024-01-09", GOOD)
    assert scenario.run_graph("2024-01-09", "2024-01-09")
    scenario.deliver("2024-01-09", BAD_FEATURES)
    scenario.run_graph("2024-01-09", "2024-01-09")
    assert scenario.ledger.faults("features/pump_pressure")
    scenario.move_clock(10)
    scenario.driver.sensor_tick("online_rows_due")
    scenario.judge()
    scenario.repair(["2024-01-09"])


@pytest.mark.parametrize("what", ["kill_before", "kill_after"])
def test_rows_of_a_killed_run_without_checks_are_not_served(scenario: Scenario, what: str) -> None:
    days = ("2024-01-08", "2024-01-09")
    scenario.move_clock(22)
    scenario.deliver("2024-01-09", BAD_FEATURES)
    assert scenario.driver.run([*RAW, *STAGED], days)
    fault = Fault(what, DagsterEventType.ASSET_MATERIALIZATION, "dbt_features")
    assert scenario.driver.run(FEATURES, days, checks=False, fault=fault) is None
    scenario.driver.mark_dead_runs()
    assert scenario.ledger.faults("features/pump_pressure")
    assert not scenario.driver.run(ONLINE, None)
    scenario.judge()
    # Checks of another day do not vouch for them.
    scenario.driver.run_checks(FEATURES, ("2024-01-08", "2024-01-08"))
    assert not scenario.driver.run(ONLINE, None)
    scenario.driver.sensor_tick("online_rows_due")
    scenario.judge()
    scenario.repair(["2024-01-08", "2024-01-09"])
