"""If a model's columns change, its table is altered without changing a value, or is left as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.transformation.changing_models import Model, Outcome, Project

ROWS = "(values (1, 4.43), (2, -0.07), (3, null)) as t (k, v)"
SELECT = f"select cast(k as integer) as k, cast(v as %s) as v from {ROWS}"


def model(name: str, data_type: str, **more: object) -> Model:
    return Model(name, SELECT % data_type, {"k": "integer", "v": data_type}, **more)


def nested(name: str, data_type: str, value: str) -> Model:
    return Model(name, f"select 1 as k, cast({value} as {data_type}) as v", {"k": "integer", "v": data_type})


HISTORY = {"incremental_strategy": "history", "unique_key": ["k", "seen_at"]}


def version(name: str, data_type: str) -> Model:
    sql = f"select 1 as k, timestamptz '2024-01-01 00:00:00+00' as seen_at, cast(4.43 as {data_type}) as v"
    return Model(name, sql, {"k": "integer", "seen_at": "timestamptz", "v": data_type}, HISTORY)


MERGE = {"incremental_strategy": "merge"}
IGNORE = {"on_schema_change": "ignore", "contract": {"enforced": False}}
DELETE_INSERT = {"incremental_strategy": "delete+insert"}
RENAMED = Model(
    "renamed", f"select k::integer as k, v::integer as w from {ROWS}", {"k": "integer", "w": "integer"}
)
REMOVED = Model("removed", f"select cast(k as integer) as k from {ROWS}", {"k": "integer"})

REFUSED = {
    # The model before, the model after, and a part of the message.
    "decimals_in_integer": (
        model("decimals_in_integer", "integer"),
        model("decimals_in_integer", "decimal(6, 2)"),
        "v: found integer in the table, and decimal(6,2)",
    ),
    "double_in_integer": (
        model("double_in_integer", "integer"),
        model("double_in_integer", "float"),
        "v: found integer in the table, and float",
    ),
    "double_in_decimal": (
        model("double_in_decimal", "decimal(4,1)"),
        model("double_in_decimal", "double"),
        "v: found decimal(4,1) in the table, and double",
    ),
    "narrower": (model("narrower", "bigint"), model("narrower", "integer"), "v: found bigint"),
    "fewer_digits": (
        model("fewer_digits", "decimal(6,2)"),
        model("fewer_digits", "decimal(7,4)"),
        "v: found decimal(6,2) in the table, and decimal(7,4)",
    ),
    "text": (
        model("text", "integer"),
        model("text", "varchar"),
        "v: found integer in the table, and varchar",
    ),
    "renamed": (model("renamed", "integer"), RENAMED, "v: found integer in the table, and no such column"),
    "removed": (model("removed", "integer"), REMOVED, "v: found integer in the table, and no such column"),
    "a_struct": (
        nested("a_struct", "struct(a integer)", "{'a': 1}"),
        nested("a_struct", "struct(a double)", "{'a': 1}"),
        "v: found struct(a integer) in the table, and struct(a double)",
    ),
    "a_list": (
        nested("a_list", "integer[]", "[1]"),
        nested("a_list", "double[]", "[1]"),
        "v: found integer[] in the table, and double[]",
    ),
    "a_map": (
        nested("a_map", "map(varchar, integer)", "map {'a': 1}"),
        nested("a_map", "map(varchar, smallint)", "map {'a': 1}"),
        "v: found map(varchar, integer)",
    ),
    "not_null_now": (
        model("not_null_now", "integer"),
        model("not_null_now", "integer").changed(not_null=["k"]),
        "k: found nulls allowed in the table",
    ),
    "slowly_changing": (
        version("slowly_changing", "integer"),
        version("slowly_changing", "decimal(6,2)"),
        "deletes the versions",
    ),
    "merged": (
        model("merged", "integer", config=MERGE),
        model("merged", "decimal(6,2)", config=MERGE),
        "v: found integer",
    ),
    "deleted_and_inserted": (
        model("deleted_and_inserted", "integer", config=DELETE_INSERT),
        model("deleted_and_inserted", "decimal(6,2)", config=DELETE_INSERT),
        "v: found integer",
    ),
    "columns_ignored": (
        model("columns_ignored", "integer", config=IGNORE),
        Model(
            "columns_ignored",
            f"select k::integer as k, v::integer as v, 1 as more from {ROWS}",
            {"k": "integer", "v": "integer", "more": "integer"},
            IGNORE,
        ),
        "more: found no such column in the table",
    ),
}
SHEET_ONLY = model("sheet_only", "integer", config={"contract": {"enforced": False}})
ALTERED = {
    "wider_integer": (model("wider_integer", "smallint"), model("wider_integer", "bigint")),
    "wider_decimal": (model("wider_decimal", "decimal(4,1)"), model("wider_decimal", "decimal(8,2)")),
    "integer_to_decimal": (
        model("integer_to_decimal", "integer"),
        model("integer_to_decimal", "decimal(12,2)"),
    ),
    "integer_to_double": (model("integer_to_double", "integer"), model("integer_to_double", "double")),
    "wider_in_history": (version("wider_in_history", "integer"), version("wider_in_history", "bigint")),
    "nullable_now": (
        model("nullable_now", "integer").changed(not_null=["k"]),
        model("nullable_now", "integer"),
    ),
    "one_more": (
        model("one_more", "integer"),
        Model(
            "one_more",
            f"select k::integer as k, v::integer as v, 'x' as more from {ROWS}",
            {"k": "integer", "v": "integer", "more": "varchar"},
        ),
    ),
}


@dataclass(frozen=True)
class Changed:
    """A project whose models were all built, then changed and run again."""

    project: Project
    before: Mapping[str, list[tuple[object, ...]]]
    types: Mapping[str, Mapping[str, str]]
    outcomes: Mapping[str, Outcome]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    project = Project(tmp_path_factory.mktemp("changed"))
    project.write(*(before for before, *_ in (*REFUSED.values(), *ALTERED.values())), SHEET_ONLY)
    first = project.run()
    assert not [o for o in first.values() if o.status != "success"]
    before = {name: project.rows(f"from staged.{name} order by k") for name in first}
    types = {name: project.types(f"staged.{name}") for name in first}
    after = [after for _, after, *_ in (*REFUSED.values(), *ALTERED.values())]
    project.write(*after, SHEET_ONLY.changed(sql=SELECT % "decimal(6,2)"))
    return Changed(project, before, types, project.run())


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_could_alter_values_is_refused_before_anything_is_written(
    changed: Changed, name: str
) -> None:
    found = changed.outcomes[name]
    assert found.status == "error"
    assert REFUSED[name][2] in found.message
    assert f"models/staged/{name}.sql" in found.message
    assert f"groundwork run --full-refresh --select key:staged/{name}" in found.message
    assert changed.project.rows(f"from staged.{name} order by k") == changed.before[name]
    assert changed.project.types(f"staged.{name}") == changed.types[name]


@pytest.mark.parametrize("name", ALTERED)
def test_a_wider_type_alters_the_table(changed: Changed, name: str) -> None:
    assert changed.outcomes[name].status == "success", changed.outcomes[name].message
    after = ALTERED[name][1]
    types = changed.project.types(f"staged.{name}")
    expected = {c: t.replace("timestamptz", "timestamp with time zone") for c, t in after.columns.items()}
    assert types == expected
    select = after.sql
    assert changed.project.rows(f"from staged.{name} order by k") == changed.project.rows(
        f"from ({select}) order by k"
    )


def test_types_of_sql_and_yaml_are_compared_without_dbt_contracts_too(changed: Changed) -> None:
    found = changed.outcomes["sheet_only"]
    assert found.status == "error"
    assert "DECIMAL(6,2)" in found.message
    assert "INTEGER" in found.message
    assert changed.project.rows("from staged.sheet_only order by k") == changed.before["sheet_only"]


def test_an_unchanged_model_writes_nothing_after_its_table_was_altered(changed: Changed) -> None:
    project = changed.project
    project.write(*(after for _, after in ALTERED.values()))
    newest = "select max(snapshot_id) from ducklake_snapshots('lake')"
    before = project.rows(newest)
    assert {o.status for o in project.run().values()} == {"success"}
    assert project.rows(newest) == before


def test_a_full_refresh_builds_the_table_with_its_new_types(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(model("m", "integer"))
    project.run()
    project.write(model("m", "decimal(6,2)"))
    assert project.run()["m"].status == "error"
    assert project.run("--full-refresh")["m"].status == "success"
    assert project.types("staged.m")["v"] == "decimal(6,2)"
    assert [str(v) for _, v in project.rows("from staged.m order by k")] == ["4.43", "-0.07", "None"]
