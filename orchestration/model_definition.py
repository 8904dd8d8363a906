"""What defines a model: hashes of its feature SQL, contracts, declaration and training code.

What belongs here: one hash a part, so that it can be told which one changed. What does not: what follows from
a change (``automation.retraining``).
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from orchestration.learning.spec import ModelSpec
from orchestration.project import Project
from orchestration.settings import PROJECT_DIR
from orchestration.transformation.specs import code_version

_NOT_TRAINED_BY = {"retrain", "monitoring", "predict", "gate", "floors", "baseline", "slices"}
"""Keys of a model's declaration that change no model: they tell what is done with one."""


def model_definition(project: Project, spec: ModelSpec) -> dict[str, str]:
    """16 hex digits of each part: ``features``, ``contracts``, ``declaration`` and ``training_code``."""
    tables = [spec.table, *project.declarations.ancestors(spec.table.unique_id)]
    nodes = project.manifest["nodes"]
    sql = {t.name: code_version(project.manifest, t.unique_id) for t in tables if t.unique_id in nodes}
    contracts = project.settings.soda_checks_dir
    files = sorted(contracts / t.layer / f"{t.name}.yml" for t in tables)
    declared = spec.declared.model_dump(mode="json", exclude=_NOT_TRAINED_BY)
    return {
        "features": _digest([*sorted(sql.items()), spec.schema_hash]),
        "contracts": _digest([[f.name, f.read_text(encoding="utf-8")] for f in files if f.is_file()]),
        "declaration": _digest([declared]),
        "training_code": training_code(),
    }


@cache
def training_code() -> str:
    """The hash of the Python files that a model is trained by."""
    root = PROJECT_DIR / "orchestration" / "learning"
    return _digest([[str(f.relative_to(root)), f.read_text(encoding="utf-8")] for f in _trains(root)])


def _trains(root: Path) -> list[Path]:
    names = ("training.py", "splitting.py", "encoding.py", "calibration.py", "model.py", "parameters.py")
    return sorted([*(root / name for name in names), *(root / "algorithms").glob("*.py")])


def _digest(facts: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(facts), sort_keys=True).encode()).hexdigest()[:16]
