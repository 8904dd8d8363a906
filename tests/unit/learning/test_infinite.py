"""An infinite number in an input is refused by name or counts as missing, as declared, in every path."""

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.declarations import Algorithm, DeclarationError
from orchestration.learning.contest import hold_contest
from orchestration.learning.encoding import EncodedColumn, InfiniteValueError, MatrixEncoding
from orchestration.learning.infinite import InfiniteFeatureError
from orchestration.learning.model import opened
from orchestration.learning.training import part_rows, train
from tests.model_works import CODE, Rows, make_rows, make_spec, silent

ROWS = make_rows()
QUICK = Algorithm(name="logistic_regression", rounds=20)


def with_infinite(rows: pa.Table, column: str, places: list[int], value: float = math.inf) -> pa.Table:
    values = rows.column(column).to_pylist()
    for place in places:
        values[place] = value
    at = rows.column_names.index(column)
    return rows.set_column(at, column, pa.array(values, rows.schema.field(column).type))


def test_infinite_features_are_refused_with_view_column_rows_and_keys_before_training(tmp_path: Path) -> None:
    rows = with_infinite(ROWS, "pressure__mean", [5, 6, 7], -math.inf)
    rows = with_infinite(rows, "shortage", [9])
    said: list[str] = []
    with pytest.raises(InfiniteFeatureError) as refused:
        train(make_spec(), Rows(rows), tmp_path, CODE, said.append)
    message = str(refused.value)
    assert "low_pressure: dataset version d0: found infinite values of pressure:mean" in message
    assert "(column pressure__mean) in 3 rows, infinite values of shortage in 1 row" in message
    pump, at = (rows.column(name)[5].as_py() for name in ("pump", "prediction_at"))
    assert f"pressure__mean, such as pump {pump}, prediction_at {at}; " in message
    assert "exposures.low_pressure.config.meta.model.infinite: null" in message
    assert said == []
    assert list(tmp_path.iterdir()) == []


def test_keys_that_are_classified_are_not_shown(tmp_path: Path) -> None:
    spec = make_spec()
    hidden = spec.table.column("pump")
    object.__setattr__(hidden, "classification", "personal")
    with pytest.raises(InfiniteFeatureError) as refused:
        train(spec, Rows(with_infinite(ROWS, "pressure__mean", [5])), tmp_path, CODE, silent)
    assert "such as prediction_at" in str(refused.value)
    assert "pump " not in str(refused.value)


@pytest.mark.parametrize("written", ["null", None])  # YAML parses a bare null as None.
def test_declared_as_null_an_infinite_value_is_a_missing_one(tmp_path: Path, written: str | None) -> None:
    spec = make_spec(infinite=written)
    assert spec.declared.infinite == "null"
    places = [*range(0, ROWS.num_rows, 3)]
    infinite = with_infinite(ROWS, "pressure__mean", places)
    missing = with_infinite(ROWS, "pressure__mean", places, None)  # type: ignore[arg-type]
    made = [
        train(spec, Rows(rows), tmp_path / str(n), CODE, silent, algorithm=QUICK)
        for n, rows in enumerate((infinite, missing))
    ]
    (artifact, parts), (other, others) = made
    assert artifact.files["model.json"] == other.files["model.json"]
    assert artifact.manifest["profile"] == other.manifest["profile"]
    scorer = opened(artifact).scorer
    assert np.array_equal(scorer.score(parts.evaluation.rows), scorer.score(others.evaluation.rows))


def test_another_treatment_is_refused_when_definitions_load() -> None:
    with pytest.raises(
        DeclarationError, match=r"model\.infinite: found 'ignore', expected 'reject' or 'null'"
    ):
        make_spec(infinite="ignore")


def test_a_champion_that_rejects_infinite_values_blocks_no_challenger(tmp_path: Path) -> None:
    champion = opened(train(make_spec(), Rows(ROWS), tmp_path, CODE, silent, algorithm=QUICK)[0])
    spec = make_spec(infinite="null")
    rows = with_infinite(ROWS, "pressure__mean", [ROWS.num_rows - 60])
    artifact, parts = train(spec, Rows(rows), tmp_path, CODE, silent, algorithm=QUICK)
    contest = hold_contest(spec, parts.evaluation, opened(artifact), champion, lambda: champion)
    assert np.isfinite(contest.opponent.scores).all()


NUMBERS: dict[pa.DataType, Any] = {
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.decimal128(38, 9): st.decimals(-(10**28), 10**28, places=9),
}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tables_and_values_become_the_same_bits_with_each_treatment(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(NUMBERS)))
    values = data.draw(st.lists(st.none() | NUMBERS[kind], min_size=1, max_size=6))
    infinite = data.draw(st.sampled_from(["reject", "null"]))
    encoding = MatrixEncoding((EncodedColumn("n", "number"),), infinite)
    encoding = MatrixEncoding.from_text(encoding.to_text())
    table = pa.table({"n": pa.array(values, kind)})
    plain = [
        v if not isinstance(v, float) else float(np.float32(v)) if kind == pa.float32() else v for v in values
    ]
    count = sum(isinstance(v, float) and math.isinf(v) for v in values)
    if count and infinite == "reject":
        for encode in (
            lambda: encoding.matrix(table),
            lambda: encoding.matrix_of_values({"n": plain}, len(plain)),
        ):
            with pytest.raises(InfiniteValueError) as refused:
                encode()
            assert refused.value.rows == {"n": count}
        return
    matrix = encoding.matrix(table)
    assert matrix.tobytes() == encoding.matrix_of_values(
        {"n": plain}, len(plain)
    ).tobytes() or _only_nans_differ(matrix, encoding.matrix_of_values({"n": plain}, len(plain)))
    for value, found in zip(values, matrix[:, 0], strict=True):
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            assert math.isnan(found)
        elif not isinstance(value, Decimal):
            assert found == float(value)  # The nearest double.
        else:
            assert found == pytest.approx(float(value), rel=1e-15)


def _only_nans_differ(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other, equal_nan=True))


def test_parts_without_infinite_values_are_not_read_twice(tmp_path: Path) -> None:
    class Counting(Rows):
        reads = 0

        def read(self, *, columns: Any = None) -> pa.Table:
            type(self).reads += 1
            return super().read(columns=columns)

    train(make_spec(), Counting(ROWS), tmp_path, CODE, silent, algorithm=QUICK)
    assert Counting.reads == 1
    assert part_rows(make_spec(), ROWS).train.rows.num_rows
