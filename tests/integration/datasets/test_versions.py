"""A version says what it is, is found again, and is refused when it is not as it was written."""

import json
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from orchestration.lakehouse.maintenance import maintain
from orchestration.learning.datasets.comparing import compare
from orchestration.learning.datasets.loader import Loader
from orchestration.learning.datasets.manifest import DatasetError
from orchestration.learning.datasets.rebuilding import rebuild
from orchestration.learning.datasets.verifying import verify
from tests.integration.datasets.orders import MODEL, NAME, NOON, Orders, recipe


def test_a_version_holds_the_training_set_in_its_order_in_files_of_one_split_each(tmp_path):
    orders = Orders(tmp_path / "data", 12_000)
    made = orders.build().manifest
    version = orders.version(made.version[:4])
    assert version.read().to_pylist() == orders_in_order(orders)
    assert dict(made.splits) == {"train": 7200, "validation": 2400, "test": 2400}
    assert [(s.split, s.rows, s.row_groups) for s in made.shards] == [
        ("train", 4096, (2048, 2048)),
        ("train", 3104, (2048, 1056)),
        ("validation", 2400, (2400,)),
        ("test", 2400, (2400,)),
    ]
    metadata = pq.read_metadata(version.path / made.shards[0].path)
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert verify(orders.store, made, orders.settings) == []


def orders_in_order(orders):
    with orders.lakehouse.reader() as con:
        return con.execute(
            f"from training.{NAME} order by case split when 'train' then 0 when 'validation' then 1 else 2 end, "
            "prediction_at, order_id"
        ).to_arrow_table().to_pylist()  # fmt: skip


def test_a_manifest_says_what_the_version_was_made_from(orders):
    made = orders.build().manifest.built
    assert made.lake.snapshot == orders.rows("select max(snapshot_id) from ducklake_snapshots('lake')")[0][0]
    assert made.lake.inputs["staged.orders"].changed_at < made.lake.snapshot
    assert made.lake.inputs["staged.orders"].is_read
    assert made.models[MODEL].source_sha256 == "0" * 64
    assert made.variables == {"shop": 1, "training_cutoff": NOON.isoformat()}
    assert made.engine.settings["TimeZone"] == "UTC"
    assert made.git is None
    assert len(made.lock_sha256) == 64
    assert made.split.seed is None


def test_the_same_data_is_the_same_version_and_is_not_written_twice(orders):
    first = orders.build()
    file = first.path / first.manifest.shards[0].path
    written = file.stat().st_mtime_ns
    assert first.how == "written"
    again = orders.build(compiled=None)  # nothing is compiled: the log of builds tells
    assert (again.how, again.manifest.version) == ("same snapshot", first.manifest.version)
    orders.run(f"delete from lake.training.{NAME} where order_id = 3")
    orders.run(f"insert into lake.training.{NAME} from ({orders.query}) where order_id = 3")
    moved = orders.build()
    assert (moved.how, moved.manifest.version) == ("same content", first.manifest.version)
    assert file.stat().st_mtime_ns == written
    assert {f.name for f in first.path.parent.iterdir()} == {".lock", "builds.jsonl", first.path.name}
    builds = orders.store.builds(NAME)
    assert [build.is_new for build in builds] == [True, False, False]
    assert builds[2].built.lake.snapshot > builds[0].built.lake.snapshot
    assert (
        Orders(orders.settings.data_dir.parent / "other").build().manifest.version == first.manifest.version
    )


def test_a_damaged_version_is_written_anew(orders):
    made = orders.build()
    (made.path / "part-00000.parquet").unlink()
    again = orders.build()
    assert (again.how, again.manifest.version) == ("written", made.manifest.version)
    assert verify(orders.store, again.manifest, orders.settings) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("delete from {t}", "found no row, expected a training set"),
        (
            "insert into {t} from {t} limit 1",
            "key order_id: found 100 values, and 0 rows without any, in 101",
        ),
        ("update {t} set order_id = null where order_id = 5", "and 1 rows without any"),
        ("drop table {t}", "found no table in the lakehouse"),
    ],
)
def test_what_cannot_be_a_version_is_refused_and_leaves_nothing(orders, change, message):
    orders.run(change.format(t=f"lake.training.{NAME}"))
    with pytest.raises(DatasetError, match=message):
        orders.build()
    assert {file.name for file in (orders.store.root / NAME).iterdir()} == {".lock"}


def test_without_a_key_rows_are_ordered_by_all_columns(orders):
    orders.run(f"insert into lake.training.{NAME} from lake.training.{NAME} limit 1")
    names = orders.rows(f"select list(column_name) from (describe training.{NAME})")[0][0]
    of = recipe(key=(), order=tuple(dict.fromkeys(["split", "prediction_at", *names])))
    first = orders.build(of).manifest
    assert first.rows == 101
    orders.train()
    second = orders.build(of).manifest
    assert compare(orders.store, first, second, orders.settings).rows.removed == 1


def test_versions_are_meant_by_their_beginning_or_as_the_latest(orders):
    first = orders.build().manifest.version
    orders.append(100, 50)
    second = orders.build().manifest.version
    assert orders.version().version == second
    assert orders.version(first[:6]).version == first
    with pytest.raises(DatasetError, match="returns@zz: found none, expected latest"):
        orders.version("zz")
    with pytest.raises(DatasetError, match="returns@: found none"):
        orders.version("")
    with pytest.raises(DatasetError, match=r"nothing: found no version .* expected one of returns"):
        orders.store.resolve("nothing")
    orders.run(f"delete from lake.training.{NAME} where order_id >= 100")
    assert orders.build().manifest.version == first
    assert orders.version().version == first  # what the training set is now


def test_reading_gives_the_split_and_columns_that_are_asked_for(orders):
    orders.build()
    version = orders.version()
    table = version.read("validation", ["note", "amount"])
    assert table.column_names == ["note", "amount"]
    assert table.num_rows == 20
    assert version.read(["train", "test"]).num_rows == 80
    with pytest.raises(DatasetError, match="split: found later, expected one of train, validation, test"):
        version.read("later")
    with pytest.raises(DatasetError, match="columns: found price, expected some of order_id, amount"):
        version.read(columns=["price"])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def cut(path):
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-100])


def edit(path):
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"run_id": "run"', '"run_id": "fun"'))


@pytest.mark.parametrize(
    ("damage", "file", "message", "readable"),
    [
        (flip, "part-00000.parquet", "found SHA-256", False),
        (cut, "part-00000.parquet", "bytes, expected", False),
        (lambda path: path.unlink(), "part-00000.parquet", "found no file", False),
        (edit, "manifest.json", "as logged", True),
        (flip, "query.sql", "query.sql: found SHA-256", True),
        (lambda path: path.write_text("-"), "note.txt", "a file that the manifest does not name", True),
    ],
)
def test_damage_is_found_and_refused(orders, damage, file, message, readable):
    made = orders.build()
    orders.version().read("train")  # a file that was whole once is looked at again once it has changed
    damage(made.path / file)
    (fault,) = verify(orders.store, orders.store.manifest(NAME, made.manifest.version), orders.settings)
    assert message in fault
    if readable:
        assert orders.version().read("train").num_rows == 60
        return
    for read in (lambda v: v.read("train"), lambda v: list(Loader(v))):
        with pytest.raises(DatasetError, match=message):
            read(orders.version())


def test_a_manifest_that_is_none_says_so(orders):
    made = orders.build()
    file = made.path / "manifest.json"
    file.chmod(0o644)
    for text, message in (("{", "found no JSON object"), ('{"format": 9}', "format: found 9, expected 1"),
                          ('{"format": 1, "dataset": 3}', "dataset: Input should be")):  # fmt: skip
        file.write_text(text)
        with pytest.raises(DatasetError, match=message):
            orders.version()


def test_a_version_is_rebuilt_the_same_after_its_tables_have_moved_on(orders):
    first = orders.build().manifest
    orders.append(100, 50)
    orders.run(
        "update lake.staged.orders set amount = 0 where order_id < 10",
        "alter table lake.staged.orders drop ratio",
    )
    maintain(orders.lakehouse, retention=timedelta(days=30), safe_age=timedelta(0))
    found = rebuild(orders.store, orders.lakehouse, first)
    assert found.equal
    assert (found.content_hash, found.count) == (first.content_hash, 100)


def test_a_rebuild_that_comes_out_otherwise_names_the_rows(orders):
    orders.run(
        f"update lake.training.{NAME} set note = 'by hand', amount = 1 where order_id = 42",
        f"delete from lake.training.{NAME} where order_id = 7",
    )
    found = rebuild(orders.store, orders.lakehouse, orders.build().manifest)
    assert not found.equal
    rows = found.rows
    assert (rows.added, rows.removed, rows.changed) == (1, 0, 1)
    assert dict(rows.columns) == {"amount": 1, "note": 1}
    assert rows.samples["added"] == [{"key": {"order_id": "7"}}]
    assert rows.samples["changed"] == [{"key": {"order_id": "42"}, "columns": ["amount", "note"]}]


def test_a_rebuild_leaves_out_what_was_never_built(orders):
    orders.run(f"delete from lake.training.{NAME} where label_known_at >= timestamptz '2024-01-02T00:00:00Z'")
    from orchestration.learning.datasets.manifest import Window  # noqa: PLC0415

    window = Window(column="label_known_at", spans=((NOON, NOON + timedelta(hours=12)),))
    made = orders.build(window=lambda since: window).manifest
    assert rebuild(orders.store, orders.lakehouse, made).equal


def test_a_snapshot_that_is_gone_or_sql_that_is_another_is_told(orders):
    first = orders.build()
    orders.append(100, 50)
    maintain(orders.lakehouse, retention=timedelta(0), safe_age=timedelta(0))
    message = rf"found no snapshot {first.manifest.built.lake.snapshot} in the lakehouse, .* has been expired"
    with pytest.raises(DatasetError, match=message):
        rebuild(orders.store, orders.lakehouse, first.manifest)
    flip(first.path / "query.sql")
    with pytest.raises(DatasetError, match=r"query\.sql: found another text"):
        rebuild(orders.store, orders.lakehouse, first.manifest)


def test_a_difference_tells_rows_columns_and_inputs(orders):
    first = orders.build().manifest
    orders.append(100, 50)
    orders.run(
        f"delete from lake.training.{NAME} where order_id in (1, 2)",
        f"update lake.training.{NAME} set ratio = 0.25 where order_id = 8",
        f"alter table lake.training.{NAME} drop note",
        f"alter table lake.training.{NAME} add column is_gift boolean",
    )
    second = orders.build(cutoff=NOON + timedelta(days=1), compiled=lambda *_: {MODEL: "select 1"}).manifest
    found = compare(orders.store, first, second, orders.settings)
    assert not found.same_content
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (50, 2, 1)
    assert dict(found.rows.columns) == {"ratio": 1}
    assert {(c.what, c.before, c.after) for c in found.columns} == {
        ("note", "VARCHAR", None),
        ("is_gift", None, "BOOLEAN"),
    }
    assert [c.what for c in found.made_from] == [
        "lakehouse snapshot",
        "input staged.orders",
        f"SQL of {MODEL}",
        "variable training_cutoff",
    ]
    same = compare(orders.store, first, first, orders.settings)
    assert (same.same_content, same.rows.equal, same.made_from) == (True, True, [])


def test_a_line_of_the_log_that_was_not_finished_is_passed_over(orders):
    made = orders.build().manifest
    with (orders.store.root / NAME / "builds.jsonl").open("a") as log:
        log.write('{"version": "12')
    assert len(orders.store.builds(NAME)) == 1
    orders.build()
    assert [build.version for build in orders.store.builds(NAME)] == [made.version] * 2


def test_what_is_listed_can_be_read_by_any_json_reader(orders):
    made = orders.build()
    said = json.loads((made.path / "manifest.json").read_text())
    assert said["version"] == made.manifest.version
    assert said["built"]["lake"]["inputs"]["staged.orders"]["is_read"]
