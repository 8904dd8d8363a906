"""A scenario on the second domain: actions, and checks of everything that it publishes."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import date, timedelta
from typing import Any

from dagster import DagsterEventType

from orchestration.feature_catalog import gather_facts
from orchestration.feature_store.online.opening import open_online_store
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.views import build_catalog
from tests.integration.publishing.driver import START, Driver, Fault, RecordedEvent
from tests.integration.publishing.ledger import PASSED, Ledger
from tests.second_domain.deliveries import PUMPS, deliver_readings

CONTRACT = """
  - failed_rows:
      name: no_tall_mean
      qualifier: no_tall_mean
      expression: pump_pressure__mean_pressure_6h > 5.2
      attributes: {dimension: accuracy}
"""
"""A check that only the training set has: data can pass every check before it and fail there."""

RAW = ["raw/readings", "quarantine/readings"]
STAGED = ["staged/stg_readings"]
FEATURES = ["features/pump_pressure"]
ONLINE = ["online_store/pump_pressure"]
REPORT = ["quality/quality_report"]
TRAINING = ["training/low_pressure_spine", "training/low_pressure_training_set"]
DATASET = ["datasets/low_pressure_training_set"]
MODEL = [f"model/low_pressure_{part}" for part in ("challenger", "evaluation", "champion")]
PREDICTIONS = ["predictions/low_pressure"]
SKEW = ["monitoring/low_pressure_skew"]
VIEW, NAME, TRAINING_SET = "pump_pressure", "low_pressure", "low_pressure_training_set"
FORCED = {"ops": {"model__low_pressure_evaluation": {"config": {"forced": "age"}}}}
"""A challenger need not be better than the champion, so that each new version can be promoted."""

GOOD, LATE, BAD_RAW, BAD_STAGED, BAD_FEATURES, BAD_TRAINING = (
    "good", "late", "bad raw", "bad staged", "bad features", "bad training",
)  # fmt: skip


def extra_lines(day: date, quality: str) -> tuple[str, ...]:
    """Readings beyond the regular ones of a day; all but late ones fail a check of the layer they name."""
    number = 900_000 + day.toordinal() % 1000 * 100

    def line(n: int, pump: str, hour: int, pressure: float, valve: str = "open", of: date = day) -> str:
        return f"{number + n},{pump},{of}T{hour:02}:30:{n:02}Z,{pressure:.2f},{valve}\n"

    return {
        GOOD: (),
        LATE: (line(1, "birch", 12, 4.0, of=day - timedelta(days=1)),),
        BAD_RAW: (line(2, "fir", 10, 4.0),),
        BAD_STAGED: (line(3, "cedar", 11, 17.0, "shut"),),
        BAD_FEATURES: tuple(line(10 + n, "alder", 20, 15.0) for n in range(6)),
        BAD_TRAINING: tuple(line(20 + n, "birch", 20, 5.9) for n in range(20)),
    }[quality]


def materialized(found: RecordedEvent) -> str:
    """The asset whose materialization an event is; empty for another event."""
    if found.entry.dagster_event_type != DagsterEventType.ASSET_MATERIALIZATION:
        return ""
    key = found.entry.get_dagster_event().asset_key
    return "" if key is None else key.to_user_string()


class Scenario:
    """A platform that starts from the template, and the ledger that judges what it publishes."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        driver.reset()
        self._stack = ExitStack()
        self._stack.enter_context(driver.opened())
        self.catalog = build_catalog(driver.project.declarations)
        self.ledger = Ledger(driver)
        driver.listen, driver.ended = self._follow, self._end
        self._position = self._read_position()
        self.published: list[str] = []
        self.violations: list[str] = []
        """What must not have been published; a step would swallow an assertion in the middle of a run."""

    def close(self) -> None:
        """End it."""
        self.driver.listen = self.driver.ended = lambda _: None
        self._stack.close()

    def deliver(self, day: str, quality: str) -> None:
        """Put the file of a day into the landing folder, in place of an earlier one."""
        of = date.fromisoformat(day)
        deliver_readings(self.driver.works.deliveries, of, extra=extra_lines(of, quality))

    def move_clock(self, hours: int) -> None:
        """Advance the clock."""
        self.driver.clock.move(self.driver.clock.now() + timedelta(hours=hours))

    def _follow(self, found: RecordedEvent) -> None:
        self.ledger.follow(found)
        if materialized(found).startswith("online_store/"):
            self.judge_online()

    def _end(self, found: RecordedEvent) -> None:
        self.ledger.end_run(found)
        self.judge_online()

    def _read_position(self) -> Any:
        with closing(open_online_store(self.driver.works.settings)) as store:
            return store.position(VIEW)

    def judge_online(self) -> None:
        """Record a violation if data was written to the online store while its blocking checks do not hold."""
        position = self._read_position()
        if position == self._position:
            return
        self._position = position
        self.published.append("online_store")
        if faults := self.ledger.faults("features/pump_pressure"):
            self.violations.append(f"published to the online store: {faults}")

    def served(self) -> dict[str, tuple[Any, ...]]:
        """The online values of each pump."""
        with closing(open_online_store(self.driver.works.settings)) as store:
            reader = OnlineReader(self.catalog, store, self.driver.clock)
            found = reader.get_online_features([f"{VIEW}:*"], {"pump": PUMPS})
        return dict(zip(PUMPS, zip(*found.values[1:], strict=True), strict=True))

    def judge_catalog(self) -> None:
        """The catalog shows no blocking check as passed that does not hold for the current view."""
        facts = gather_facts(self.driver.project, self.catalog)
        (view,) = facts.views
        states = self.ledger.tables[f"features/{VIEW}"].checks
        wrong = [
            check.name
            for check in view.checks
            if check.passed and set(states.get(check.name, {"": PASSED}).values()) != {PASSED}
        ]
        assert not wrong, f"the catalog shows as passed: {wrong}; {self.ledger.faults(f'features/{VIEW}')}"

    def judge(self) -> None:
        """Judge everything that is published now."""
        self.judge_online()
        found = [*self.violations, *self.ledger.violations]
        assert not found, found
        values = self.served()
        wrong = {pump: row for pump, row in values.items() if row[1] is not None and not 2 <= row[1] <= 6}
        assert not wrong, f"served: {wrong}"
        self.judge_catalog()

    def run_graph(self, first: str, last: str, fault: Fault | None = None) -> bool | None:
        """Run everything from landing to the online store."""
        return self.driver.run([*RAW, *STAGED, *FEATURES, *ONLINE], (first, last), fault=fault)

    def repair(self, days: Sequence[str]) -> None:
        """Deliver good files, mark killed runs, and run everything; all is published again and every gate is open."""
        for day in days:
            self.deliver(day, GOOD)
        self.driver.mark_dead_runs()
        assert self.run_graph(days[0], days[-1]), (
            f"the run after everything was repaired failed: {self.driver.errors[-1:]}"
        )
        self.judge()
        now = self.driver.clock.now().isoformat()
        expected = self.driver.rows(
            f"select pump, readings_6h, mean_pressure_6h from features.pump_pressure "
            f"where known_at <= timestamptz '{now}' and known_at > timestamptz '{now}' - interval 12 hours "
            "qualify row_number() over (partition by pump order by known_at desc) = 1"
        )
        served = {pump: row for pump, row in self.served().items() if row[0] is not None}
        assert served == {pump: tuple(row) for pump, *row in expected}
        for layer in (STAGED, FEATURES, ONLINE):
            assert self.driver.run(layer, (days[-1], days[-1])), (
                f"{layer} alone after everything was repaired"
            )


__all__ = ["START", "Scenario"]
