"""No dataset version, champion or prediction comes from data whose blocking checks do not hold."""

from collections.abc import Iterator

import pytest
from dagster import DagsterEventType
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from tests.integration.publishing.driver import Driver, Fault
from tests.integration.publishing.machine import PlatformMachine
from tests.integration.publishing.models import LEARN, ModelScenario
from tests.integration.publishing.profile import SETTINGS
from tests.integration.publishing.scenario import (
    BAD_FEATURES,
    BAD_STAGED,
    BAD_TRAINING,
    DATASET,
    FEATURES,
    FORCED,
    GOOD,
    LATE,
    MODEL,
    PREDICTIONS,
    RAW,
    SKEW,
    STAGED,
    TRAINING,
)

DAY = st.sampled_from(["2024-01-08", "2024-01-09"])
STEPS = {
    "dbt_training": DagsterEventType.ASSET_MATERIALIZATION,
    "check_training_low_pressure_training_set": DagsterEventType.ASSET_CHECK_EVALUATION,
    "datasets__low_pressure_training_set": DagsterEventType.ASSET_MATERIALIZATION,
    "model__low_pressure_challenger": DagsterEventType.ASSET_MATERIALIZATION,
    "model__low_pressure_evaluation": DagsterEventType.ASSET_CHECK_EVALUATION,
    "model__low_pressure_champion": DagsterEventType.ASSET_MATERIALIZATION,
    "predictions__low_pressure": DagsterEventType.ASSET_MATERIALIZATION,
    "monitoring__low_pressure_skew": DagsterEventType.STEP_START,
}
CHECKS = ["check_training_low_pressure_spine", "check_training_low_pressure_training_set"]
KILLS = st.builds(
    lambda what, step: Fault(what, STEPS[step], step),
    st.sampled_from(["kill_before", "kill_after"]),
    st.sampled_from(sorted(STEPS)),
)
RAISES = st.builds(lambda step: Fault("raise", DagsterEventType.STEP_START, step), st.sampled_from(CHECKS))
FAULT = st.one_of(st.none(), KILLS, RAISES)
QUALITY = st.sampled_from([GOOD, LATE, BAD_STAGED, BAD_FEATURES, BAD_TRAINING, BAD_TRAINING])
PARTS = {
    "training": TRAINING,
    "dataset": DATASET,
    "training and dataset": [*TRAINING, *DATASET],
    "model": MODEL,
    "dataset and model": [*DATASET, *MODEL],
    "predictions": PREDICTIONS,
    "skew": SKEW,
    "model and skew": [*MODEL, *SKEW],
    "features": FEATURES,
}


def _config(assets: list[str]) -> dict[str, object]:
    return dict(FORCED) if MODEL[1] in assets else {}


class Learning(PlatformMachine):
    """Everything that may happen between a training set and the predictions."""

    scenario: ModelScenario

    @initialize()
    def begin(self) -> None:
        self.scenario = ModelScenario(self.driver)

    @rule(day=DAY, quality=QUALITY, fault=FAULT)
    def deliver_and_run(self, day: str, quality: str, fault: Fault | None) -> None:
        self.scenario.deliver(day, quality)
        self.scenario.run_all(day, day, fault=fault)

    @rule(day=DAY, quality=QUALITY)
    def deliver_and_build_features(self, day: str, quality: str) -> None:
        self.scenario.deliver(day, quality)
        self.driver.run([*RAW, *STAGED, *FEATURES], (day, day))

    @rule(day=DAY, fault=FAULT)
    def learn(self, day: str, fault: Fault | None) -> None:
        self.scenario.learn(day, day, fault=fault)

    @rule(day=DAY, part=st.sampled_from(sorted(PARTS)), checks=st.booleans(), fault=FAULT)
    def launch(self, day: str, part: str, checks: bool, fault: Fault | None) -> None:
        assets = PARTS[part]
        # A step that yields its own checks cannot run without them.
        own = not {*MODEL, *PREDICTIONS, *SKEW}.isdisjoint(assets)
        self.driver.run(assets, (day, day), checks=checks or own, fault=fault, config=_config(assets))

    @rule(day=DAY)
    def override(self, day: str) -> None:
        layer = {"dbt_training": {"config": {"ignore_failed_checks": True}}}
        self.driver.run(LEARN, (day, day), config={"ops": {**FORCED["ops"], **layer}})

    @rule(day=DAY)
    def check(self, day: str) -> None:
        self.driver.run_checks(TRAINING, (day, day))

    @rule(day=DAY, inner=DAY)
    def build_while_publishing(self, day: str, inner: str) -> None:
        def build() -> None:
            self.driver.run([*STAGED, *FEATURES, *TRAINING], (inner, inner))

        fault = Fault("run", DagsterEventType.STEP_START, "datasets__low_pressure_training_set", build)
        self.scenario.learn(day, day, fault=fault)

    @rule(hours=st.sampled_from([0, 24]))
    def wait(self, hours: int) -> None:
        self.scenario.move_clock(hours)

    @rule(fault=FAULT)
    def retraining_tick(self, fault: Fault | None) -> None:
        self.driver.sensor_tick("retrain_low_pressure", fault)

    @rule(fault=FAULT)
    def automation_tick(self, fault: Fault | None) -> None:
        self.driver.automation_tick(fault, [*STAGED, *FEATURES, *TRAINING, *DATASET, *PREDICTIONS])


@pytest.fixture
def scenario(publishing_driver: Driver) -> Iterator[ModelScenario]:
    """The platform as the template has it."""
    found = ModelScenario(publishing_driver)
    yield found
    found.close()


def test_whatever_happens_models_come_from_data_whose_checks_hold(publishing_driver: Driver) -> None:
    class Machine(Learning):
        driver = publishing_driver

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_a_run_killed_before_the_skew_check_closes_no_gate(scenario: ModelScenario) -> None:
    fault = Fault("kill_after", DagsterEventType.STEP_START, "monitoring__low_pressure_skew")
    assert scenario.driver.run([*MODEL, *SKEW], None, config=FORCED, fault=fault) is None
    scenario.repair(["2024-01-08"])
