"""The replay of a small history: the platform walks through it by its own jobs and sensor, even when killed."""

import signal
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.automation.retraining.runs import DECISION_TAG, MODEL_TAG
from orchestration.instance import open_instance
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.registry import Registry
from orchestration.replay.live import CLOCK_TAG
from orchestration.replay.weeks import Week, read_weeks
from orchestration.settings import Clock, Settings
from tests.forks import Forked, groundwork
from tests.second_domain.deliveries import FIRST_DAY, HEADER, PUMPS, pressure_at
from tests.water_works import WaterWorks, make_water_works

pytestmark = pytest.mark.timeout(280)

MODEL = "low_pressure"
LAYERS = "group:raw or group:staged or group:features or key:training/*"
DAYS = 43
TURNED = 20
"""From this day on pressure is low at other hours."""
END = datetime.combine(FIRST_DAY + timedelta(days=DAYS), time.min, UTC)
DECLARED: dict[str, Any] = {
    "metric": "log_loss",
    "split": {"validation": "3 days", "evaluation": "6 days", "embargo": "2 hours", "min_rows": 100},
    "floors": {"metrics": {"auc": 0.6}, "slice_loss": 2.0, "score_gap": 0.5},
    "gate": {"minimum_gain": 0.0, "error_rate": 0.3, "non_inferiority_margin": 0.5},
    "retrain": {
        "performance": {"loss": 0.05, "min_rows": 100},
        "drift": {"alarms": 1, "of": 1, "min_rows": 100},
        "new_labels": {"share": 0.9},
        "age": "60 days",
        "cooldown": "6 days",
    },
    "monitoring": {"drift": {"min_rows": 100}, "performance": {"window": "7 days", "min_rows": 100}},
}


def write_day(folder: Path, number: int) -> None:
    day = FIRST_DAY + timedelta(days=number)
    midnight, turned = datetime.combine(day, time.min, UTC), 6 if number >= TURNED else 0
    lines = []
    for n in range(24 * len(PUMPS)):
        hour, pump = divmod(n, len(PUMPS))
        luck = ((number * 96 + n) * 0.6180339887) % 2 - 1
        pressure = pressure_at((hour + turned) % 24, pump, luck)
        at = midnight + timedelta(hours=hour, minutes=7 * pump)
        lines.append(f"{number * 1000 + n},{PUMPS[pump]},{at:%Y-%m-%dT%H:%M:%SZ},{pressure:.2f},open\n")
    (folder / f"{day}.csv").write_text(HEADER + "".join(lines))


def declare(file: Path, change: Any) -> None:
    declared = yaml.safe_load(file.read_text())
    change(declared)
    file.write_text(yaml.safe_dump(declared, sort_keys=False))


@pytest.fixture
def works(tmp_path: Path) -> WaterWorks:
    works = make_water_works(tmp_path, days=0, duckdb_threads=1)
    project = works.settings.dbt_project_dir
    clock = {"mode": "replay", "replay_at": END.isoformat()}
    declare(project / "dbt_project.yml", lambda d: d["vars"]["groundwork"].update(clock=clock))
    (sources,) = (project / "models" / "raw").glob("*.yml")

    def lengthen(declared: dict[str, Any]) -> None:
        for table in declared["sources"][0]["tables"]:
            partition = table["config"]["meta"]["ingest"].get("partition")
            if partition is not None:
                partition["end"] = END.date()

    declare(sources, lengthen)
    training = project / "models" / "training" / "low_pressure_training_set.yml"
    declare(training, lambda d: d["exposures"][0]["config"]["meta"]["model"].update(DECLARED))
    (works.deliveries / "readings").mkdir()
    for number in range(DAYS):
        write_day(works.deliveries / "readings", number)
    return works


def run_of(works: WaterWorks, *arguments: str) -> Forked:
    output = works.root / f"{arguments[0]}.said"
    return Forked(groundwork, *arguments, environment=works.environment, output=output)


def own(works: WaterWorks, lane: str) -> Settings:
    return works.settings.under(works.settings.data_dir / "replay" / MODEL / lane)


def weeks_of(works: WaterWorks, lane: str) -> list[Week]:
    return read_weeks(LakehouseResource.from_settings(own(works, lane)))


def runs_of(works: WaterWorks) -> list[dg.DagsterRun]:
    """Oldest first."""
    with open_instance(own(works, "triggers")) as instance:
        return list(reversed(instance.get_runs()))


def test_the_platform_walks_through_history_and_goes_on_where_it_was_killed(works: WaterWorks) -> None:
    run = run_of(works, "run", "--select", LAYERS)
    assert run.end() == 0, run.said
    killed = run_of(works, "replay")
    killed.wait_for("triggers: the first:")
    killed.send(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    replay = run_of(works, "replay")
    assert replay.end() == 0, replay.said
    assert "| as its triggers decide |" in replay.said

    weeks = {lane: weeks_of(works, lane) for lane in ("never", "monthly", "weekly", "triggers")}
    count = len(weeks["never"])
    assert count >= 4
    for found in weeks.values():
        assert [w.start for w in found] == [w.start for w in weeks["never"]]
        assert [w.end for w in found[:-1]] == [w.start for w in found[1:]]
    trainings = {lane: sum(w.trained is not None for w in found) for lane, found in weeks.items()}
    assert (trainings["never"], trainings["monthly"], trainings["weekly"]) == (1, 1 + (count - 1) // 4, count)
    check_that_what_landed_week_by_week_made_the_same_models(works, weeks["weekly"], weeks["triggers"])
    check_that_its_own_jobs_and_sensor_walked(works, weeks["triggers"])
    check_that_all_was_predicted_and_watched(works, weeks["triggers"])

    # Once more changes nothing, and starts nothing.
    made = [r.run_id for r in runs_of(works)]
    again = run_of(works, "replay")
    assert again.end() == 0, again.said
    assert (weeks_of(works, "triggers"), [r.run_id for r in runs_of(works)]) == (weeks["triggers"], made)


def check_that_what_landed_week_by_week_made_the_same_models(
    works: WaterWorks, plain: list[Week], live: list[Week]
) -> None:
    """Trees from a training set that dbt built partition by partition, and from all of history cut there."""
    root = works.settings.data_dir / "replay" / MODEL
    trained = {week.start: week.trained for week in plain}
    for week in live:
        if week.trained is not None:
            one, other = (
                next(models.rglob(f"{version}/model.txt"))
                for models, version in (
                    (root / "models", trained[week.start]), (root / "triggers" / "models", week.trained)
                )
            )  # fmt: skip
            assert one.read_text() == other.read_text(), week.start


def check_that_its_own_jobs_and_sensor_walked(works: WaterWorks, weeks: list[Week]) -> None:
    lakehouse, clock = LakehouseResource.from_settings(own(works, "triggers")), Clock(END)
    fired = [d for d in DecisionLog(lakehouse, clock).decisions(MODEL) if d.outcome == "fired"]
    assert fired
    assert [d.decided_at for d in fired] == [w.start for w in weeks[1:] if w.trained is not None]
    assert {t for d in fired for t in d.triggers} & {"performance", "drift"}
    runs = runs_of(works)
    ended = [r for r in runs if r.is_success]
    trained = {r.tags[DECISION_TAG]: r for r in ended if DECISION_TAG in r.tags}
    assert sorted(trained) == sorted(d.id for d in fired)
    for decision in fired:
        run = trained[decision.id]
        assert run.job_name == run.tags["dagster/sensor_name"] == f"retrain_{MODEL}"
        assert (run.tags["dagster/run_key"], run.tags[MODEL_TAG]) == (decision.id, MODEL)
        assert run.tags[CLOCK_TAG] == decision.decided_at.isoformat()
    followed = {r.tags[CLOCK_TAG] for r in ended if r.job_name == "all_assets"}
    assert followed == {w.end.isoformat() for w in weeks}
    registry = Registry(lakehouse, own(works, "triggers").models_dir, clock)
    assert registry.verify() == []
    promoted = {e.happened_at: e for e in registry.events(MODEL) if e.kind == "promoted"}
    assert sorted(promoted) == [w.start for w in weeks if w.promoted]
    by_run = {r.run_id: r for r in runs}
    assert all(by_run[e.run_id].job_name == f"retrain_{MODEL}" for e in promoted.values())


def check_that_all_was_predicted_and_watched(works: WaterWorks, weeks: list[Week]) -> None:
    first, last = weeks[0].start, weeks[-1].end
    with LakehouseResource.from_settings(own(works, "triggers")).reader() as con:
        span = f"spine.reading_at >= '{first}' and spine.reading_at < '{last}'"
        rows, predicted, told = con.execute(
            "select count(*), count(score), count(label) filter (state = 'known') "
            "from training.low_pressure_spine as spine "
            "left join predictions.low_pressure using (reading_id) "
            f"left join outcomes.low_pressure using (prediction_id, score) where {span}"
        ).fetchall()[0]
        # A version that began to serve at a midnight may have seen what came after the last predictions before.
        assert rows == 96 * (last - first).days
        assert rows - 4 * len(weeks) <= predicted <= rows
        assert told == predicted
        for table in ("drift", "performance"):
            ((windows,),) = con.execute(
                f"select count(distinct window_end) from monitoring.{table}"
            ).fetchall()
            assert windows >= len(weeks), table
