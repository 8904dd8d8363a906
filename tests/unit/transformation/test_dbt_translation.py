"""The pure parts: arguments, specs, what to repeat, what to say."""

import os
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.declarations import DeclarationError, Declarations, Table, TableMeta, load_declarations
from orchestration.partitions import Window
from orchestration.settings import Settings
from orchestration.transformation.environment import applied, dbt_environment
from orchestration.transformation.facts import compiled_path
from orchestration.transformation.outcomes import Outcome, failure_message, to_repeat
from orchestration.transformation.selection import select_args, window_vars
from orchestration.transformation.specs import check_specs, code_version, parents


def node(kind: str, name: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {
        "unique_id": f"{kind}.p.{name}",
        "resource_type": kind,
        "name": name,
        "package_name": "p",
        "fqn": ["p", "staged", name],
        "original_file_path": f"models/staged/{name}.sql",
        "path": f"staged/{name}.sql",
        "config": {"materialized": "table", "severity": "ERROR"},
        "depends_on": {"nodes": list(depends_on), "macros": []},
        "raw_code": f"select '{name}'",
        "checksum": {"checksum": name},
    } | more


def manifest(*nodes: dict[str, Any]) -> dict[str, Any]:
    children: dict[str, list[str]] = {n["unique_id"]: [] for n in nodes}
    for n in nodes:
        for parent in n["depends_on"]["nodes"]:
            children.setdefault(parent, []).append(n["unique_id"])
    return {"nodes": {n["unique_id"]: n for n in nodes}, "sources": {}, "macros": {}, "child_map": children}


def table(name: str, *upstream: str) -> Table:
    meta = TableMeta(owner="team:x")
    return Table(f"model.p.{name}", "staged", "staged", name, "", "f.yml", (), (), meta, upstream)


A, B, C = node("model", "a"), node("model", "b", "model.p.a"), node("model", "c", "model.p.b")
TEST_A = node("test", "t", "model.p.a")


def ended(unique_id: str, status: str, message: str = "") -> Outcome:
    return Outcome(unique_id, status, message, f"models/{unique_id}.sql")


LOCKED = "TransactionContext Error: Failed to commit: database is locked"


def test_only_what_a_conflict_stopped_runs_again() -> None:
    d = node("model", "d")
    graph = manifest(A, B, C, d, node("model", "e", "model.p.d"))
    outcomes = [
        ended("model.p.a", "error", LOCKED),
        ended("model.p.b", "skipped"),
        ended("model.p.c", "skipped"),
        ended("model.p.d", "error", "Binder Error"),
        ended("model.p.e", "skipped"),
    ]
    assert to_repeat(graph, outcomes) == ["model.p.a", "model.p.b", "model.p.c"]
    assert (
        to_repeat(graph, [ended("model.p.d", "error", "Binder Error"), ended("model.p.e", "skipped")]) == []
    )


def test_what_a_failed_test_stopped_stays_stopped() -> None:
    d = node("model", "d")
    outcomes = [
        ended("test.p.t", "fail", "Got 1 result"),
        ended("model.p.b", "skipped"),
        ended("model.p.c", "skipped"),
        ended("model.p.d", "error", LOCKED),
    ]
    assert to_repeat(manifest(A, B, C, TEST_A, d), outcomes) == ["model.p.d"]


def test_a_failure_names_node_file_and_reason() -> None:
    message = failure_message(
        [ended("model.p.a", "success"), ended("model.p.b", "error", "no such column\n  x")], None
    )
    assert message == (
        "1 of 2 dbt nodes failed:\n  model.p.b (models/model.p.b.sql): error\n    no such column\n      x"
    )


def test_a_selection_is_exact() -> None:
    assert select_args(manifest(A, B), ["model.p.b"]) == [
        *("--select", "fqn:p.staged.b"),
        *("--indirect-selection", "empty"),
    ]


def test_a_window_becomes_both_vars_or_none() -> None:
    window = Window(datetime(2024, 3, 10, 5, tzinfo=UTC), datetime(2024, 3, 11, 4, tzinfo=UTC))
    assert window_vars(window) == {
        "partition_start": "2024-03-10T05:00:00+00:00",
        "partition_end": "2024-03-11T04:00:00+00:00",
    }
    assert window_vars(None) == {}


def test_lineage_looks_through_ephemeral_models() -> None:
    passing = node("model", "b", "model.p.a", config={"materialized": "ephemeral"})
    graph = manifest(A, passing, C)
    tables = {t.unique_id: t for t in (table("a"), table("b", "model.p.a"), table("c", "model.p.b"))}
    assert [t.name for t in parents(graph, Declarations(tables), "model.p.c")] == ["a"]


def test_a_code_version_follows_sql_config_and_the_projects_macros() -> None:
    uses = node("model", "a", depends_on={"nodes": [], "macros": ["macro.p.m", "macro.dbt.m"]})
    graph = manifest(uses) | {
        "macros": {
            "macro.p.m": {"package_name": "p", "macro_sql": "1"},
            "macro.dbt.m": {"package_name": "dbt", "macro_sql": "1"},
        }
    }
    version = code_version(graph, "model.p.a")

    def changed(*path: str, to: Any) -> bool:
        other = deepcopy(graph)
        place: Any = other
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to
        return code_version(other, "model.p.a") != version

    assert changed("nodes", "model.p.a", "raw_code", to="select 2")
    assert changed("nodes", "model.p.a", "config", "materialized", to="view")
    assert changed("macros", "macro.p.m", "macro_sql", to="2")
    assert not changed("macros", "macro.dbt.m", "macro_sql", to="2")
    assert not changed("nodes", "model.p.a", "config", "meta", to={"owner": "team:y"})


def declared(*tables: Table) -> Declarations:
    return Declarations({t.unique_id: t for t in tables})


@pytest.mark.parametrize(
    "depends_on", [("model.p.a", "model.p.b"), ("source.p.raw.x",)], ids=["two tables", "a source"]
)
def test_a_test_that_would_never_run_is_refused(depends_on: tuple[str, ...]) -> None:
    graph = manifest(A, B, node("test", "t", *depends_on))
    with pytest.raises(DeclarationError, match=r"models/staged/t\.sql: t: found a test of"):
        check_specs(graph, declared(table("a"), table("b")), [table("a")])


def test_a_test_of_two_tables_may_say_whose_it_is() -> None:
    meta = {"meta": {"dagster": {"ref": {"name": "b"}}}, "severity": "warn"}
    graph = manifest(A, B, node("test", "t", "model.p.a", "model.p.b", config=meta))
    [spec] = check_specs(graph, declared(table("a"), table("b")), [table("a"), table("b")])
    assert spec.key == dg.AssetCheckKey(dg.AssetKey(["staged", "b"]), "t")
    assert not spec.blocking
    assert [d.asset_key for d in spec.additional_deps] == [dg.AssetKey(["staged", "a"])]


def test_compiled_sql_of_a_yaml_test_is_in_a_folder_named_like_the_file() -> None:
    test = TEST_A | {"original_file_path": "models/staged/a.yml", "path": "t.sql"}
    assert compiled_path(Path("x"), TEST_A) == Path("x/compiled/p/models/staged/t.sql")
    assert compiled_path(Path("x"), test) == Path("x/compiled/p/models/staged/a.yml/t.sql")


def test_settings_choose_the_target_and_secrets_carry_the_masking_prefix(tmp_path: Path) -> None:
    plain = dbt_environment(Settings(data_dir=tmp_path))
    assert plain["GROUNDWORK_DBT_TARGET"] == "sqlite"
    assert plain["GROUNDWORK_LAKE_DATA_PATH"] == f"{tmp_path}/lake/files/"
    full = dbt_environment(
        Settings(
            data_dir=tmp_path,
            lake_catalog_postgres="password=hunter2",
            lake_data_path="s3://bucket/lake",
            s3_secret_access_key="hunter2",
            duckdb_threads=3,
        )
    )
    assert full["GROUNDWORK_DBT_TARGET"] == "postgres_s3"
    assert full["GROUNDWORK_DUCKDB_THREADS"] == "3"
    assert {name for name, value in full.items() if "hunter2" in value} == {
        "DBT_ENV_SECRET_LAKE_CATALOG_POSTGRES",
        "DBT_ENV_SECRET_S3_SECRET_ACCESS_KEY",
    }


def test_variables_are_put_back_even_after_an_exception() -> None:
    before = dict(os.environ)
    with pytest.raises(RuntimeError), applied({"HOME": "elsewhere", "GROUNDWORK_NEW": "1"}):
        assert os.environ["HOME"] == "elsewhere"
        raise RuntimeError
    assert dict(os.environ) == before


def test_a_seed_nobody_uses_and_a_snapshot_are_refused() -> None:
    seed, snapshot = node("seed", "codes"), node("snapshot", "history")
    seed["columns"] = {}
    with pytest.raises(DeclarationError) as raised:
        load_declarations(manifest(seed, snapshot))
    assert [fault.split(", expected")[0] for fault in raised.value.faults] == [
        "models/staged/codes.sql: found a seed that no model uses",
        "models/staged/history.sql: found a snapshot",
    ]
