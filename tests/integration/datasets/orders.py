"""A lakehouse with a tiny training set, and versions made of it: what dbt and Dagster would tell is told by hand."""

from datetime import UTC, datetime, timedelta

from orchestration.declarations import TableMeta
from orchestration.declarations.tables import DeclaredColumn, Table
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.datasets.building import Told, build
from orchestration.learning.datasets.manifest import SplitRule
from orchestration.learning.datasets.recipe import Recipe
from orchestration.learning.datasets.store import DatasetStore
from orchestration.learning.datasets.version import DatasetVersion
from orchestration.settings import Settings

NAME = "returns"
MODEL = f"model.shop.{NAME}"
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
QUERY = """
with known as (select * from "lake"."staged"."orders")
select
    order_id, amount, note, ordered_at as prediction_at, amount > 50 as is_returned,
    ordered_at + interval '1 hour' as label_known_at,
    case when order_id % 10 < 6 then 'train' when order_id % 10 < 8 then 'validation' else 'test' end as split,
    ratio
from known
order by order_id
"""


def recipe(key=("order_id",), order=("split", "prediction_at", "order_id")):
    table = Table(
        unique_id=MODEL,
        layer="training",
        schema="training",
        name=NAME,
        description="Orders.",
        file="models/training/returns.yml",
        columns=(DeclaredColumn("order_id", "bigint", "Key.", "internal"),),
        tags=(),
        meta=TableMeta(owner="team:shop"),
        upstream=("model.shop.orders",),
    )
    return Recipe(
        table=table,
        key=key,
        order=order,
        window_column="label_known_at",
        partition=None,
        split=SplitRule(rule={"embargo": "PT1H"}),
        declared={"training_set": {"label": "is_returned"}},
        inputs={("staged", "orders"): True},
        sources={MODEL: "0" * 64},
        project="shop",
        dbt_manifest_sha256="1" * 64,
    )


class Orders:
    """The lakehouse below a folder, with the orders ``0`` to ``count``."""

    def __init__(self, folder, count=100, **settings):
        options = {"dataset_shard_rows": 4096, "dataset_row_group_rows": 2048, **settings}
        self.settings = Settings(
            data_dir=folder, dbt_project_dir=folder / "dbt_project", duckdb_threads=1, **options
        )
        self.lakehouse = LakehouseResource.from_settings(self.settings)
        self.lakehouse.setup_for_execution(None)  # one DuckDB, as in a run
        self.store = DatasetStore(self.settings.datasets_dir)
        self.query = QUERY
        if count:
            with self.lakehouse.get_connection() as con:
                con.execute("create schema if not exists lake.staged")
                con.execute("create schema if not exists lake.training")
                con.execute(
                    "create table lake.staged.orders as select range as order_id, range % 100 as amount, "
                    "case when range % 7 > 0 then 'note ' || range end as note, "
                    f"timestamptz '{NOON.isoformat()}' + interval (range % 50) hour as ordered_at, "
                    f"1 / (1 + range % 13) as ratio from range({count})"
                )
            self.train()

    def run(self, *statements):
        with self.lakehouse.get_connection() as con:
            for statement in statements:
                con.execute(statement)

    def train(self):
        """Make the training set what the orders give."""
        self.run(f"create or replace table lake.training.{NAME} as {self.query}")

    def append(self, first, count):
        """More orders, in the training set too, as a run over their days adds them."""
        self.run(
            "insert into lake.staged.orders select range, range % 100, null, "
            f"timestamptz '{(NOON + timedelta(days=9)).isoformat()}', 0.5 from range({first}, {first + count})",
            f"insert into lake.training.{NAME} from ({self.query}) where order_id >= {first}",
        )

    def build(self, of=None, **told):
        given = {
            "run_id": "run",
            "cutoff": NOON,
            "variables": {"shop": 1},
            "checks": (),
            "window": lambda since: None,
            "compiled": lambda ids, cutoff: {MODEL: self.query},
            **told,
        }
        return build(self.store, self.lakehouse, of or recipe(), Told(**given), self.settings)

    def version(self, version="latest"):
        return DatasetVersion.open(NAME, version, self.settings)

    def rows(self, sql):
        with self.lakehouse.reader() as con:
            return con.execute(sql).fetchall()
