"""``dagster dev`` as a person starts it, with PostgreSQL for everything: server, daemon, launched runs."""

import itertools
from collections.abc import Iterator

import pytest

from tests.dagster_dev import REPOSITORY, Server, dagster_dev
from tests.water_works import make_water_works

ASSETS = """{ assetNodes {
  assetKey { path } groupName description kinds owners { __typename } internalFreshnessPolicy { __typename }
  assetChecksOrError { ... on AssetChecks { checks { name } } } } }"""
INSTIGATORS = """query($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) {
  ... on Repository { schedules { name scheduleState { status } } sensors { name sensorState { status } } } } }"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres_server_url: str) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("dev")
    works = make_water_works(root, days=5)
    environment = {
        **works.environment,
        "GROUNDWORK_DAGSTER_POSTGRES_URL": postgres_server_url,
        "GROUNDWORK_LAKE_CATALOG_POSTGRES": postgres_server_url,
    }
    with dagster_dev(root, environment) as server:
        yield server


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
        # Dagster measures policies on the wall clock; this project's data has a replay clock.
        assert bool(node["internalFreshnessPolicy"]) == name.startswith("operations/"), name
    checks = {c["name"] for c in nodes["staged/stg_readings"]["assetChecksOrError"]["checks"]}
    assert "freshness" in checks
    assert len(checks) > 3


def test_nothing_is_switched_on_in_the_local_environment(server: Server) -> None:
    repository = server.ask(INSTIGATORS, selector=REPOSITORY)["repositoryOrError"]
    states = {s["name"]: s["scheduleState"]["status"] for s in repository["schedules"]}
    states |= {s["name"]: s["sensorState"]["status"] for s in repository["sensors"]}
    assert {"daily", "lakehouse_maintenance", "layer_automation", "failure_alerts"} <= set(states)
    assert set(states.values()) == {"STOPPED"}


def test_runs_launched_at_once_queue_and_all_succeed(server: Server) -> None:
    runs = [server.launch(job, "2024-01-01", "2024-01-05") for job in ("all_assets", "daily")]
    ends = [server.end_of(run) for run in runs]
    assert [end["status"] for end in ends] == ["SUCCESS", "SUCCESS"]
    writers = sorted(span for run in runs for span in server.writing(run))
    assert len(writers) == 6 + 2
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(writers))

    # Each made alone, as by the button on its page, with what the same step makes.
    pumps, a_day = server.materialize("raw/pumps"), server.materialize("staged/stg_readings", "2024-01-01")
    for run_id, made in (
        (pumps, {("raw/pumps", None), ("quarantine/pumps", None)}),
        (a_day, {("staged/stg_readings", "2024-01-01")}),
    ):
        assert server.end_of(run_id)["status"] == "SUCCESS"
        assert server.made_by(run_id) == made
