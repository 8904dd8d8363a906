"""The loop, live: drifted days arrive, and of itself all follows, until the server answers with another champion.

``dagster dev`` and ``groundwork serve`` run as people start them, with every sensor on; everything is told by
GraphQL and HTTP.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.conditions import CONDITIONS
from orchestration.learning.registry import Registry
from orchestration.settings import Clock
from tests.dagster_dev import DEADLINE_SECONDS, REPOSITORY, Server, dagster_dev
from tests.integration.feature_server.processes import Running, running
from tests.second_domain.deliveries import FIRST_DAY, HEADER, PUMPS
from tests.water_works import WaterWorks, make_water_works

pytestmark = pytest.mark.timeout(600)

SERVE = ("-c", "from orchestration.cli import main; main()", "serve")

MODEL = "low_pressure"
RETRAINING = f"retrain_{MODEL}"
DAYS = 6
"""Days that the first champion knows. Two follow that have drifted: no gate judges by one."""
CHANGED: dict[str, Any] = {
    "algorithm": {
        "name": "lightgbm",
        "parameters": {
            "learning_rate": 0.2, "num_leaves": 4, "min_data_in_leaf": 20, "min_data_per_group": 5,
            "max_cat_to_onehot": 8, "cat_smooth": 1,
        },
        "rounds": 30,
    },
    # Whether a pump's pressure is low is then told by which pump it is, and by nothing else.
    "leave_out": ["pump_pressure:mean_pressure_6h"],
    "split": {
        "train": "10 hours", "validation": "4 hours", "evaluation": "26 hours", "embargo": "70 minutes",
        "min_rows": 40,
    },
    # By two days little is sure: that the first champion is better than the baseline is not, at one in twenty.
    "gate": {"minimum_gain": 0.01, "error_rate": 0.3, "non_inferiority_margin": 0.2},
    "retrain": {"drift": {"alarms": 1, "of": 1, "min_rows": 100, "importance": 0.2}},
    "monitoring": {"drift": {"window": "1 day", "min_rows": 100}},
}  # fmt: skip
"""What the model declares here otherwise, so that a day is enough to tell drift, and to learn."""
MADE_ONCE = (
    "raw/readings",
    "quarantine/readings",
    "staged/stg_readings",
    "features/pump_pressure",
    "training/low_pressure_spine",
    "predictions/low_pressure",
)
"""What a landing makes, each day of it in one run; the training set is made again by whoever trains."""

SENSORS = """query($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) {
  ... on Repository { sensors { name } } } }"""
START = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on Sensor { sensorState { status } } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId jobName status } } } }"
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
  sensorState { ticks(limit: 100) { status skipReason runKeys runIds error { message } } } } } }"""
RUN = """query($id: ID!) { runOrError(runId: $id) { ... on Run { jobName tags { key value } } } }"""
ASSET = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks { name
    executionForLatestMaterialization { runId evaluation { success } } } } }
  assetMaterializations(limit: 1) { runId metadataEntries { label
    ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr } ... on JsonMetadataEntry { jsonString }
  } } } } }"""


def write_day(folder: Path, day: date, *, is_drifted: bool = False) -> Path:
    """A day of readings, every ten minutes.

    Two pumps are mostly low and two mostly not. On a drifted day it is the other way round, and most readings
    are of the latter.
    """
    dice = random.Random(str(day))
    midnight, first = datetime(day.year, day.month, day.day, tzinfo=UTC), (day - FIRST_DAY).days * 1000
    lines = []
    for n in range(4 * 6 * 24):
        number = dice.choices(range(4), (1, 1, 4, 4))[0] if is_drifted else n % 4
        is_low = dice.random() < (0.9 if (number < 2) != is_drifted else 0.1)
        pressure = (2.5 if is_low else 4.5) + dice.uniform(-0.4, 0.4)
        at = midnight + timedelta(minutes=10 * (n // 4), seconds=n % 4)
        valve = "open" if dice.random() < 0.9 else "shut"
        lines.append(f"{first + n},{PUMPS[number]},{at:%Y-%m-%dT%H:%M:%SZ},{pressure:.2f},{valve}\n")
    arriving = folder / "readings" / f"{day}.part"
    arriving.write_text(HEADER + "".join(lines))
    return arriving


def deliver(*arriving: Path) -> None:
    time.sleep(0.05)  # what is renamed in the moment it was written looks as if it were being written still
    for file in arriving:
        file.replace(file.with_suffix(".csv"))


class Platform:
    """A running ``dagster dev``, as its sensors, runs and assets tell of it."""

    def __init__(self, dagster: Server) -> None:
        self.dagster = dagster

    def sensors(self) -> list[str]:
        """The names of all there are."""
        found = self.dagster.ask(SENSORS, selector=REPOSITORY)["repositoryOrError"]["sensors"]
        return [sensor["name"] for sensor in found]

    def switch_on(self, sensor: str) -> None:
        told = self.dagster.ask(START, selector={**REPOSITORY, "sensorName": sensor})["startSensor"]
        assert told.get("sensorState") == {"status": "RUNNING"}, told

    def tick_of(self, sensor: str, wanted: Callable[[Mapping[str, Any]], Any]) -> Mapping[str, Any]:
        """Wait for a tick of a sensor; none may have failed."""
        found: list[Mapping[str, Any]] = []

        def look(data: Any) -> bool:
            ticks = data["sensorOrError"]["sensorState"]["ticks"]
            assert not any(tick["error"] for tick in ticks), ticks
            found[:] = [tick for tick in ticks if wanted(tick)]
            return bool(found)

        selector = {**REPOSITORY, "sensorName": sensor}
        self.dagster.until(f"a tick of {sensor}", TICKS, look, selector=selector)
        return found[-1]

    def until_made(self, asset: str, former: str) -> None:
        """Wait until another run than the former has made an asset."""

        def look(data: Any) -> bool:
            made: list[dict[str, Any]] = data["assetNodeOrError"]["assetMaterializations"]
            return bool(made) and made[0]["runId"] != former

        key = {"path": asset.split("/")}
        self.dagster.until(f"another {asset}", ASSET, look, key=key)

    def made_in(self, *assets: str) -> dict[str, dict[str, int]]:
        """Of each asset, in how many runs each of its partitions was made."""
        found: dict[str, Counter[str]] = {asset: Counter() for asset in assets}
        for run in self.dagster.ask(RUNS)["runsOrError"]["results"]:
            for asset, day in self.dagster.made_by(run["runId"]):
                if asset in found:
                    found[asset][day or ""] += 1
        return {asset: dict(sorted(days.items())) for asset, days in found.items()}

    def run(self, run_id: str) -> tuple[str, dict[str, str]]:
        """The job and the tags of a run."""
        told = self.dagster.ask(RUN, id=run_id)["runOrError"]
        return told["jobName"], {tag["key"]: tag["value"] for tag in told["tags"]}

    def asset(self, *path: str) -> tuple[str, dict[str, str], dict[str, tuple[str, bool]]]:
        """The run that made an asset last, the texts it told, and of each check the run and whether it passed."""
        node = self.dagster.ask(ASSET, key={"path": list(path)})["assetNodeOrError"]
        (made,) = node["assetMaterializations"]
        told = {
            entry["label"]: entry.get("text") or entry.get("mdStr") or entry.get("jsonString") or ""
            for entry in made["metadataEntries"]
        }
        checks = {
            check["name"]: (found["runId"], found["evaluation"]["success"])
            for check in node["assetChecksOrError"]["checks"]
            if (found := check["executionForLatestMaterialization"]) is not None
        }
        return made["runId"], told, checks


def predicted(server: Running) -> requests.Response:
    """What the server answers of a reading of each pump at noon."""
    count = len(PUMPS)
    entities = {
        "pump": list(PUMPS), "reading_hour": [12] * count, "reading_at": ["2024-01-09T12:00:00Z"] * count,
    }  # fmt: skip
    body = {"model": MODEL, "entities": entities}
    return server.http.post(f"{server.address}/predict", json=body, timeout=30)


def until_served(server: Running, former: str | None) -> dict[str, Any]:
    """What the server answers once another version than the former serves: it looks once a second."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        got = predicted(server)
        told: dict[str, Any] = got.json()
        if got.status_code == 200 and told["model_version"] != former:
            return told
        assert got.status_code == (503 if former is None else 200), got.text
        time.sleep(0.2)
    raise AssertionError(f"{former or 'nothing'} serves on\n{server.log.read_text()[-3000:]}")


def decisions(answer: Mapping[str, Any]) -> list[bool]:
    return [prediction["decision"] for prediction in answer["predictions"]]


@pytest.fixture
def works(tmp_path: Path) -> WaterWorks:
    works = make_water_works(tmp_path, days=0, duckdb_threads=1)
    declaration = works.settings.dbt_project_dir / "models" / "training" / "low_pressure_training_set.yml"
    declared = yaml.safe_load(declaration.read_text())
    declared["exposures"][0]["config"]["meta"]["model"] |= CHANGED
    declaration.write_text(yaml.safe_dump(declared, sort_keys=False))
    (works.deliveries / "readings").mkdir()
    deliver(*[write_day(works.deliveries, FIRST_DAY + timedelta(days=n)) for n in range(DAYS)])
    return works


@pytest.fixture
def platform(works: WaterWorks) -> Iterator[Platform]:
    environment = {**works.environment, "GROUNDWORK_SENSOR_INTERVAL_SECONDS": "1"}
    with dagster_dev(works.root, environment) as dagster:
        yield Platform(dagster)


def test_a_drifted_day_makes_another_champion_that_the_server_answers_with(
    works: WaterWorks, platform: Platform
) -> None:
    history = [str(FIRST_DAY + timedelta(days=n)) for n in range(DAYS)]
    arriving = [FIRST_DAY + timedelta(days=DAYS + n) for n in range(2)]
    first_run = platform.dagster.launch("all_assets", history[0], history[-1])
    with running(SERVE, works.root, works.environment) as server:
        assert platform.dagster.end_of(first_run)["status"] == "SUCCESS"
        sensors = platform.sensors()
        assert {"landing_readings", "layer_automation", RETRAINING} < {*sensors}
        for sensor in sensors:
            platform.switch_on(sensor)

        # Both at once, so that one run lands both.
        deliver(*[write_day(works.deliveries, day, is_drifted=True) for day in arriving])

        # From here on nobody does anything but ask. Asked before the days have arrived, the server would answer
        # by other values than history will say were known, and no challenger passes the gate after such skew.
        platform.until_made("online_store/pump_pressure", first_run)
        before = until_served(server, None)
        assert decisions(before) == [True, True, False, False]
        tick = platform.tick_of(RETRAINING, lambda tick: tick["runIds"])
        ((run_id,), (decision,)) = tick["runIds"], tick["runKeys"]
        assert platform.dagster.end_of(run_id)["status"] == "SUCCESS"
        after = until_served(server, before["model_version"])
        assert decisions(after) == [False, False, True, True]
        assert server.process.poll() is None

    once = {str(day): 1 for day in [*map(date.fromisoformat, history), *arriving]}
    assert platform.made_in(*MADE_ONCE) == dict.fromkeys(MADE_ONCE, once)
    assert platform.tick_of(RETRAINING, lambda tick: tick["skipReason"] == "no trigger is in alarm")
    job, tags = platform.run(run_id)
    assert job == RETRAINING
    assert tags.items() >= {
        "dagster/sensor_name": RETRAINING, "dagster/run_key": decision, "groundwork/decision": decision,
        "groundwork/triggers": "drift",
    }.items()  # fmt: skip
    judged_in, _, checks = platform.asset("model", f"{MODEL}_evaluation")
    assert (judged_in, checks) == (run_id, dict.fromkeys(CONDITIONS, (run_id, True)))
    promoted_in, told, _ = platform.asset("model", f"{MODEL}_champion")
    assert (promoted_in, told["champion"]) == (run_id, after["model_version"])
    told_in, told, _ = platform.asset("retraining", MODEL)
    assert (told_in, told["decision"], told["triggers"]) == (run_id, decision, "drift")
    assert f"{after['model_version']} serves instead of {before['model_version']}" in told["message"]
    evidence = {signal["trigger"]: signal for signal in json.loads(told["evidence"])}
    window = "monitoring.drift:2024-01-09T00:00:00+00:00"
    assert (evidence["drift"]["state"], evidence["drift"]["evidence"]) == ("alarm", [window])

    lakehouse, clock = (
        LakehouseResource.from_settings(works.settings),
        Clock(datetime(2024, 1, 9, tzinfo=UTC)),
    )
    (fired,) = [d for d in DecisionLog(lakehouse, clock).decisions(MODEL) if d.outcome == "fired"]
    assert (fired.id, fired.champion, fired.evidence) == (decision, before["model_version"], (window,))
    champion = Registry(lakehouse, works.settings.models_dir, clock).champion(MODEL)
    assert champion is not None
    assert (champion.version, champion.before, champion.run_id) == (
        after["model_version"], before["model_version"], run_id,
    )  # fmt: skip
