"""A model's definition: hashes of feature SQL, contracts and declarations, and versions of training steps.

What belongs here: one value per part, so that a change can be attributed. What does not: the consequences of
a change (``automation.retraining``).
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestration.declarations import Table
from orchestration.learning.spec import ModelSpec
from orchestration.project import Project
from orchestration.sql_tokens import sql_tokens
from orchestration.transformation.specs import code_version

_NOT_TRAINED_BY = {"retrain", "monitoring", "predict", "gate", "floors", "baseline", "slices"}
"""Keys of a model's declaration that change no model: they tell what is done with one."""
_WORDS = {"description", "classification"}
_SQL_KEYS = {"expression", "query", "filter", "rows_tested_query"}


def model_definition(project: Project, spec: ModelSpec) -> dict[str, str]:
    """``features``, ``contracts``, ``declaration`` as 16 hex digits, ``training`` as versions of steps."""
    tables = _tables(project, spec)
    return {
        "features": _digest([_code(project, tables), spec.schema_hash]),
        "contracts": _digest([[f.name, _meaning(_yaml(f))] for f in _contracts(project, tables)]),
        "declaration": _digest([_declared(project, spec, tables)]),
        "training": training_versions(spec.declared.algorithm.name),
    }


def comparable_definition(
    project: Project, spec: ModelSpec, recorded: Mapping[str, str] | None
) -> dict[str, str]:
    """The definition in the form of a recorded one, so that the two can be compared.

    Models of releases that hashed source text have ``training_code``. For these, texts are hashed as they
    were then, and the platform's own code counts as unchanged, so that an upgrade alone retrains nothing.
    """
    if recorded is None or "training_code" not in recorded:
        return model_definition(project, spec)
    tables = _tables(project, spec)
    nodes = project.manifest["nodes"]
    sql = {t.name: code_version(project.manifest, t.unique_id) for t in tables if t.unique_id in nodes}
    added = {"infinite"} if spec.declared.infinite == "reject" else set()
    declared = spec.declared.model_dump(mode="json", exclude=_NOT_TRAINED_BY | added)
    texts = [[f.name, f.read_text(encoding="utf-8")] for f in _contracts(project, tables)]
    return {
        "features": _digest([*sorted(sql.items()), spec.schema_hash]),
        "contracts": _digest(texts),
        "declaration": _digest([declared]),
        "training_code": recorded["training_code"],
    }


def training_versions(algorithm: str) -> str:
    """The version of each step that trains a model of an algorithm."""
    # These import NumPy and Arrow, for which loading definitions does not wait.
    from orchestration.learning import calibration, encoding, profile, splitting, training  # noqa: PLC0415
    from orchestration.learning.algorithms import ALGORITHMS  # noqa: PLC0415

    versions = {
        "split": splitting.VERSION,
        "encode": encoding.VERSION,
        algorithm: ALGORITHMS[algorithm].version,
        "calibrate": calibration.VERSION,
        "profile": profile.VERSION,
        "train": training.VERSION,
    }
    return " ".join(f"{step}-{version}" for step, version in versions.items())


def _tables(project: Project, spec: ModelSpec) -> list[Table]:
    return [spec.table, *project.declarations.ancestors(spec.table.unique_id)]


def _code(project: Project, tables: Iterable[Table]) -> list[Any]:
    """The code of each model, the project macros that it reaches, and the variables that these name."""
    manifest = project.manifest
    nodes, macros = manifest["nodes"], dict[str, str]()
    found: list[Any] = []
    texts: list[str] = []
    for table in sorted(tables, key=lambda t: t.unique_id):
        if table.unique_id not in nodes:
            continue
        node = nodes[table.unique_id]
        config = {k: v for k, v in node["config"].items() if k not in ("meta", "docs", "tags", "group")}
        text = node.get("raw_code") or ""
        texts.append(text)
        code: Any = sql_tokens(text)
        if node.get("language") == "python":
            code = ast.dump(ast.parse(text))
        elif not text:  # The definition of a seed is its data.
            code = node.get("checksum", {}).get("checksum")
        found.append([table.unique_id, code, json.dumps(config, sort_keys=True, default=str)])
        _add_macros(manifest, node, node.get("package_name"), macros)
    found += [[name, sql_tokens(text)] for name, text in sorted(macros.items())]
    return [*found, _variables(project, [*texts, *macros.values()])]


def _add_macros(
    manifest: Mapping[str, Any], node: Mapping[str, Any], package: str | None, found: dict[str, str]
) -> None:
    for name in node.get("depends_on", {}).get("macros", ()):
        macro = manifest["macros"][name]
        if macro["package_name"] == package and name not in found:
            found[name] = macro["macro_sql"]
            _add_macros(manifest, macro, package, found)


def _variables(project: Project, texts: Iterable[str]) -> dict[str, Any]:
    known = dict(project.variables)
    known |= known.get(project.manifest.get("metadata", {}).get("project_name")) or {}
    named = {name for text in texts for name in re.findall(r"\bvar\(\s*['\"]([^'\"]+)['\"]", text)}
    return {name: known[name] for name in sorted(named & known.keys())}


def _contracts(project: Project, tables: Iterable[Table]) -> list[Path]:
    folder = project.settings.soda_checks_dir
    return [f for f in sorted(folder / t.layer / f"{t.name}.yml" for t in tables) if f.is_file()]


def _declared(project: Project, spec: ModelSpec, tables: Iterable[Table]) -> list[Any]:
    """The YAML of the model and of the tables that its rows come from; explicit defaults do not count."""
    views = {t.name: t.meta.feature_view for t in tables if t.meta.feature_view is not None}
    delays = {t.name: t.meta.ingest.publication_delay.total_seconds() for t in tables if t.meta.ingest}
    parts = [
        spec.declared.model_dump(mode="json", exclude=_NOT_TRAINED_BY, exclude_defaults=True),
        spec.training_set.model_dump(mode="json", exclude={"split"}, exclude_defaults=True),
        spec.service.declared.model_dump(
            mode="json",
            exclude={"request": {"__all__": _WORDS}, "on_demand": {"__all__": _WORDS}},
            exclude_defaults=True,
        ),
        {name: view.model_dump(mode="json", exclude={"online"}) for name, view in sorted(views.items())},
    ]
    return [*map(_meaning, parts), sorted(delays.items())]


def _meaning(value: Any, key: object = None) -> Any:
    """A declaration with each SQL text replaced by its tokens."""
    if isinstance(value, dict):
        return {str(k): _meaning(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_meaning(one, key) for one in value]
    return sql_tokens(value) if key in _SQL_KEYS and isinstance(value, str) else value


def _yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _digest(facts: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(facts), sort_keys=True, default=str).encode()).hexdigest()[:16]
