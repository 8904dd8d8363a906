"""A model's definition changes with what is computed, and with nothing else."""

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.automation.retraining import signals
from orchestration.declarations import load_declarations
from orchestration.feature_store.views import build_catalog
from orchestration.learning import algorithms, calibration, encoding, profile, splitting, training
from orchestration.learning.model import opened
from orchestration.learning.spec import build_models
from orchestration.learning.training import train
from orchestration.model_definition import comparable_definition, model_definition
from orchestration.project import Project
from orchestration.settings import Clock, Settings
from orchestration.sql_tokens import sql_tokens
from tests.model_works import CODE, MODEL, Rows, make_rows, make_spec, manifest_with, silent

PRESSURE_SQL = """
-- What a pump's pressure was.
select pump, known_at, {{ mean('centibar', var('hours')) }} as mean, valve, 'a -- b' as note
from {{ ref('readings') }}  /* as they came */
"""
MEAN_SQL = "{% macro mean(column, hours) %}avg({{ column }}) / {{ scale() }}{% endmacro %}"
SCALE_SQL = "{% macro scale() %}\n100\n{% endmacro %}"
CONTRACT = """
# Pressure.
dataset: lake/features/pressure
columns:
  - name: mean
    checks:
      - failed_rows:
          expression: mean < 0
"""


class Works:
    """A dbt manifest, contracts and variables; each test changes one thing."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, deepcopy(MODEL)
        self.variables: dict[str, Any] = {"hours": 6, "unused": 1}
        self.contract = CONTRACT
        self.code = {"pressure": PRESSURE_SQL, "low_pressure_training_set": "select 1"}
        self.macros = {"macro.works.mean": MEAN_SQL, "macro.works.scale": SCALE_SQL}
        self.edit: Callable[[dict[str, Any]], None] = lambda manifest: None

    def _project(self) -> tuple[Project, Any]:
        manifest = deepcopy(manifest_with(self.model))
        for node in manifest["nodes"].values():
            node["package_name"] = "works"
            node["raw_code"] = self.code.get(node["name"], "select 2")
            node["checksum"] = {"checksum": hashlib.sha256(node["raw_code"].encode()).hexdigest()}
            if node["name"] == "pressure":
                node["depends_on"]["macros"] = ["macro.works.mean"]
            if node["name"] == "low_pressure_training_set":
                node["depends_on"]["nodes"] = ["model.works.pressure"]
        manifest["macros"] = {
            name: {
                "package_name": "works",
                "macro_sql": text,
                "depends_on": {"macros": ["macro.works.scale"] if name.endswith("mean") else []},
            }
            for name, text in self.macros.items()
        }
        self.edit(manifest)
        contracts = self.folder / "soda" / "features"
        contracts.mkdir(parents=True, exist_ok=True)
        (contracts / "pressure.yml").write_text(self.contract)
        declarations = load_declarations(manifest)
        project = Project(
            Settings(data_dir=self.folder / "data", soda_checks_dir=self.folder / "soda"),
            manifest,
            declarations,
            Clock(),
            self.variables,
        )
        return project, build_models(declarations, build_catalog(declarations))["low_pressure"]

    def definition(self) -> dict[str, str]:
        return model_definition(*self._project())

    def compared_with(self, recorded: Mapping[str, str]) -> signals.Signal:
        return signals.definition(recorded, comparable_definition(*self._project(), recorded))


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def exposure(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = manifest["exposures"].values()
    meta: dict[str, Any] = found["config"]["meta"]
    return meta


def change(works: Works, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change one thing by its name."""
    match what:
        case "comment and layout of SQL":
            works.code["pressure"] = (
                PRESSURE_SQL.replace("-- What", "-- Now: what")
                .replace(", ", "\n  ,")
                .replace("/* as", "/* it's")
            )
        case "comment of Jinja":
            works.code["pressure"] = "{# A note. #}" + PRESSURE_SQL
        case "comment and layout of a macro":
            works.macros["macro.works.scale"] = SCALE_SQL.replace("100", "-- Of a bar.\n  100")
        case "comment of a contract":
            works.contract = CONTRACT.replace("# Pressure.", "# Another.").replace(
                "mean < 0", "mean  <  0 -- none"
            )
        case "description":
            works.edit = lambda m: exposure(m)["feature_service"]["on_demand"]["shortage"].update(
                description="New."
            )
        case "default written out":
            works.model["seed"], works.model["infinite"] = MODEL["seed"], "reject"
        case "gate":
            works.model["gate"] = {**MODEL["gate"], "minimum_gain": 0.1}
        case "unused variable":
            works.variables["unused"] = 2
        case "unused algorithm":
            unused = algorithms.Algorithm(
                "unused", "model.txt", algorithms.LIGHTGBM.fit, algorithms.LIGHTGBM.load
            )
            monkeypatch.setattr(algorithms, "ALGORITHMS", {**algorithms.ALGORITHMS, "unused": unused})
        case "version of an algorithm that is not used":
            raised = algorithms.Algorithm(
                "logistic_regression", "model.json", algorithms.LIGHTGBM.fit, algorithms.LIGHTGBM.load, 2
            )
            monkeypatch.setattr(
                algorithms, "ALGORITHMS", {**algorithms.ALGORITHMS, "logistic_regression": raised}
            )
        case "SQL":
            works.code["pressure"] = PRESSURE_SQL.replace("valve", "upper(valve) as valve")
        case "text in SQL":
            works.code["pressure"] = PRESSURE_SQL.replace("a -- b", "a --  b")
        case "macro that a macro names":
            works.macros["macro.works.scale"] = SCALE_SQL.replace("100", "1000")
        case "variable":
            works.variables["hours"] = 12
        case "contract":
            works.contract = CONTRACT.replace("mean < 0", "mean < 1")
        case "ttl":
            works.edit = lambda m: m["nodes"]["model.works.pressure"]["config"]["meta"][
                "feature_view"
            ].update(ttl="2 days")
        case "on-demand expression":
            works.edit = lambda m: exposure(m)["feature_service"]["on_demand"]["shortage"].update(
                expression="demand"
            )
        case "parameter of binning":
            works.model["algorithm"]["parameters"]["max_bin"] = 63
        case "infinite":
            works.model["infinite"] = "null"
        case "binning":
            monkeypatch.setattr(profile, "VERSION", profile.VERSION + 1)
        case "encoding":
            monkeypatch.setattr(encoding, "VERSION", encoding.VERSION + 1)
        case "version of the algorithm":
            raised = algorithms.Algorithm(
                "lightgbm", "model.txt", algorithms.LIGHTGBM.fit, algorithms.LIGHTGBM.load, 2
            )
            monkeypatch.setattr(algorithms, "ALGORITHMS", {**algorithms.ALGORITHMS, "lightgbm": raised})
        case _:
            raise LookupError(what)


@pytest.mark.parametrize(
    "what",
    [
        "comment and layout of SQL", "comment of Jinja", "comment and layout of a macro", "comment of a contract",
        "description", "default written out", "gate", "unused variable", "unused algorithm",
        "version of an algorithm that is not used",
    ],
)  # fmt: skip
def test_a_change_without_effect_on_results_keeps_the_definition(
    works: Works, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = works.definition()
    change(works, what, monkeypatch)
    assert works.definition() == before


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("SQL", "features"), ("text in SQL", "features"), ("macro that a macro names", "features"),
        ("variable", "features"), ("contract", "contracts"), ("ttl", "declaration"),
        ("on-demand expression", "declaration"), ("parameter of binning", "declaration"),
        ("infinite", "declaration"), ("binning", "training"), ("encoding", "training"),
        ("version of the algorithm", "training"),
    ],
)  # fmt: skip
def test_a_change_of_a_computation_changes_its_part(
    works: Works, what: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = works.definition()
    change(works, what, monkeypatch)
    after = works.definition()
    assert {name for name in after if after[name] != before[name]} == {part}
    assert works.compared_with(before).evidence == (f"{part}={after[part]}",)


def test_an_upgrade_from_a_release_that_hashed_text_retrains_no_model(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {"training_code": "0123456789abcdef"}
    recorded = comparable_definition(*works._project(), recorded)
    # The hashes of release 0.1.0 for this project: an upgrade compares with them.
    assert recorded == {
        "features": "e901a103f63c72b9",
        "contracts": "f9c290491f7213cc",
        "declaration": "64a46dccefff3314",
        "training_code": "0123456789abcdef",
    }
    assert works.compared_with(recorded).state == "calm"
    change(works, "SQL", monkeypatch)
    assert works.compared_with(recorded).state == "alarm"


LAYOUT = st.sampled_from([" ", "\n", "\t ", " -- it's a note\n", "/* {# x #} 'y */", "{# {{ no }} #} "])
TOKENS = st.sampled_from(
    ["select", "a", "1.5", "'x  -- y'", '"a  b"', "$$ -- z $$", "::", "->>", "(", "e'\\'--'"]
)


@settings(max_examples=200)
@given(st.lists(st.tuples(TOKENS, LAYOUT, LAYOUT), min_size=1, max_size=12))
def test_layout_and_comments_between_tokens_do_not_count(parts: list[tuple[str, str, str]]) -> None:
    one = "".join(f"{token} {first}" for token, first, _ in parts)
    other = "".join(f"{token} {second}" for token, _, second in parts)
    assert sql_tokens(one) == sql_tokens(other)
    changed = one.replace(parts[0][0], f"{parts[0][0]} b", 1)
    assert sql_tokens(changed) != sql_tokens(one)


def test_a_space_next_to_jinja_counts_because_it_may_separate_names() -> None:
    assert sql_tokens("total_{{ x }}") != sql_tokens("total_ {{ x }}")
    assert sql_tokens("{{  x }}") == sql_tokens("{{ x }}")
    assert sql_tokens("{{ f('a  b') }}") != sql_tokens("{{ f('a b') }}")
    assert sql_tokens("-- {{ config(x=1) }}\na") != sql_tokens("-- {{ config(x=2) }}\na")


def rounded(values: Any) -> str:
    """A hash that does not depend on the processor or library version."""
    said = np.round(np.nan_to_num(np.asarray(values, dtype=float), nan=-1.0), 5) + 0.0
    return hashlib.sha256(json.dumps(said.tolist()).encode()).hexdigest()[:12]


GOLDEN = {
    "split-1": "0f7eee7d3e19",
    "encode-1": "837aa6f33e96",
    "lightgbm-1": "0b9ce572758c",
    "logistic_regression-1": "535bc5dc7f96",
    "calibrate-1": "8e594f0d5577",
    "profile-1": "67b5ed01b1d8-562e64f832b9",
    "train-1": "edc8f7c17a55",
}
"""The result of each version of a step. If a result changes, increment the version and add a line here."""


def test_a_step_with_a_different_result_has_a_different_version(tmp_path: Path) -> None:
    rows, spec = make_rows(), make_spec(calibration="platt")
    found = {}
    for declared in (spec.declared.algorithm, spec.declared.baseline):
        artifact, parts = train(spec, Rows(rows), tmp_path, CODE, silent, algorithm=declared)
        model = opened(artifact)
        matrix = model.scorer.encoding.matrix(parts.validation.rows)
        raw = model.scorer.fitted.predict(matrix)
        version = algorithms.ALGORITHMS[declared.name].version
        found[f"{declared.name}-{version}"] = rounded(raw)
        if declared.name == "lightgbm":
            windows = [
                w.as_json() for w in (parts.train.window, parts.validation.window, parts.evaluation.window)
            ]
            counts = [len(part.labels) for part in (parts.train, parts.validation, parts.evaluation)]
            found[f"split-{splitting.VERSION}"] = hashlib.sha256(
                json.dumps([windows, counts]).encode()
            ).hexdigest()[:12]
            found[f"encode-{encoding.VERSION}"] = rounded(matrix)
            scores = np.linspace(0.05, 0.95, 50)
            labels = (np.arange(50) % 3 > 0) * (scores > 0.3).astype(float)
            fits = [
                calibration.fit_calibration(m, labels, scores).apply(scores)
                for m in ("isotonic", "platt", "none")
            ]  # type: ignore[arg-type]
            found[f"calibrate-{calibration.VERSION}"] = rounded(np.concatenate(fits))
            profiles = artifact.manifest["profile"]["features"]
            edges = [profiles["pressure__mean"][key] for key in ("edges", "counts")]
            texts = [profiles["pressure__valve"][key] for key in ("values", "counts")]
            found[f"profile-{profile.VERSION}"] = (
                rounded(edges[0])
                + "-"
                + hashlib.sha256(json.dumps([edges[1], texts]).encode()).hexdigest()[:12]
            )
            found[f"train-{training.VERSION}"] = rounded([artifact.manifest["operating_point"]["threshold"]])
    assert found == GOLDEN
