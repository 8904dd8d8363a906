"""``groundwork serve`` on a project: features, pushes and the catalog, from declarations to a browser."""

import csv
import re
import subprocess
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.views import build_catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.project import read_project
from orchestration.serve_command import unready
from tests.integration.feature_server.processes import running
from tests.programs import require
from tests.water_works import make_water_works

SERVE = ("-c", "from orchestration.cli import main; main()", "serve")
ROWS = """
    ('alder', timestamptz '2024-01-08T20:00:00Z', 6, 3.25),
    ('alder', timestamptz '2024-01-08T14:00:00Z', 4, 9.0),
    ('birch', timestamptz '2024-01-08T01:00:00Z', 5, 4.5),
    ('cedar', timestamptz '2024-01-08T23:00:00Z', 0, null)
"""


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """The water works with features in the lakehouse, and readings that may be pushed."""
    works = make_water_works(tmp_path_factory.mktemp("works"), days=1, duckdb_threads=1)
    sources = works.settings.dbt_project_dir / "models" / "raw" / "sources.yml"
    text = sources.read_text()
    sources.write_text(
        text.replace(
            "uri: ${PUMPS_DATA}/readings\n", "uri: ${PUMPS_DATA}/readings\n              push: true\n"
        )
    )
    with LakehouseResource.from_settings(works.settings).transaction() as con:
        con.execute("create schema features")
        con.execute(
            "create table features.pump_pressure as select pump, known_at, readings_6h::bigint as readings_6h, "
            f"mean::double as mean_pressure_6h from (values {ROWS}) as t(pump, known_at, readings_6h, mean)"
        )
    return works


@pytest.fixture(scope="module")
def project(works):
    return read_project(works.settings)


@pytest.fixture(scope="module")
def server(works, project):
    store = LmdbStore(works.settings.online_dir)
    view = build_catalog(project.declarations).view("pump_pressure")
    materialize(LakehouseResource.from_settings(works.settings), store, view, project.clock.now())
    store.close()
    with running(SERVE, works.root, works.environment) as server:
        yield server


@contextmanager
def environment(works, monkeypatch):
    with monkeypatch.context() as patched:
        for name, value in works.environment.items():
            patched.setenv(name, value)
        yield


def test_features_are_read_as_the_lakehouse_has_them(server):
    assert server.http.get(f"{server.address}/ready").json() == {"status": "ready"}
    pumps = ["alder", "birch", "cedar", "none such"]
    got = server.ask(["pump_pressure:*"], {"pump": pumps}).json()
    assert got["metadata"]["feature_names"] == ["pump", "readings_6h", "mean_pressure_6h"]
    _, readings, mean = got["results"]
    assert readings["values"] == [6, None, 0, None]
    assert readings["statuses"] == ["PRESENT", "OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND"]
    assert mean["values"] == [3.25, None, None, None]
    assert mean["statuses"] == ["PRESENT", "OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND"]
    assert mean["event_timestamps"] == [
        "2024-01-08T20:00:00Z", "2024-01-08T01:00:00Z", "2024-01-08T23:00:00Z", "1970-01-01T00:00:00Z",
    ]  # fmt: skip


def test_an_entity_of_another_type_is_refused(server):
    got = server.ask(["pump_pressure:readings_6h"], {"pump": [7]})
    assert got.status_code == 422
    assert "expected" in got.json()["error"]


def test_pushed_rows_wait_in_the_landing_folder_of_their_source(works, server):
    rows = {
        "reading_id": [9001, 9002], "pump": ["alder", "birch"], "pressure": [5.25, "4.10"],
        "read_at": ["2024-01-08T22:00:00Z", "2024-01-08T23:00:00Z"], "valve": ["open", "open"],
    }  # fmt: skip

    def push(df, source="readings"):
        body = {"push_source_name": source, "df": df, "to": "online_and_offline"}
        return server.http.post(f"{server.address}/push", json=body)

    taken = push(rows)
    assert (taken.status_code, taken.json()["rows"]) == (200, 2)
    with (works.deliveries / "readings" / taken.json()["delivery"]).open() as file:
        found = list(csv.DictReader(file))
    assert [(row["reading_id"], row["pressure"]) for row in found] == [("9001", "5.25"), ("9002", "4.10")]
    refused = push({**rows, "pressure": ["high", 4]})
    assert refused.status_code == 422
    assert "pressure: found 'high', expected decimal" in refused.json()["error"]
    assert push(rows, "pumps").status_code == 404


def test_the_catalog_has_what_the_lakehouse_has(server):
    (view,) = server.http.get(f"{server.address}/catalog.json").json()["views"]
    assert (view["name"], view["rows"], view["entities"], view["owner"]) == (
        "pump_pressure",
        4,
        3,
        "team:operators",
    )
    assert view["ttl"] == "12 hours"
    assert [(p["layer"], p["name"], p["is_direct"]) for p in view["upstream"]] == [
        ("staged", "stg_readings", True), ("raw", "readings", False),
    ]  # fmt: skip
    profiles = {feature["name"]: feature["profile"] for feature in view["features"]}
    assert profiles["mean_pressure_6h"]["null_share"] == 0.25
    assert (profiles["readings_6h"]["low"], profiles["readings_6h"]["high"]) == (0, 6)


def test_a_page_that_has_not_changed_is_not_sent_again(server):
    url = f"{server.address}/catalog"
    first = server.http.get(url)
    assert first.headers["content-encoding"] == "gzip"
    again = server.http.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = server.http.get(url, headers={"Accept-Encoding": "identity"})
    assert plain.text == first.text


@pytest.fixture(scope="module")
def browser():
    found = str(require("chromium"))

    def dom(url):
        """The document after its scripts have run."""
        done = subprocess.run(
            [found, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom", url],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout

    return dom


def shown(dom):
    """The features a reader sees, and how many the page says there are."""
    rows = re.findall(r'<tr id="(\w+:\w+)"([^>]*)>', dom)
    return [name for name, attributes in rows if "hidden" not in attributes], re.search(
        r"<output[^>]*>([^<]*)</output>", dom
    )[1]


def test_a_browser_runs_the_page_and_finds_features(server, browser):
    url = f"{server.address}/catalog"
    both = ["pump_pressure:readings_6h", "pump_pressure:mean_pressure_6h"]
    assert shown(browser(url)) == (both, "2 features")
    assert shown(browser(f"{url}?find=MEAN+bar")) == (both[1:], "1 of 2 features")
    nothing = browser(f"{url}?find=nonsense")
    assert shown(nothing) == ([], "0 of 2 features")
    assert re.search(r'<p class="none" id="none">', nothing)
    assert shown(browser(f"{url}?state=online")) == (both, "2 features")


def test_the_terminal_lists_and_shows_features(works, monkeypatch):
    with environment(works, monkeypatch):
        run = CliRunner().invoke
        listed = run(main, ["features", "list", "mean"])
        assert listed.exit_code == 0, listed.output
        assert "pump_pressure:mean_pressure_6h" in listed.output
        assert "readings_6h " not in listed.output
        one = run(main, ["features", "show", "pump_pressure"])
        assert one.exit_code == 0, one.output
        for words in ("4, of 3 entities", "12 hours", "staged/stg_readings", "25%", "3.25 to 9"):
            assert words in one.output, words
        wrong = run(main, ["features", "show", "pump_pressure:readings"])
        assert (wrong.exit_code, "did you mean readings_6h" in wrong.output) == (1, True)


@pytest.mark.parametrize(("file", "right", "wrong", "fault"), [
    ("dbt_project/models/training/low_pressure_training_set.yml", "label: is_low\n          request", "label: low\n          request",
     "exposures.low_pressure.config.meta.model"),
    ("soda_checks/raw/pumps.yml", "checks:\n  - row_count:", "checks:\n  - row_cuont:", "soda_checks/raw/pumps.yml"),
], ids=["model", "contract"])  # fmt: skip
@pytest.mark.parametrize("command", ["list", "show pump_pressure"])
def test_a_faulty_project_lists_no_features(faulty, monkeypatch, command, file, right, wrong, fault):
    path = faulty.root / file
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    try:
        with environment(faulty, monkeypatch):
            told = CliRunner().invoke(main, ["features", *command.split()])
    finally:
        path.write_text(text)
    assert told.exit_code == 1, told.output
    assert fault in told.output


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """The water works, for tests that spoil a file of it."""
    return make_water_works(tmp_path_factory.mktemp("faulty"), days=1, duckdb_threads=1)


def test_a_server_open_to_others_without_keys_does_not_start(works, monkeypatch):
    with environment(works, monkeypatch):
        told = CliRunner().invoke(main, ["serve", "--host", "0.0.0.0"])
    assert told.exit_code == 1
    assert "GROUNDWORK_SERVER_KEYS_FILE" in told.output


def test_a_new_key_is_shown_once_beside_its_line_for_the_file():
    made = CliRunner().invoke(main, ["keys", "new", "till", "--role", "clerk"])
    assert re.search(r"^  till\.\S{43}$", made.stderr, re.MULTILINE)
    assert re.fullmatch(r"  - \{name: till, role: clerk, sha256: [0-9a-f]{64}\}\n", made.stdout)
    assert CliRunner().invoke(main, ["keys", "new", "No Name", "--role", "clerk"]).exit_code == 2


def test_a_store_without_values_or_with_older_ones_is_not_ready(tmp_path, project):
    catalog = build_catalog(project.declarations)
    assert unready(catalog, LmdbStore(tmp_path / "online")) == [
        "pump_pressure: found nothing in the online store, expected online_store/pump_pressure materialized"
    ]
