"""A version's features and label as numbers, encoded as the platform encodes them for training.

What belongs here: the columns that a model takes, by the version's manifest, and their encoding.
What does not: which rows the platform trains on (``learning.splitting``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestration.declarations import Encoding
from orchestration.learning.datasets.manifest import DatasetError, Manifest
from orchestration.learning.encoding import Infinite, InfiniteValueError, MatrixEncoding, fit_encoding
from orchestration.learning.kinds import Kind, kind_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ModelInputs:
    """The columns that a model takes, its label, and how it encodes."""

    columns: tuple[tuple[str, Kind], ...]
    label: str
    encoding: Encoding
    infinite: Infinite

    @property
    def names(self) -> list[str]:
        """The columns and the label."""
        return [*(name for name, _ in self.columns), self.label]

    def fit(self, rows: pa.Table) -> MatrixEncoding:
        """The encoding learned from rows."""
        limits = {"max_categories": self.encoding.max_categories, "min_rows": self.encoding.min_rows}
        return fit_encoding(self.columns, rows, **limits, infinite=self.infinite)


def model_inputs(manifest: Manifest, model: str | None) -> ModelInputs:
    """The inputs of a declared model; if ``model`` is None, of the only declared one.

    Raises:
        DatasetError: The manifest declares no such model, several, or a column of another kind.
    """
    declared = manifest.built.declarations
    models = declared.get("models", {})
    if (model is None and len(models) > 1) or (model is not None and model not in models):
        known = ", ".join(sorted(models)) or "none"
        raise DatasetError(f"{manifest.reference}: model: found {model!r}, expected one of {known}")
    chosen: Mapping[str, Any] = models[model] if model else next(iter(models.values()), {})
    names = list(dict.fromkeys(_columns(manifest, declared, chosen)))
    types = {column.name: column.type for column in manifest.columns}
    missing = [name for name in names if name not in types]
    if missing:
        raise DatasetError(
            f"{manifest.reference}: found no column {', '.join(missing)}, expected the declared features"
        )
    kinds = {name: kind_of(types[name]) for name in names}
    unfit = [f"{name} ({types[name]})" for name, kind in kinds.items() if kind is None]
    if unfit or not names:
        raise DatasetError(
            f"{manifest.reference}: found {', '.join(unfit) or 'no features'}, expected numbers, booleans "
            "and texts: declare a model on the training set that excludes the others, or use read()"
        )
    return ModelInputs(
        tuple((name, kind) for name, kind in kinds.items() if kind is not None),
        declared["training_set"]["label"],
        Encoding(**chosen.get("encoding", {})),
        chosen.get("infinite", "reject"),
    )


def _columns(manifest: Manifest, declared: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    """Request columns, features and on-demand features, in the order in which the platform trains on them."""
    yield from model.get("request", ())
    service = declared.get("feature_service", {})
    features = _expanded(service.get("features", ()), manifest, declared)
    wanted = model.get("features")
    chosen = features if wanted is None else _expanded(wanted, manifest, declared)
    left_out = _expanded(model.get("leave_out", ()), manifest, declared)
    yield from (name for name in features if name in chosen and name not in left_out)
    on_demand = model.get("on_demand")
    yield from (name for name in service.get("on_demand", ()) if on_demand is None or name in on_demand)


def _expanded(references: Sequence[str], manifest: Manifest, declared: Mapping[str, Any]) -> list[str]:
    """The columns of references: ``role:feature`` is ``role__feature``, ``role:*`` all of a role."""
    service = declared.get("feature_service", {})
    roles = {reference.partition(":")[0] for reference in service.get("features", ())}
    found = []
    for reference in references:
        role, _, feature = reference.partition(":")
        if feature != "*":
            found.append(f"{role}__{feature}")
            continue
        view = service.get("roles", {}).get(role, {}).get("view", role)
        instant = f"{role}__{declared['feature_views'][view]['timestamp']}"
        for name in manifest.column_names:
            owner = max((r for r in roles if name.startswith(f"{r}__")), key=len, default=None)
            if owner == role and name != instant:
                found.append(name)
    return found


def encoded(
    manifest: Manifest, inputs: ModelInputs, encoding: MatrixEncoding, rows: pa.Table
) -> tuple["pd.DataFrame", "pd.Series[float]"]:
    """Features and label as doubles, NaN where a value is missing.

    Raises:
        DatasetError: A feature is infinite, and the model rejects that.
    """
    import pandas as pd  # noqa: PLC0415 - slow, and only needed here

    try:
        matrix = encoding.matrix(rows)
    except InfiniteValueError as fault:
        raise DatasetError(f"{manifest.reference}: {fault}") from None
    features = pd.DataFrame(matrix, columns=[name for name, _ in inputs.columns], copy=False)
    label = rows.column(inputs.label)
    if pa.types.is_boolean(label.type):
        label = pc.cast(label, pa.int8())
    numbers = pc.cast(label, pa.float64(), safe=False).to_numpy()
    return features, pd.Series(numbers, name=inputs.label)
