"""The catalog's triggers prevent wrong results of DuckLake, on both catalogs."""

from contextlib import closing
from datetime import timedelta

import duckdb
import pytest

from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.maintenance import maintain
from tests.integration.foundation.lakes import CATALOGS, bare_duckdb, settings_of, write_bare

NAN = "create table t as select case when i = 7 then 'nan'::double else 1.0 end as v from range(21) r(i)"


@pytest.mark.parametrize("catalog", CATALOGS)
def test_nan_is_found_by_every_reader_and_writer(catalog, tmp_path, request):
    of = settings_of(catalog, tmp_path, request)
    write_bare(of, [NAN])
    lakehouse = LakehouseResource.from_settings(of)
    query = "select count(*) from t where v <> 1.0"
    with closing(bare_duckdb(of)) as con:
        assert con.execute(query).fetchall() == [(0,)]  # Wrong without the triggers.
    with lakehouse.reader() as con:
        assert con.execute(query).fetchall() == [(1,)]
    with lakehouse.get_connection() as con:
        assert con.execute(query).fetchall() == [(1,)]
    with closing(bare_duckdb(of)) as con:
        con.execute("create table u as from t")
        assert con.execute(query.replace("from t", "from u")).fetchall() == [(1,)]


@pytest.mark.parametrize("catalog", CATALOGS)
def test_an_older_snapshot_reads_the_same_after_maintenance(catalog, tmp_path, request):
    lakehouse = LakehouseResource.from_settings(settings_of(catalog, tmp_path, request))
    with lakehouse.get_connection() as con:
        con.execute("create table t as select i::integer as i from range(1000) r(i)")
        (version,) = con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchall()[0]
        con.execute("delete from t where i >= 500")
    maintain(lakehouse, retention=timedelta(days=1))
    with lakehouse.reader() as con:
        old = f"select count(*), max(i) from t at (version => {version}) where i > 500"
        assert con.execute(old).fetchall() == [(499, 999)]
        assert con.execute("select min(i), max(i) from t").fetchall() == [(0, 499)]


@pytest.mark.parametrize("catalog", CATALOGS)
@pytest.mark.parametrize(
    "kind", ["hugeint", "uhugeint", "timetz", "interval", "struct(x hugeint)", "timetz[]"]
)
def test_a_type_that_files_alter_is_refused(catalog, kind, tmp_path, request):
    lakehouse = LakehouseResource.from_settings(settings_of(catalog, tmp_path, request))
    with (
        lakehouse.get_connection() as con,
        pytest.raises(duckdb.Error, match="expected a type that keeps its values"),
    ):
        con.execute(f"create table t (v {kind})")
