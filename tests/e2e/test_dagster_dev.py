"""``dagster dev`` as a person starts it, with PostgreSQL for everything: server, daemon, launched runs."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestration.settings import PROJECT_DIR
from tests.water_works import make_water_works

DEADLINE_SECONDS = 120.0
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "groundwork"}

ASSETS = """{ assetNodes {
  assetKey { path } groupName description kinds owners { __typename } internalFreshnessPolicy { __typename }
  assetChecksOrError { ... on AssetChecks { checks { name } } } } }"""
INSTIGATORS = """query($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) {
  ... on Repository { schedules { name scheduleState { status } } sensors { name sensorState { status } } } } }"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STEPS = """query($id: ID!) { runOrError(runId: $id) { ... on Run {
  stepStats { stepKey startTime endTime } } } }"""
STATUS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status startTime endTime } } }"""


class Server:
    """The GraphQL endpoint of a running ``dagster dev``."""

    def __init__(self, port: int, log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"
        self._log = log

    def ask(self, query: str, **variables: Any) -> Any:
        answer = requests.post(self._url, json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def until(self, what: str, query: str, done: Any, **variables: Any) -> Any:
        """Ask again and again until ``done`` says yes."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            try:
                data = self.ask(query, **variables)
            except requests.ConnectionError:
                data = None
            if data is not None and done(data):
                return data
            time.sleep(0.3)
        raise AssertionError(f"waited in vain for {what}\n{self._log.read_text()[-3000:]}")

    def launch(self, job: str, first: str, last: str) -> str:
        tags = [
            {"key": "dagster/asset_partition_range_start", "value": first},
            {"key": "dagster/asset_partition_range_end", "value": last},
        ]
        params = {
            "selector": {**REPOSITORY, "jobName": job},
            "runConfigData": {},
            "executionMetadata": {"tags": tags},
        }
        data = self.ask(LAUNCH, params=params)["launchRun"]
        assert data["__typename"] == "LaunchRunSuccess", data
        return str(data["run"]["runId"])

    def end_of(self, run_id: str) -> dict[str, Any]:
        ended = {"SUCCESS", "FAILURE", "CANCELED"}
        data = self.until(
            f"run {run_id}", STATUS, lambda d: d["runOrError"].get("status") in ended, id=run_id
        )
        return dict(data["runOrError"])

    def writing(self, run_id: str) -> list[tuple[float, float]]:
        """From when to when the run's steps held the lakehouse's slot."""
        steps = self.ask(STEPS, id=run_id)["runOrError"]["stepStats"]
        writers = ("land_", "dbt_", "quality__")
        return [(s["startTime"], s["endTime"]) for s in steps if s["stepKey"].startswith(writers)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres_server_url: str) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("dev")
    works = make_water_works(root, days=5)
    environment = {k: v for k, v in works.environment.items() if k != "DAGSTER_HOME"}
    environment |= {
        "GROUNDWORK_DAGSTER_POSTGRES_URL": postgres_server_url,
        "GROUNDWORK_LAKE_CATALOG_POSTGRES": postgres_server_url,
    }
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT_DIR / name, root)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = root / "dev.log"
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "dev",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            running = Server(port, log)
            running.until("the code location", ASSETS, lambda data: data["assetNodes"])
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def test_every_asset_shows_owner_group_kinds_description_freshness_and_checks(server: Server) -> None:
    nodes = {"/".join(n["assetKey"]["path"]): n for n in server.ask(ASSETS)["assetNodes"]}
    assert {"raw/readings", "quarantine/readings", "staged/stg_readings", "features/pump_pressure"} <= set(
        nodes
    )
    for name, node in nodes.items():
        assert node["owners"], name
        assert node["groupName"] not in ("", "default"), name
        assert node["kinds"], name
        assert node["description"], name
        assert node["internalFreshnessPolicy"], name
    checks = {c["name"] for c in nodes["staged/stg_readings"]["assetChecksOrError"]["checks"]}
    assert "freshness" in checks
    assert len(checks) > 3


def test_nothing_is_switched_on_in_the_local_environment(server: Server) -> None:
    repository = server.ask(INSTIGATORS, selector=REPOSITORY)["repositoryOrError"]
    states = {s["name"]: s["scheduleState"]["status"] for s in repository["schedules"]}
    states |= {s["name"]: s["sensorState"]["status"] for s in repository["sensors"]}
    assert {"daily", "lakehouse_maintenance", "layer_automation", "failure_alerts"} <= set(states)
    assert set(states.values()) == {"STOPPED"}


def test_two_runs_launched_at_once_queue_and_both_succeed(server: Server) -> None:
    runs = [server.launch(job, "2024-01-01", "2024-01-05") for job in ("all_assets", "daily")]
    ends = [server.end_of(run) for run in runs]
    assert [end["status"] for end in ends] == ["SUCCESS", "SUCCESS"]
    writers = sorted(span for run in runs for span in server.writing(run))
    assert len(writers) == 6 + 2
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(writers))
