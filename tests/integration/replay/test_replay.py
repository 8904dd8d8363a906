"""The replay on a small history: lanes differ by when they train, and a walk goes on where it was killed."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from orchestration.automation.retraining.evidence import Labels, Watched
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact
from orchestration.learning.training import Code
from orchestration.replay import walk as walking
from orchestration.replay.report import make_report
from orchestration.replay.walk import Walked, walk
from orchestration.settings import Settings
from tests.model_works import PREDICT, make_rows, make_spec

TABLE = "low_pressure_training_set"
CODE = Code("c0ffee", False, "10cc", {"features": "one"})
SPEC = make_spec(
    predict=PREDICT,
    metric="log_loss",
    split={"validation": "5 days", "evaluation": "9 days"},
    retrain={
        "performance": {"loss": 0.01, "min_rows": 100},
        "drift": {"alarms": 1, "of": 1, "min_rows": 100},
        "new_labels": {"share": 0.4},
        "age": "40 days",
        "cooldown": "6 days",
    },
    monitoring={"drift": {"min_rows": 100}, "performance": {"window": "7 days", "min_rows": 100}},
)


class Killed(BaseException):
    """What a killed process looks like from inside."""


def put_rows(settings: Settings) -> LakehouseResource:
    lakehouse = LakehouseResource.from_settings(settings)
    with lakehouse.get_connection() as con:
        con.execute("create schema lake.training")
        con.register("_rows", make_rows(days=68, rows=40))
        con.execute(f"create table lake.training.{TABLE} as select * from _rows")
    return lakehouse


def walked(settings: Settings, lakehouse: LakehouseResource, lines: list[str]) -> Walked:
    watched = Watched(
        SPEC.name,
        "log_loss",
        SPEC.declared.retrain,
        Labels("training", TABLE, "label_known_at"),
        0.5,
        lambda: {"features": "one"},
        lambda con, learnt: None,
    )
    return walk(SPEC, watched, Catalog({}, {}), settings, lakehouse, CODE, lines.append)


def test_lanes_walk_through_history_and_go_on_where_they_were_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path / "data", duckdb_threads=1)
    lakehouse, lines = put_rows(settings), list[str]()
    train: Callable[[walking.Trainer, datetime], Artifact] = walking.Trainer.__call__
    left = 7

    def train_until_killed(self: walking.Trainer, instant: datetime) -> Artifact:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return train(self, instant)

    monkeypatch.setattr(walking.Trainer, "__call__", train_until_killed)
    with pytest.raises(Killed):
        walked(settings, lakehouse, lines)
    monkeypatch.setattr(walking.Trainer, "__call__", train)
    done = walked(settings, lakehouse, lines)
    weeks = done.weeks
    count = len(weeks["never"])
    assert count >= 4
    assert {name: len(found) for name, found in weeks.items()} == dict.fromkeys(weeks, count)
    for found in weeks.values():
        assert [w.end for w in found[:-1]] == [w.start for w in found[1:]]
    trainings = {name: sum(w.trained is not None for w in found) for name, found in weeks.items()}
    assert trainings["never"] == 1
    assert trainings["monthly"] == 1 + (count - 1) // 4
    assert trainings["weekly"] == count
    report = make_report(done)
    fired = [d for d in report.decisions if d.outcome == "fired"]
    assert trainings["triggers"] == 1 + len(fired)
    assert len({line for line in lines if " triggers: " in line and "the first" not in line}) == len(fired)
    assert {t for d in fired for t in d.triggers} & {"new_labels", "performance", "drift"}
    with done.lanes["triggers"].lakehouse.reader() as con:
        rows, known = con.execute(
            "select count(*), count(label) from predictions.low_pressure "
            "left join outcomes.low_pressure using (prediction_id, model_version)"
        ).fetchall()[0]
        assert rows == 40 * 7 * count
        assert rows - 40 * 7 <= known < rows
        assert con.execute("select count(*) > 0 from monitoring.drift").fetchall() == [(True,)]
        assert con.execute("select count(*) > 0 from monitoring.performance").fetchall() == [(True,)]
    assert "| every four weeks |" in report.markdown
    assert report.write(tmp_path).read_text() == report.markdown
    assert all(png.startswith(b"\x89PNG") for png in report.pictures.values())

    # Once more changes nothing, and trains nothing.
    monkeypatch.setattr(walking.Trainer, "__call__", train_until_killed)
    assert walked(settings, lakehouse, lines).weeks == weeks
