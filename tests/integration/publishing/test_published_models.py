"""No dataset version, champion or prediction comes from data whose blocking checks do not hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from dagster import DagsterEventType
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from orchestration.asset_specs import POOL
from orchestration.dagster_ext import GraphChecks
from orchestration.lakehouse import last_change
from orchestration.learning.datasets import DatasetStore
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


@contextmanager
def built_after_the_gate(driver: Driver, action: Callable[[], object]) -> Iterator[list[int]]:
    """Execute a run between a step's gate and what the step reads; gives the newest snapshot at the gate."""
    pinned, at_the_gate = GraphChecks.pinned, list[int]()

    def pinned_then_built(
        self: GraphChecks, context: dg.AssetExecutionContext, pin: Callable[[], object]
    ) -> object:
        found = pinned(self, context, pin)
        if not at_the_gate:
            at_the_gate.append(driver.lakehouse.newest_snapshot())
            # With PostgreSQL as the catalog there are several slots.
            driver.instance.event_log_storage.set_concurrency_slots(POOL, 2)
            action()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphChecks, "pinned", pinned_then_built)
        yield at_the_gate
    driver.instance.event_log_storage.set_concurrency_slots(POOL, 1)


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


def test_what_is_built_after_the_gate_is_in_no_dataset_version(scenario: ModelScenario) -> None:
    day = ("2024-01-09", "2024-01-09")
    scenario.move_clock(22)
    scenario.deliver(day[0], GOOD)
    assert scenario.driver.run([*RAW, *STAGED, *FEATURES], day)

    def build() -> None:
        scenario.driver.run(TRAINING, day)

    with built_after_the_gate(scenario.driver, build) as at_the_gate:
        assert scenario.driver.run(DATASET, None)
    with scenario.driver.lakehouse.reader() as con:
        assert last_change(con, "training", "low_pressure_training_set") > at_the_gate[0]
    store = DatasetStore(scenario.driver.works.settings.datasets_dir)
    made = store.builds("low_pressure_training_set")[-1]
    assert made.built.lake.snapshot <= at_the_gate[0]


def test_what_is_built_after_the_gate_is_not_predicted_from(scenario: ModelScenario) -> None:
    day = ("2024-01-09", "2024-01-09")
    scenario.move_clock(22)
    scenario.deliver(day[0], GOOD)
    assert scenario.driver.run([*RAW, *STAGED, *FEATURES, *TRAINING], day)

    def build() -> None:
        scenario.deliver(day[0], BAD_FEATURES)
        scenario.driver.run([*RAW, *STAGED, *FEATURES], day)

    with built_after_the_gate(scenario.driver, build) as at_the_gate:
        assert scenario.driver.run(PREDICTIONS, day)
    with scenario.driver.lakehouse.reader() as con:
        assert last_change(con, "features", "pump_pressure") > at_the_gate[0]
    ((rows, newest),) = scenario.driver.rows(
        "select count(*), max(snapshot_id) from predictions.low_pressure "
        "where reading_at >= timestamptz '2024-01-09 00:00:00+00'"
    )
    assert rows
    assert newest <= at_the_gate[0]
