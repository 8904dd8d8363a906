"""A model is trained on what was known, the same bits each time, and read back as it was written."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from orchestration.declarations import Algorithm, OperatingPoint
from orchestration.learning.algorithms import ALGORITHMS
from orchestration.learning.artifact import CorruptArtifactError
from orchestration.learning.calibration import Calibration, fit_calibration
from orchestration.learning.encoding import MatrixEncoding, fit_encoding
from orchestration.learning.model import load_model, opened
from orchestration.learning.parameters import PARAMETERS
from orchestration.learning.profile import ColumnProfile, profile_number
from orchestration.learning.splitting import SplitError, days_of, newest_label, select, windows
from orchestration.learning.training import part_rows, slices_of, threshold_of, train
from orchestration.monitoring.reference import read_reference
from orchestration.settings import PROJECT_DIR
from tests.model_works import CODE, MODEL, Rows, make_rows, make_spec, silent

ROWS = make_rows()


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_the_same_rows_give_the_same_artifact_and_it_gives_the_same_scores(
    tmp_path: Path, algorithm: str
) -> None:
    spec = make_spec()
    declared = {a.name: a for a in (spec.declared.algorithm, spec.declared.baseline)}[algorithm]
    said: list[str] = []
    first, parts = train(spec, Rows(ROWS), tmp_path / "a", CODE, said.append, algorithm=declared)
    second, _ = train(spec, Rows(ROWS), tmp_path / "b", CODE, silent, algorithm=declared)
    assert first.files == second.files
    assert first.sha256 == second.sha256
    assert said

    model, again = opened(first), load_model(tmp_path / "b", spec.name, second.version)
    rows = parts.evaluation.rows
    scores = model.scorer.score(rows)
    assert np.array_equal(scores, again.scorer.score(rows))
    one_by_one = [float(model.scorer.score(rows.slice(n, 1))[0]) for n in range(50)]
    assert scores[:50].tolist() == one_by_one
    assert first.manifest["metrics"]["evaluation"]["auc"]["value"] > 0.55
    assert {name for name, _ in first.manifest["importance"]} == set(model.scorer.columns)
    assert first.manifest["importance"][0][0] != "pressure__is_new"
    assert sum(share for _, share in first.manifest["importance"]) == pytest.approx(1)
    older = {name: told for name, told in first.manifest.items() if name != "calibration_gaps"}
    older["profile"] = {k: told for k, told in first.manifest["profile"].items() if k != "persistence"}
    reference = read_reference("v1", first.manifest)
    assert reference.gaps is not None
    assert reference.gaps.days == first.manifest["split"]["evaluation"]["days"]
    assert set(reference.persistence) == {*model.scorer.columns, "score", "label"}
    assert read_reference("v1", older) == replace(reference, gaps=None, persistence={})
    assert not any(b"\x80" in text.encode() for text in first.files.values())


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    versions = set()
    for threads in (1, 3):
        with threadpool_limits(threads, "openmp"):
            artifact, _ = train(make_spec(), Rows(ROWS), tmp_path / str(threads), CODE, silent)
            versions.add(artifact.sha256)
    assert len(versions) == 1


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    """Also where a part of the rows is drawn for each tree, by their places."""
    drawing = {**MODEL["algorithm"], "parameters": {"bagging_fraction": 0.5, "bagging_freq": 1}}
    mixed = ROWS.take(np.random.default_rng(5).permutation(len(ROWS)))
    made = [
        train(make_spec(algorithm=drawing), Rows(rows), tmp_path / str(n), CODE, silent)[0]
        for n, rows in enumerate((ROWS, mixed))
    ]
    assert made[0].files == made[1].files


def test_another_seed_dataset_or_row_is_another_version(tmp_path: Path) -> None:
    algorithm = {"parameters": {"bagging_fraction": 0.5, "bagging_freq": 1}, "rounds": 5}
    made = [
        train(make_spec(algorithm=algorithm, seed=seed), Rows(rows, dataset), tmp_path, CODE, silent)[0]
        for seed, rows, dataset in [
            (7, ROWS, "d0"),
            (8, ROWS, "d0"),
            (7, ROWS, "d1"),
            (7, ROWS.slice(1), "d0"),
        ]
    ]
    assert len({artifact.version for artifact in made}) == 4
    assert made[0].files == made[2].files
    assert made[0].files["model.txt"] != made[1].files["model.txt"]


def test_parts_are_told_by_time_and_what_was_known_by_then() -> None:
    spec = make_spec(split={"train": "20 days"})
    parts = part_rows(spec, ROWS)
    found = parts.windows
    assert found.evaluation.end == newest_label(ROWS, spec.training_set) - timedelta(hours=6)
    assert found.evaluation.start == found.validation.end + timedelta(hours=6)
    assert found.validation.start == found.train.end + timedelta(hours=6)
    assert found.train.start == found.train.end - timedelta(days=20)
    asked = ROWS.column("prediction_at").to_pylist()
    for part in (parts.train, parts.validation, parts.evaluation):
        start, end = part.window.start, part.window.end
        assert part.rows.num_rows == sum(start <= at < end for at in asked if start is not None)
        assert part.days.tolist() == [(at - datetime(1970, 1, 1, tzinfo=UTC)).days for at in part.rows.column("prediction_at").to_pylist()]  # fmt: skip


def test_a_label_that_came_after_the_embargo_is_not_learnt_from() -> None:
    spec = make_spec()
    late = ROWS.column("label_known_at").to_pylist()
    found = windows(spec.declared.split, newest_label(ROWS, spec.training_set))
    last = max(n for n, at in enumerate(ROWS.column("prediction_at").to_pylist()) if at < found.train.end)
    late[last] = found.train.end + timedelta(hours=6, seconds=1)
    place = ROWS.column_names.index("label_known_at")
    rows = ROWS.set_column(place, "label_known_at", pa.array(late, pa.timestamp("us", tz="UTC")))
    count = select(ROWS, spec.training_set, found.train, found.embargo).num_rows
    assert select(rows, spec.training_set, found.train, found.embargo).num_rows == count - 1


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (ROWS.slice(0, 0), "found no rows, expected some with label_known_at"),
        (make_rows(days=20), "low_pressure: train rows, the beginning to .*: found 0 rows with a label, expected at least 100"),
        (ROWS.set_column(2, "is_low", pa.array([False] * ROWS.num_rows)), r"train rows.*: found 0 positive labels in \d+ rows"),
    ],
)  # fmt: skip
def test_nothing_is_learnt_from_too_little_and_nothing_is_written(
    tmp_path: Path, rows: Any, fault: str
) -> None:
    with pytest.raises(SplitError, match=fault):
        train(make_spec(), Rows(rows), tmp_path, CODE, silent)
    assert list(tmp_path.iterdir()) == []


def test_days_are_those_of_the_place() -> None:
    spec = make_spec()
    rows = pa.table({"prediction_at": pa.array([datetime(2024, 1, 1, 4, 59, tzinfo=UTC), datetime(2024, 1, 1, 5, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))})  # fmt: skip
    assert np.diff(days_of(rows, spec.training_set, ZoneInfo("America/New_York"))).tolist() == [1]
    assert np.diff(days_of(rows, spec.training_set, ZoneInfo("UTC"))).tolist() == [0]


def test_texts_become_the_codes_that_the_rows_trained_on_gave_them() -> None:
    texts = ["b"] * 5 + ["a"] * 5 + ["c"] * 4 + ["rare"] + [None]
    train_rows = pa.table({"t": texts, "f": [True, None] * 8, "n": pa.array(range(16), pa.decimal128(5, 2))})
    columns = [("t", "category"), ("f", "flag"), ("n", "number")]
    encoding = fit_encoding(columns, train_rows, max_categories=2, min_rows=2)  # type: ignore[arg-type]
    assert encoding.columns[0].categories == ("a", "b")
    again = MatrixEncoding.from_text(encoding.to_text())
    assert again == encoding
    new = pa.table(
        {"t": ["a", "b", "c", "new", None], "f": [True, False, None, True, True], "n": [1, 2, None, 4, 5]}
    )
    matrix = again.matrix(new)
    assert matrix[:4, 0].tolist() == [1, 2, 0, 0]
    assert matrix[[0, 1, 3], 1].tolist() == [1, 0, 1]
    assert np.isnan(matrix[[4, 2, 2], [0, 1, 2]]).all()
    with pytest.raises(KeyError, match="n"):
        again.matrix(new.drop_columns(["n"]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["isotonic", "platt", "none"]))
def test_calibration_keeps_the_order_and_survives_its_text(seed: int, method: Any) -> None:
    dice = np.random.default_rng(seed)
    scores = dice.random(300)
    labels = (dice.random(300) < scores**2).astype(float)
    calibration = fit_calibration(method, labels, scores)
    given_scores = np.sort(dice.random(50))
    found = calibration.apply(given_scores)
    assert (np.diff(found) >= 0).all()
    assert ((found > 0) & (found < 1)).all()
    assert np.array_equal(Calibration.from_text(calibration.to_text()).apply(given_scores), found)
    if method == "isotonic":  # As often as it says, on the rows it comes from.
        assert calibration.apply(scores).mean() == pytest.approx(labels.mean(), abs=0.02)
    if method == "platt":
        assert abs(calibration.apply(scores).mean() - labels.mean()) < abs(scores.mean() - labels.mean())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.just(float("nan")), st.integers(0, 30).map(float)), min_size=1, max_size=80))
def test_a_profile_counts_every_value_once(values: list[float]) -> None:
    profile = profile_number("n", np.array(values))
    assert ColumnProfile.from_json(json.loads(json.dumps(profile.as_json()))) == profile
    assert profile.nulls + sum(profile.counts) == profile.rows == len(values)
    edges = [-np.inf, *profile.edges, np.inf]
    for low, high, count in zip(edges, edges[1:], profile.counts, strict=False):
        assert count == sum(low < value <= high for value in values)


def test_the_threshold_decides_for_the_declared_share() -> None:
    scores = np.linspace(0, 1, 101)
    assert threshold_of(OperatingPoint(threshold=0.3), scores) == 0.3
    assert (scores >= threshold_of(OperatingPoint(share=0.2), scores)).mean() == pytest.approx(0.2, abs=0.011)


def test_slices_are_every_row_once() -> None:
    found = slices_of(pa.table({"s": ["b", "a", None, "b"]}), "s")
    assert [(name, chosen.tolist()) for name, chosen in found] == [
        ("b", [True, False, False, True]),
        ("a", [False, True, False, False]),
        ("null", [False, False, True, False]),
    ]


def test_an_artifact_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    algorithm = Algorithm(name="logistic_regression", rounds=20)
    artifact, _ = train(make_spec(), Rows(ROWS), tmp_path, CODE, silent, algorithm=algorithm)
    folder = tmp_path / "low_pressure" / artifact.version
    for name in [*artifact.files, "manifest.json"]:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + b" ")
        with pytest.raises(CorruptArtifactError, match=name):
            load_model(tmp_path, "low_pressure", artifact.version)
        (folder / name).write_bytes(whole)
    load_model(tmp_path, "low_pressure", artifact.version)


def test_every_algorithm_that_may_be_declared_is_there() -> None:
    assert ALGORITHMS.keys() == PARAMETERS.keys()


WITHOUT_OPENMP = """
from orchestration.learning.algorithms import openmp
bundled, openmp._bundled = openmp._bundled, lambda: None
try:
    openmp.import_lightgbm()
except openmp.OpenMpError as fault:
    print(fault)
openmp._bundled = bundled
print(openmp.import_lightgbm().Booster.__name__)
"""


def test_lightgbm_loads_where_the_system_has_no_openmp_runtime(tmp_path: Path) -> None:
    (tmp_path / "libgomp.so.1").touch()  # It comes first, and is none.
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENMP],
        env=environment, cwd=PROJECT_DIR, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if sys.platform == "linux":  # Elsewhere the wheel needs another library.
        assert "apt-get install libgomp1" in done.stdout
    assert done.stdout.endswith("Booster\n")
