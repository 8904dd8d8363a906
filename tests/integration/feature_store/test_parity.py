"""What is served at a moment is what a training set, built later, has for that moment: the same bits."""

import random

import pyarrow as pa
import pytest

from orchestration.feature_store.offline import get_historical_features
from orchestration.feature_store.online.materialization import materialize
from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.parity import compare_answers
from orchestration.lakehouse import LakehouseResource
from orchestration.settings import Clock, Settings
from tests.integration.feature_store import week

REFERENCES = [f"{view}:*" for view in week.VIEWS]
MOMENTS = 20


@pytest.fixture
def lakehouse(tmp_path):
    lakehouse = LakehouseResource.from_settings(Settings(data_dir=tmp_path / "data", duckdb_threads=1))
    # As a run does: what is open is shared.
    lakehouse.setup_for_execution(None)
    yield lakehouse
    lakehouse.teardown_after_execution(None)


def test_a_week_of_moments_online_and_offline(lakehouse, any_store):
    chance = random.Random(20)
    rows = week.make_rows(chance, 400)
    moments = week.make_moments(chance, rows, MOMENTS)
    asked = list(week.entities())
    served, spine, left = [], [], list(rows)
    with week.open_lake(lakehouse) as con:
        for number, moment in enumerate(moments):
            due = [row for row in left if row.delivered_at <= moment]
            left = left[len(due) :]
            week.insert(con, due)
            for view in week.VIEWS.values():
                materialize(lakehouse, any_store, view, moment)
            reader = OnlineReader(week.CATALOG, any_store, Clock(moment))
            here = [{**entity, "load": number / 7, "asked_at": moment} for entity in asked]
            served.append((
                reader.get_online_features(REFERENCES, here, full_feature_names=True),
                reader.get_online_features("pumping", here, full_feature_names=True),
            ))  # fmt: skip
            spine += here
        columns = {name: [row[name] for row in spine] for name in spine[0]}
        asked_at = pa.array(columns.pop("asked_at"), pa.timestamp("us", "UTC"))
        entity_df = pa.table({**columns, "asked_at": asked_at})
        for place, features in enumerate((REFERENCES, "pumping")):
            offline = get_historical_features(
                week.CATALOG, lakehouse, entity_df, features, event_timestamp="asked_at", full_feature_names=True,
            ).to_arrow()  # fmt: skip
            names = [name for name in offline.column_names if name not in spine[0]]
            found = compare_answers(offline.select(names), [pair[place] for pair in served])
            assert found.differing == {}
            assert found.compared == len(names) * MOMENTS * len(asked)
            # Enough of it is there for this to mean something.
            assert all(1 - column.null_count / len(column) > 0.1 for column in offline.select(names).columns)
