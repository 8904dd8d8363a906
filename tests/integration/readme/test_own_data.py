"""README's "Bring your own data", followed to the letter: only where the files are is the test's."""

import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.declarations import DeclarationError, load_declarations
from orchestration.feature_store.store import FeatureStore
from orchestration.run_command import run_command
from orchestration.settings import PROJECT_DIR, Settings
from orchestration.transformation import load_manifest
from tests.integration.readme.printed import samples

HEADING = "Bring your own data"
FIRST, LAST = "2024-01-01", "2024-01-03"
LEAST = "dataset: lake/{}\ncolumns: [{{name: buyer, checks: [missing: ]}}]\nchecks: [row_count: ]\n"
"""A contract that README leaves to the reader."""
BUYERS = ("ann@example.com", "bob@example.com")


def orders():
    """An order every four hours of three days, of one buyer and then the other."""
    begin = datetime(2023, 12, 31, 23, tzinfo=UTC)  # midnight in Berlin
    for number in range(18):
        yield f"{number},{(begin + timedelta(hours=4 * number)).isoformat()},{BUYERS[number % 2]}\n"


@pytest.fixture
def settings(tmp_path):
    """A project of the shipped macros and profile, and of what README prints."""
    shipped, project, checks = PROJECT_DIR / "dbt_project", tmp_path / "dbt_project", tmp_path / "soda_checks"
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "first.csv").write_text("order_id,ordered_at,buyer\n" + "".join(orders()))
    shutil.copytree(shipped / "macros" / "groundwork", project / "macros" / "groundwork")
    for name in ("profiles.yml", "dbt_project.yml"):
        shutil.copy(shipped / name, project)
    staged, view = samples(HEADING, "sql")
    source, staged_sheet, view_sheet, contract, service = samples(HEADING, "yaml")
    source, moved = re.subn(r"(?<=uri: )\S+", str(tmp_path / "orders"), source)
    assert moved == 1
    for folder, name, text in (
        (project / "models" / "raw", "sources.yml", source),
        (project / "models" / "staged", "stg_orders.sql", staged),
        (project / "models" / "staged", "stg_orders.yml", staged_sheet),
        (project / "models" / "features", "buyer_activity.sql", view),
        (project / "models" / "features", "buyer_activity.yml", view_sheet),
        (project / "models" / "training", "churn.yml", service),
        (checks / "raw", "orders.yml", contract),
        (checks / "staged", "stg_orders.yml", LEAST.format("staged/stg_orders")),
        (checks / "features", "buyer_activity.yml", LEAST.format("features/buyer_activity")),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Settings(
        data_dir=tmp_path / "data",
        dbt_project_dir=project,
        soda_checks_dir=checks,
        clock="replay",
        replay_at=datetime(2024, 1, 4, tzinfo=UTC),
        duckdb_threads=1,
    )


def test_the_sample_project_lands_stages_checks_and_serves(settings):
    assert run_command(settings, FIRST, LAST, None, force=False) == 0, (
        settings.data_dir / "logs" / "run.log"
    ).read_text()[-4000:]
    asked = {"buyer": [*BUYERS, "eve@example.com"], "referred_by": [BUYERS[0]] * 3, "basket": [36.0] * 3}
    answer = (
        FeatureStore.open(settings).get_online_features("churn", asked, full_feature_names=True).to_dict()
    )
    assert answer == asked | {
        "buyer_activity__orders_7d": [9, 9, None],
        "referrer__orders_7d": [9, 9, 9],
        "basket_per_order": [4.0, 4.0, None],
    }


def test_a_clock_left_before_the_data_stops_the_load_and_says_what_to_set(settings):
    left = settings.model_copy(update={"replay_at": datetime(2014, 1, 1, 5, tzinfo=UTC)})
    with pytest.raises(DeclarationError) as refused:
        run_command(left, None, None, None, force=False)
    message = str(refused.value)
    assert (
        "models/raw/sources.yml: sources.raw.orders.config.meta.ingest.partition.start: found 2024-01-01"
        in message
    )
    assert "the replay clock, which is set to 2014-01-01 05:00 UTC: set GROUNDWORK_CLOCK=wall" in message


def test_a_mistake_is_told_as_printed(recorded):
    manifest = load_manifest(recorded.settings)
    (declared,) = [s for s in manifest["sources"].values() if s["name"] == "flights"]
    ingest = declared["config"]["meta"]["ingest"]
    ingest["formt"] = ingest.pop("format")
    with pytest.raises(DeclarationError) as refused:
        load_declarations(manifest)
    (printed,) = [sample for sample in samples(HEADING, "") if sample.startswith("Error: ")]
    told = " ".join(f"Error: {refused.value}".split())
    assert told.startswith(" ".join(printed.split()).removesuffix("..."))
