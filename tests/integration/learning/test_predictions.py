"""Predictions are what the champion of the day says, from what was known; outcomes follow as labels come."""

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestration.declarations import load_declarations
from orchestration.feature_store.views import Catalog, build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact, CorruptArtifactError
from orchestration.learning.conditions import CONDITIONS
from orchestration.learning.events import Who
from orchestration.learning.model import opened
from orchestration.learning.predictions.outcomes import Outcomes, record_outcomes
from orchestration.learning.predictions.scoring import Batch, Day, PredictionError, predict_days
from orchestration.learning.predictions.table import shadow_of
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.training import train
from orchestration.partitions import Window
from orchestration.settings import Clock, Settings
from tests.forks import CONTEXT
from tests.integration.learning import killed
from tests.model_works import CODE, MODEL, PREDICT, Rows, make_rows, make_spec, manifest_with, silent

ANNA = Who("anna@example.com", "It is better.")
NOW = datetime(2024, 2, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return make_spec(predict=PREDICT)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return build_catalog(load_declarations(manifest_with(MODEL)))


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return make_rows()


@dataclass(frozen=True)
class Trained:
    """Models of January, as they were written."""

    root: Path
    artifacts: tuple[Artifact, Artifact]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, spec: ModelSpec, rows: pa.Table) -> Trained:
    root, until = tmp_path_factory.mktemp("models"), datetime(2024, 2, 1, tzinfo=UTC)
    known = Rows(rows.filter(pa.compute.less(rows["label_known_at"], pa.scalar(until))))
    other = replace(spec, declared=spec.declared.model_copy(update={"seed": 8}))
    first, second = (train(one, known, root, CODE, silent)[0] for one in (spec, other))
    return Trained(root, (first, second))


class Works:
    """A lakehouse with spine, features and labels; models that are promoted when a test says so."""

    def __init__(
        self,
        lakehouse: LakehouseResource,
        registry: Registry,
        spec: ModelSpec,
        catalog: Catalog,
        trained: Trained,
    ) -> None:
        self.lakehouse, self.registry, self.spec, self.catalog = lakehouse, registry, spec, catalog
        shutil.copytree(trained.root, registry.root)
        self.first, self.second = trained.artifacts
        for artifact in trained.artifacts:
            registry.register(artifact, ANNA)

    def promote(self, artifact: Artifact, at: datetime) -> None:
        lakehouse, root = self.lakehouse, self.registry.root
        Registry(lakehouse, root, Clock(at)).promote("low_pressure", artifact.version, ANNA)

    def predict(self, first: date, last: date, newest: date | None = None, **changed: Any) -> Batch:
        days = []
        while first <= last:
            start = datetime(first.year, first.month, first.day, tzinfo=UTC)
            days.append(Day(first, Window(start, start + timedelta(days=1))))
            first += timedelta(days=1)
        spec = changed.get("spec", self.spec)
        return predict_days(
            spec, self.registry, self.catalog, self.lakehouse, days, NOW, "run", silent, newest
        )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.lakehouse.reader() as con:
            return con.execute(sql).fetchall()

    def do(self, sql: str) -> None:
        with self.lakehouse.transaction() as con:
            con.execute(sql)

    def outcomes(self, now: datetime = NOW) -> Outcomes:
        return record_outcomes(self.lakehouse, self.spec, now)


@pytest.fixture
def works(
    lakehouse: LakehouseResource,
    registry: Registry,
    spec: ModelSpec,
    catalog: Catalog,
    trained: Trained,
    rows: pa.Table,
) -> Works:
    with lakehouse.transaction() as con:
        con.register("given", rows)
        con.execute("create schema lake.features")
        con.execute("create schema lake.training")
        con.execute(
            "create table lake.features.pressure as select pump, pressure__known_at as known_at, "
            "pressure__mean as mean, pressure__valve as valve, pressure__is_new as is_new from given"
        )
        con.execute(
            "create view lake.training.low_pressure_spine as select pump, known_at as prediction_at, "
            "cast(day(known_at) % 10 as integer) as demand from lake.features.pressure"
        )
        con.execute("create table lake.training.low_pressure_training_set as select * from given")
    return Works(lakehouse, registry, spec, catalog, trained)


def test_each_day_is_scored_by_its_champion_from_what_was_known(works: Works) -> None:
    first, second = works.first, works.second
    works.promote(first, datetime(2024, 2, 3, 12, tzinfo=UTC))
    works.promote(second, datetime(2024, 2, 5, tzinfo=UTC))
    done = works.predict(date(2024, 2, 1), date(2024, 2, 6))
    assert done.without_champion == [date(2024, 2, 1), date(2024, 2, 2)]
    assert done.versions == {first.version: 60, second.version: 180}
    assert done.by_day[date(2024, 2, 4)] == 60

    with works.lakehouse.reader() as con:
        found = con.execute(
            "select * from lake.predictions.low_pressure where prediction_at >= '2024-02-04' order by prediction_at"
        ).to_arrow_table()
    model = opened(works.registry.artifact("low_pressure", second.version))
    scores = np.asarray(found["score"])
    assert np.array_equal(model.scorer.score(found), scores)  # Its own inputs are kept beside each score.
    assert found["decision"].to_pylist() == (scores >= model.threshold).tolist()
    known = works.ask(
        "select pressure__mean, pressure__valve from lake.training.low_pressure_training_set "
        "where prediction_at >= '2024-02-04' and prediction_at < '2024-02-07' order by prediction_at"
    )
    assert (
        list(zip(found["pressure__mean"].to_pylist(), found["pressure__valve"].to_pylist(), strict=True))
        == known
    )
    assert found["shortage"].to_pylist() == [
        None if mean is None else demand - mean
        for demand, mean in zip(found["demand"].to_pylist(), found["pressure__mean"].to_pylist(), strict=True)
    ]
    assert set(found["mode"].to_pylist()) == {"batch"}
    assert set(found["dataset_version"].to_pylist()) == {"d0"}


def test_a_first_champion_predicts_the_newest_day_although_promoted_later(works: Works) -> None:
    works.promote(works.first, datetime(2024, 2, 6, 12, tzinfo=UTC))
    first, newest = date(2024, 2, 4), date(2024, 2, 5)
    assert works.predict(first, newest).rows == 0
    done = works.predict(first, newest, newest)
    assert (done.by_day, done.without_champion) == ({newest: 60}, [first])
    again = works.predict(first, newest, newest)
    assert (again.rows, again.added, again.removed) == (60, 0, 0)


def test_a_first_champion_trained_on_the_newest_day_predicts_nothing_for_it(works: Works) -> None:
    works.promote(works.first, datetime(2024, 2, 6, 12, tzinfo=UTC))
    newest = date(2024, 1, 3)
    done = works.predict(newest, newest, newest)
    assert (done.rows, done.learnt_from) == (0, 0)


def test_the_same_days_again_change_nothing_and_a_row_that_went_goes(works: Works) -> None:
    works.promote(works.first, datetime(2024, 2, 3, tzinfo=UTC))
    works.predict(date(2024, 2, 3), date(2024, 2, 5))
    before = works.ask("select * from lake.predictions.low_pressure order by all")
    again = works.predict(date(2024, 2, 3), date(2024, 2, 4))
    assert (again.rows, again.added, again.removed) == (120, 0, 0)
    assert works.ask("select * from lake.predictions.low_pressure order by all") == before

    works.do("delete from lake.features.pressure where known_at = '2024-02-04 00:20:00+00'")
    fewer = works.predict(date(2024, 2, 4), date(2024, 2, 4))
    assert (fewer.rows, fewer.added, fewer.removed) == (59, 0, 1)


def test_nobody_predicts_what_it_has_learnt_from(works: Works) -> None:
    works.promote(works.first, datetime(2024, 1, 2, tzinfo=UTC))
    done = works.predict(date(2024, 1, 2), date(2024, 1, 3))
    assert (done.rows, done.learnt_from) == (0, 120)


def break_artifact(works: Works, artifact: Artifact) -> None:
    (works.registry.root / "low_pressure" / artifact.version / "model.txt").write_text("trees?")


def double_a_row(works: Works, artifact: Artifact) -> None:
    works.do("update lake.features.pressure set known_at = '2024-02-04 00:20:00+00', pump = 'alder' "
             "where known_at in ('2024-02-04 00:20:00+00', '2024-02-04 00:40:00+00')")  # fmt: skip


@pytest.mark.parametrize(
    ("harm", "fault", "message"),
    [
        (break_artifact, CorruptArtifactError, r"model\.txt: found content of SHA-256"),
        (
            double_a_row,
            PredictionError,
            "low_pressure_spine: found 1 rows from .* whose pump, prediction_at another",
        ),
    ],
)
def test_what_cannot_be_predicted_is_told_and_changes_nothing(
    works: Works, harm: Callable[[Works, Artifact], None], fault: type[Exception], message: str
) -> None:
    artifact = works.first
    works.promote(artifact, datetime(2024, 2, 3, tzinfo=UTC))
    works.predict(date(2024, 2, 3), date(2024, 2, 4))
    before = works.ask("select * from lake.predictions.low_pressure order by all")
    harm(works, artifact)
    with pytest.raises(fault, match=message):
        works.predict(date(2024, 2, 4), date(2024, 2, 4))
    assert works.ask("select * from lake.predictions.low_pressure order by all") == before
    champion = works.registry.champion("low_pressure")
    assert champion is not None
    assert champion.version == artifact.version


def test_infinite_features_are_refused_by_row_or_missing_as_declared(
    works: Works, rows: pa.Table, tmp_path: Path
) -> None:
    works.promote(works.first, datetime(2024, 2, 3, tzinfo=UTC))
    works.do(
        "update lake.features.pressure set mean = 'infinity' where known_at in "
        "('2024-02-04 00:20:00+00', '2024-02-04 00:40:00+00')"
    )
    with pytest.raises(
        PredictionError,
        match=r"low_pressure_spine for .*: found infinite values of pressure:mean .* in 2 rows.*such as pump ",
    ):
        works.predict(date(2024, 2, 4), date(2024, 2, 4))
    null = make_spec(predict=PREDICT, infinite="null")
    known = Rows(
        rows.filter(pa.compute.less(rows["label_known_at"], pa.scalar(datetime(2024, 2, 1, tzinfo=UTC))))
    )
    artifact, _ = train(null, known, works.registry.root, CODE, silent)
    works.registry.register(artifact, ANNA)
    works.promote(artifact, datetime(2024, 2, 3, 1, tzinfo=UTC))
    assert works.predict(date(2024, 2, 4), date(2024, 2, 4), spec=null).rows == 60


def test_a_view_that_lost_a_feature_of_the_champion_is_told(works: Works) -> None:
    works.promote(works.first, datetime(2024, 2, 3, tzinfo=UTC))
    changed = make_spec(predict=PREDICT, leave_out=["pressure:valve"])
    with pytest.raises(
        PredictionError, match=r"reads pressure__valve \(varchar\): found features that have chang"
    ):
        works.predict(date(2024, 2, 4), date(2024, 2, 4), spec=changed)


def test_labels_join_as_they_become_known_late_revised_withdrawn_or_never(works: Works) -> None:
    works.promote(works.first, datetime(2024, 2, 3, tzinfo=UTC))
    assert works.outcomes().rows == 0
    works.predict(date(2024, 2, 4), date(2024, 2, 4))
    labels = "lake.training.low_pressure_training_set"
    late, never, revised, gone = (f"2024-02-04 0{hour}:00:00+00" for hour in range(1, 5))
    works.do(
        f"update {labels} set label_known_at = prediction_at + interval '9 hours' where prediction_at = '{late}'"
    )
    works.do(f"update {labels} set is_low = null where prediction_at = '{never}'")

    evening = works.outcomes(datetime(2024, 2, 4, 8, tzinfo=UTC))
    assert evening.states == {"pending": 60 - 19 + 2, "known": 17, "late": 0, "never": 0}
    assert evening.hours_median == 2
    works.do(
        f"update {labels} set is_low = not is_low, label_known_at = label_known_at + interval '2 days' "
        f"where prediction_at = '{revised}'"
    )
    works.do(f"delete from {labels} where prediction_at = '{gone}'")
    later = works.outcomes()
    assert later.states == {"pending": 0, "known": 57, "late": 1, "never": 2}
    assert (later.revised, later.completeness, later.late_share) == (2, 58 / 60, 1 / 58)
    state = "select state, label is null, first_label is null, revisions, label is distinct from first_label"
    state += " from lake.outcomes.low_pressure where prediction_at = "
    assert works.ask(f"{state}'{late}'") == [("late", False, False, 0, False)]
    assert works.ask(f"{state}'{never}'") == [("never", True, True, 0, False)]
    assert works.ask(f"{state}'{revised}'") == [("known", False, False, 1, True)]
    assert works.ask(f"{state}'{gone}'") == [("never", True, False, 1, True)]

    assert works.outcomes().changed == 0
    works.do("delete from lake.predictions.low_pressure where prediction_at < '2024-02-04 12:00:00+00'")
    assert works.outcomes().removed == 36


def test_a_challenger_predicts_beside_the_champion_for_its_shadow_period(works: Works) -> None:
    spec = make_spec(predict=PREDICT, gate={"shadow": "2 days"})
    judged_at = datetime(2024, 2, 4, tzinfo=UTC)
    works.promote(works.first, datetime(2024, 2, 3, tzinfo=UTC))
    registry = Registry(works.lakehouse, works.registry.root, Clock(judged_at))
    verdict = {
        "passed": False,
        "champion": works.first.version,
        "results": [{"name": name, "passed": name != "shadow_period"} for name in CONDITIONS],
    }
    registry.judge("low_pressure", works.second.version, ANNA, verdict)
    assert shadow_of(works.lakehouse, spec, works.second.version) is None
    done = works.predict(date(2024, 2, 2), date(2024, 2, 4), spec=spec)
    assert (done.rows, done.shadow, done.versions) == (180, 120, {works.first.version: 180})
    assert works.ask(
        "select mode, model_version, count(*) from lake.predictions.low_pressure group by all order by 1"
    ) == [
        ("batch", works.first.version, 180),
        ("shadow", works.second.version, 120),
    ]
    assert shadow_of(works.lakehouse, spec, works.second.version) == (datetime(2024, 2, 3, tzinfo=UTC), 120)
    works.promote(works.second, datetime(2024, 2, 6, tzinfo=UTC))
    after = works.predict(date(2024, 2, 5), date(2024, 2, 6), spec=spec)
    assert (after.shadow, after.versions) == (0, {works.second.version: 120})


def test_killed_at_any_commit_it_is_made_good_by_the_next_run(works: Works, settings: Settings) -> None:
    versions = (works.first.version, works.second.version)
    folder, kept = settings.data_dir, settings.data_dir.with_name("kept")
    shutil.copytree(folder, kept)

    def state() -> list[Any]:
        assert works.registry.verify() == []
        champion = works.registry.champion("low_pressure")
        made = "select * exclude (snapshot_id) from lake.predictions.low_pressure order by all"
        became = "select * from lake.outcomes.low_pressure order by all"
        return [champion and champion.version, works.ask(made), works.ask(became)]

    killed.a_week(settings, versions, works.spec, works.catalog)
    whole = state()
    assert len(whole[1]) == len(whole[2]) == 60 * killed.DAYS
    # Two promotions, the days of two champions, outcomes.
    for commit, before in [*((number, True) for number in range(1, 6)), (5, False)]:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        process = CONTEXT.Process(
            target=partial(killed.die_in_a_week, before=before), args=(folder, versions, commit)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert works.registry.verify() == []
        killed.a_week(settings, versions, works.spec, works.catalog)
        assert state() == whole
