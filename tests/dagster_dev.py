"""``dagster dev`` as a person starts it, and its GraphQL endpoint."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from orchestration.settings import PROJECT_DIR

DEADLINE_SECONDS = 300.0
"""For whatever is waited for: on a busy machine a tenth of it is common."""
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "groundwork"}

LOCATION = "{ assetNodes { id } }"
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STEPS = """query($id: ID!) { runOrError(runId: $id) { ... on Run {
  stepStats { stepKey startTime endTime } } } }"""
MADE_WITH = "query($keys: [AssetKeyInput!]!) { assetNodeAdditionalRequiredKeys(assetKeys: $keys) { path } }"
MADE = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on MaterializationEvent { assetKey { path } partition } } } } }"""
STATUS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status startTime endTime } } }"""
IMPATIENT = """
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
"""
"""Beside the shipped instance: runs do not wait five seconds in the queue."""
ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


class Server:
    """The GraphQL endpoint of a running ``dagster dev``."""

    def __init__(self, port: int, log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"
        self._log = log

    def ask(self, query: str, **variables: Any) -> Any:
        answer = requests.post(self._url, json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def until(self, what: str, query: str, done: Callable[[Any], Any], **variables: Any) -> Any:
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

    def launch(self, job: str, first: str, last: str, assets: Sequence[str] | None = None) -> str:
        """Start a job on a range of partitions, for some assets of it or all."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return self._launch(job, tags, assets)

    def materialize(self, asset: str, partition: str | None = None) -> str:
        """Start a run of one asset, as the button on its page does; of one partition where it has some."""
        told = self.ask(MADE_WITH, keys=[{"path": asset.split("/")}])["assetNodeAdditionalRequiredKeys"]
        assets = [asset, *("/".join(key["path"]) for key in told)]
        return self._launch("__ASSET_JOB", {"dagster/partition": partition} if partition else {}, assets)

    def made_by(self, run_id: str) -> set[tuple[str, str | None]]:
        """The assets that a run has materialized, and of which partition."""
        events = self.ask(MADE, id=run_id)["logsForRun"]["events"]
        return {("/".join(e["assetKey"]["path"]), e["partition"]) for e in events if e.get("assetKey")}

    def _launch(self, job: str, tags: Mapping[str, str], assets: Sequence[str] | None) -> str:
        params = {
            "selector": {
                **REPOSITORY,
                "jobName": job,
                "assetSelection": None if assets is None else [{"path": a.split("/")} for a in assets],
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        data = self.ask(LAUNCH, params=params)["launchRun"]
        assert data["__typename"] == "LaunchRunSuccess", data
        return str(data["run"]["runId"])

    def end_of(self, run_id: str) -> dict[str, Any]:
        data = self.until(
            f"run {run_id}", STATUS, lambda d: d["runOrError"].get("status") in ENDED, id=run_id
        )
        return dict(data["runOrError"])

    def writing(self, run_id: str) -> list[tuple[float, float]]:
        """From when to when the run's steps held the lakehouse's slot."""
        steps = self.ask(STEPS, id=run_id)["runOrError"]["stepStats"]
        writers = ("land_", "dbt_", "quality__")
        return [(s["startTime"], s["endTime"]) for s in steps if s["stepKey"].startswith(writers)]


@contextmanager
def dagster_dev(root: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Start it in a folder with the shipped instance and workspace, and wait for the code location."""
    shutil.copy(PROJECT_DIR / "workspace.yaml", root)
    (root / "dagster.yaml").write_text((PROJECT_DIR / "dagster.yaml").read_text() + IMPATIENT)
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
    # Without DAGSTER_HOME the instance is that of the folder.
    variables = {name: value for name, value in environment.items() if name != "DAGSTER_HOME"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env={**variables, "PYTHONPATH": str(PROJECT_DIR)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            server = Server(port, log)
            server.until("the code location", LOCATION, lambda data: data["assetNodes"])
            yield server
        finally:
            # As a terminal does: asked alone, it leaves its code server behind.
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
