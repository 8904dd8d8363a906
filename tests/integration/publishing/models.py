"""A scenario that checks what the model side publishes: dataset versions, champions and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.learning.datasets import DatasetStore
from orchestration.learning.registry import Registry
from tests.integration.publishing.driver import Driver, Fault, RecordedEvent
from tests.integration.publishing.ledger import days_between
from tests.integration.publishing.scenario import (
    DATASET,
    FEATURES,
    FORCED,
    GOOD,
    MODEL,
    NAME,
    PREDICTIONS,
    RAW,
    SKEW,
    STAGED,
    TRAINING,
    TRAINING_SET,
    Scenario,
    materialized,
)

LEARN = [*TRAINING, *DATASET, *MODEL, *PREDICTIONS]


class ModelScenario(Scenario):
    """A scenario whose runs also train, promote and predict."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self._registry = Registry(driver.lakehouse, driver.works.settings.models_dir, driver.clock)
        self._datasets = DatasetStore(driver.works.settings.datasets_dir)
        self._versions = dict.fromkeys(self._datasets.versions(TRAINING_SET), True)
        """Dataset versions, and whether each was built from data whose checks held."""
        self._events = len(self._registry.events(NAME))
        self._predictions = self._read_predictions()

    def _follow(self, found: RecordedEvent) -> None:
        super()._follow(found)
        name = materialized(found)
        if name in DATASET:
            self._judge_datasets()
        elif name in MODEL:
            self._judge_champion()
        elif name in PREDICTIONS:
            self._judge_predictions()

    def _end(self, found: RecordedEvent) -> None:
        super()._end(found)
        self._judge_datasets()
        self._judge_champion()
        self._judge_predictions()

    def _judge_datasets(self) -> None:
        for version in self._datasets.versions(TRAINING_SET):
            if version in self._versions:
                continue
            self.published.append("dataset version")
            faults = self.ledger.faults(f"training/{TRAINING_SET}")
            self._versions[version] = not faults
            if faults:
                self.violations.append(f"published as dataset version {version}: {faults}")

    def _judge_champion(self) -> None:
        events = self._registry.events(NAME)
        for event in events[self._events :]:
            if not event.changes_champion:
                continue
            self.published.append("champion")
            registered = next(e for e in events if e.kind == "registered" and e.version == event.version)
            if not self._versions[registered.detail["dataset"]]:
                self.violations.append(f"promoted {event.version}, trained on data whose checks did not hold")
            # An earlier version may be judged again: the checks of its training data must still hold.
            if faults := self.ledger.faults(f"training/{TRAINING_SET}"):
                self.violations.append(f"promoted {event.version} with its inputs at fault: {faults}")
        self._events = len(events)

    def _read_predictions(self) -> Mapping[str, Any]:
        return dict(
            self.driver.rows(
                "select strftime(reading_at at time zone 'UTC', '%Y-%m-%d'), sum(hash(p)::hugeint) "
                f"from predictions.{NAME} as p group by 1"
            )
        )

    def _judge_predictions(self) -> None:
        found = self._read_predictions()
        changed = [day for day, content in found.items() if self._predictions.get(day) != content]
        self._predictions = found
        for day in changed:
            self.published.append("predictions")
            days = frozenset(days_between("2024-01-01", day)[-2:])
            spine = self.ledger.tables[f"training/{NAME}_spine"]
            features = self.ledger.tables["features/pump_pressure"]
            faults = [*spine.faults(frozenset({day})), *features.faults(days)]
            faults += [
                f"{d} built on unchecked inputs"
                for t in (spine, features)
                for d in days
                if not t.sound.get(d, True)
            ]
            if faults:
                self.violations.append(f"predicted {day}: {faults}")

    def learn(self, first: str, last: str, fault: Fault | None = None) -> bool | None:
        """Run everything from the training set to the predictions."""
        return self.driver.run(LEARN, (first, last), fault=fault, config=FORCED)

    def run_all(self, first: str, last: str, fault: Fault | None = None) -> bool | None:
        """Run everything from landing to the predictions."""
        assets = [*RAW, *STAGED, *FEATURES, *LEARN, *SKEW]
        return self.driver.run(assets, (first, last), fault=fault, config=FORCED)

    def repair(self, days: Sequence[str]) -> None:
        """Deliver good files and run everything; a version of exactly that data then serves and has predicted."""
        for day in days:
            self.deliver(day, GOOD)
        self.driver.mark_dead_runs()
        assert self.run_all(days[0], days[-1]), (
            f"the run after everything was repaired failed: {self.driver.errors[-1:]}"
        )
        self.judge()
        newest = self._datasets.manifest(TRAINING_SET, self._datasets.resolve(TRAINING_SET).version)
        ((rows,),) = self.driver.rows(f"select count(*) from training.{TRAINING_SET}")
        assert newest.rows == rows
        champion = self._registry.champion(NAME)
        assert champion is not None
        events = self._registry.events(NAME)
        judged = next(e for e in reversed(events) if e.kind == "judged")
        failed = [r["description"] for r in judged.detail["results"] if not r["passed"]]
        assert not failed, f"the gate is closed after everything was repaired: {failed}"
        registered = next(e for e in events if e.kind == "registered" and e.version == champion.version)
        assert registered.detail["dataset"] == newest.version
