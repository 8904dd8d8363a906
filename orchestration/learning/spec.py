"""Declared models, resolved: which columns of which training set a model takes, and what they come from.

What belongs here: from declarations to specifications, every fault with its file and key. What does not:
anything that reads data.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from orchestration.declarations import (
    DeclarationError,
    Declarations,
    DeclaredColumn,
    Exposure,
    LearnedModel,
    Partition,
    Predict,
    Table,
    TrainingSet,
)
from orchestration.feature_store.views import Catalog, Service, View
from orchestration.learning.kinds import Kind, kind_of
from orchestration.learning.parameters import PARAMETERS, parameter_fault

Source = Literal["feature", "on_demand", "request"]


@dataclass(frozen=True)
class Input:
    """A column of the training set that a model takes, and where it comes from at serving.

    ``reference`` is ``view:feature`` for a feature, else the column's name.
    """

    name: str
    reference: str
    source: Source
    data_type: str
    kind: Kind
    description: str


PREDICTION_COLUMNS: Mapping[str, str] = {
    "prediction_id": "varchar",
    "prediction_at": "timestamptz",
    "predicted_at": "timestamptz",
    "model_version": "varchar",
    "dataset_version": "varchar",
    "snapshot_id": "bigint",
    "score": "double",
    "decision": "boolean",
    "mode": "varchar",
    "run_id": "varchar",
}
"""What every prediction has, whatever the model."""
ONLINE_COLUMNS: Mapping[str, str] = {"features_as_of": "map(varchar, timestamptz)"}
"""What those made on request have too: up to when the store knew the rows of each role's view."""


@dataclass(frozen=True)
class Spine:
    """What a model predicts: a table with a row for each.

    ``key`` tells a row from all others; rows of one day by ``partition_by`` are predicted together.
    ``columns`` are those that predictions keep: key, entity keys, request columns, what slices are told by.
    """

    table: Table
    key: tuple[str, ...]
    partition_by: str
    declared: Predict
    partition: Partition
    columns: tuple[DeclaredColumn, ...]


@dataclass(frozen=True)
class ModelSpec:
    """A declared model with the training set, service and columns that it names."""

    name: str
    exposure: Exposure
    declared: LearnedModel
    table: Table
    training_set: TrainingSet
    service: Service
    inputs: tuple[Input, ...]
    views: tuple[View, ...]
    """Every view of which it takes a feature, in name order."""
    timezone: ZoneInfo
    """Whose midnights part the days of its rows."""
    spine: Spine | None = None
    """What is predicted in batches, if anything is."""

    @property
    def owner(self) -> str:
        """Who answers for it."""
        return self.exposure.meta.owner

    @property
    def can_be_asked(self) -> bool:
        """Whether a server can predict with it: all features of its service are online."""
        return all(wanted.role.view.online for wanted in self.service.features)

    @cached_property
    def row_keys(self) -> tuple[str, ...]:
        """The entity keys of its features and the prediction time, which identify a row in messages."""
        keys = [key for wanted in self.service.features for key in wanted.role.join_keys]
        return tuple(dict.fromkeys([*keys, self.training_set.prediction_time]))

    @cached_property
    def schema_hash(self) -> str:
        """16 hex digits that change when a column, its type or its order does."""
        facts = [[i.name, i.reference, i.source, i.data_type] for i in self.inputs]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def predicted(self) -> Spine:
        """What it predicts in batches.

        Raises:
            LookupError: Nothing.
        """
        if self.spine is None:
            place = f"{self.exposure.file}: exposures.{self.name}.config.meta.model.predict"
            raise LookupError(f"{place}: found nothing, expected a spine")
        return self.spine

    @property
    def prediction_columns(self) -> dict[str, str]:
        """The columns of the table of its predictions, with their types."""
        return (
            dict(PREDICTION_COLUMNS)
            | {column.name: column.data_type for column in self.predicted.columns}
            | {i.name: i.data_type for i in self.inputs}
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of the training set that training and evaluation read, each once."""
        wanted = [i.name for i in self.inputs]
        wanted += [*self.declared.slices, self.declared.label]
        wanted += [self.training_set.prediction_time, self.training_set.label_known_at]
        return tuple(dict.fromkeys(wanted))


def build_models(declarations: Declarations, catalog: Catalog) -> dict[str, ModelSpec]:
    """Every declared model by name.

    Raises:
        DeclarationError: A model names what is not there, or cannot be used; all faults are listed.
    """
    faults: list[str] = []
    models: dict[str, ModelSpec] = {}
    for exposure in declarations.exposures.values():
        if exposure.meta.model is not None:
            spec = _Resolution(declarations, catalog, exposure, exposure.meta.model, faults).spec()
            if spec is not None:
                models[spec.name] = spec
    if faults:
        raise DeclarationError(faults)
    return models


class _Resolution:
    """One model being resolved; ``faults`` takes a line for each thing that is not as it must be."""

    def __init__(
        self,
        declarations: Declarations,
        catalog: Catalog,
        exposure: Exposure,
        declared: LearnedModel,
        faults: list[str],
    ) -> None:
        self._declarations = declarations
        self._catalog = catalog
        self._exposure = exposure
        self._declared = declared
        self._faults = faults

    def _fault(self, key: str, found: object, expected: str) -> None:
        place = f"{self._exposure.file}: exposures.{self._exposure.name}"
        self._faults.append(f"{place}.{key}: found {found}, expected {expected}")

    def _model_fault(self, key: str, found: object, expected: str) -> None:
        self._fault(f"config.meta.model.{key}", found, expected)

    def spec(self) -> ModelSpec | None:
        before = len(self._faults)
        if self._exposure.kind != "ml":
            self._fault("type", repr(self._exposure.kind), "ml, as it declares a model")
        found = self._training_set()
        self._algorithms()
        if found is None:
            return None
        table, training_set = found
        service = self._catalog.service(training_set.feature_service)
        inputs = tuple(self._inputs(table, training_set, service))
        self._slices(table)
        spine = self._spine(table, training_set, service, inputs)
        if len(self._faults) > before:
            return None
        used = {i.reference for i in inputs if i.source == "feature"}
        views = {w.role.view.name: w.role.view for w in service.features if w.reference in used}
        partition = self._declarations.partition(table.unique_id)
        return ModelSpec(
            name=self._exposure.name,
            exposure=self._exposure,
            declared=self._declared,
            table=table,
            training_set=training_set,
            service=service,
            inputs=inputs,
            views=tuple(views[name] for name in sorted(views)),
            timezone=partition.tz if partition is not None else ZoneInfo("UTC"),
            spine=spine,
        )

    def _training_set(self) -> tuple[Table, TrainingSet] | None:
        by_name = {table.name: table for table in self._declarations.training_sets}
        table = by_name.get(self._declared.training_set)
        if table is None or table.meta.training_set is None:
            known = ", ".join(sorted(by_name)) or "a training set, of which there are none"
            self._model_fault("training_set", repr(self._declared.training_set), f"one of {known}")
            return None
        training_set = table.meta.training_set
        if self._declared.label != training_set.label:
            self._model_fault(
                "label", repr(self._declared.label), f"{training_set.label}, the label of {table.name}"
            )
            return None
        column = table.column(training_set.label)
        if column is None or kind_of(column.data_type) != "flag":
            self._model_fault("label", column and column.data_type, "a boolean column")
        return table, training_set

    def _algorithms(self) -> None:
        for key in ("algorithm", "baseline"):
            declared = getattr(self._declared, key)
            if declared.name not in PARAMETERS:
                known = ", ".join(sorted(PARAMETERS))
                self._model_fault(f"{key}.name", repr(declared.name), f"one of {known}")
                continue
            for name, value in declared.parameters.items():
                fault = parameter_fault(declared.name, name, value)
                if fault is not None:
                    self._model_fault(f"{key}.parameters.{name}", *fault)

    def _inputs(self, table: Table, training_set: TrainingSet, service: Service) -> Iterator[Input]:
        for name in self._declared.request:
            column = table.column(name)
            if column is None:
                self._model_fault("request", repr(name), f"a column of {table.name}")
            elif name in {
                training_set.label, training_set.label_known_at, training_set.prediction_time, "split",
            }:  # fmt: skip
                self._model_fault(
                    "request", repr(name), "a column that is known when a prediction is asked for"
                )
            else:
                yield from self._input("request", name, name, "request", column)
        columns = {wanted.reference: (wanted.full_name, wanted.feature) for wanted in service.features}
        for reference in self._chosen(list(columns)):
            name, column = columns[reference]
            yield from self._input("features", name, reference, "feature", column)
        for name in self._on_demand(service):
            feature = service.declared.on_demand[name]
            column = DeclaredColumn(name, feature.data_type, feature.description, feature.classification)
            yield from self._input("on_demand", name, name, "on_demand", column)

    def _input(
        self, key: str, name: str, reference: str, source: Source, column: DeclaredColumn
    ) -> Iterator[Input]:
        kind = kind_of(column.data_type)
        if kind is None:
            self._model_fault(
                key,
                f"{reference} of type {column.data_type}",
                "numbers, booleans and texts; leave_out takes what is not to be learnt from",
            )
        else:
            yield Input(name, reference, source, column.data_type, kind, column.description)

    def _chosen(self, known: Sequence[str]) -> list[str]:
        """The references that the model takes, in the order of the service."""
        wanted = self._expanded("features", self._declared.features, known)
        left = self._expanded("leave_out", self._declared.leave_out, known) or set()
        return [r for r in known if (wanted is None or r in wanted) and r not in left]

    def _expanded(self, key: str, references: Sequence[str] | None, known: Sequence[str]) -> set[str] | None:
        if references is None:
            return None
        found: set[str] = set()
        for reference in references:
            role, _, feature = reference.partition(":")
            matching = {r for r in known if r == reference or (feature == "*" and r.startswith(f"{role}:"))}
            if not matching:
                self._model_fault(key, repr(reference), f"a feature of the service: {', '.join(known)}")
            found |= matching
        return found

    def _on_demand(self, service: Service) -> list[str]:
        known = list(service.declared.on_demand)
        if self._declared.on_demand is None:
            return known
        for name in self._declared.on_demand:
            if name not in known:
                self._model_fault(
                    "on_demand", repr(name), f"an on-demand feature of the service: {', '.join(known)}"
                )
        return [name for name in known if name in self._declared.on_demand]

    def _slices(self, table: Table) -> None:
        for name in self._declared.slices:
            column = table.column(name)
            if column is None or kind_of(column.data_type) is None:
                self._model_fault("slices", repr(name), f"a text, boolean or number column of {table.name}")

    def _spine(
        self, table: Table, training_set: TrainingSet, service: Service, inputs: Sequence[Input]
    ) -> Spine | None:
        declared = self._declared.predict
        if declared is None:
            if self._declared.gate.shadow is not None:
                self._model_fault(
                    "gate.shadow", self._declared.gate.shadow, "predict too: who is to predict?"
                )
            return None
        by_name = {t.name: t for t in self._declarations.layer("training") if t.meta.spine is not None}
        found = by_name.get(declared.spine)
        if found is None or found.meta.spine is None:
            known = ", ".join(sorted(by_name)) or "a model with config.meta.spine, of which there are none"
            self._model_fault("predict.spine", repr(declared.spine), f"one of {known}")
            return None
        partition = self._declarations.partition(found.unique_id)
        if partition is None:
            self._model_fault("predict.spine", f"{found.name}, which has no partitions", "one that has")
            return None
        key, instant = found.meta.spine.key, found.meta.spine.partition_by
        needed = {name: f"the key {name}" for name in key}
        needed |= {name: f"the entity key {name}" for w in service.features for name in w.role.join_keys}
        needed |= {name: f"the request column {name}" for name in service.declared.request}
        needed |= {name: f"the request column {name}" for name in self._declared.request}
        needed |= {instant: "the instant that parts it"}
        needed |= {training_set.prediction_time: "the prediction time"}
        for name, what in needed.items():
            column, trained = found.column(name), table.column(name)
            if column is None:
                self._model_fault("predict.spine", f"no {name} in {found.name}", what)
            elif trained is not None and trained.data_type != column.data_type:
                what = f"{trained.data_type}, as in {table.name}"
                self._model_fault("predict.spine", f"{found.name}.{name} of type {column.data_type}", what)
        for name in key:
            if table.column(name) is None:
                self._model_fault("predict.spine", f"key {name!r}", f"a column of {table.name} too")
        for name in (instant, training_set.prediction_time):
            column = found.column(name)
            if column is not None and column.data_type != "timestamptz":
                self._model_fault("predict.spine", f"{name} of type {column.data_type}", "an instant")
        kept = [c for c in found.columns if c.name in needed or c.name in self._declared.slices]
        taken = {*PREDICTION_COLUMNS, *ONLINE_COLUMNS} - ({"prediction_at"} & {training_set.prediction_time})
        for name in [c.name for c in kept] + [i.name for i in inputs]:
            if name in taken:
                self._model_fault("predict", f"a column {name}", "another name: each prediction has one")
        return Spine(found, key, instant, declared, partition, tuple(kept))


def spec_of(models: Mapping[str, ModelSpec], name: str) -> ModelSpec:
    """The model of that name.

    Raises:
        LookupError: None is declared.
    """
    if name not in models:
        raise LookupError(f"unknown model {name!r}; declared: {', '.join(sorted(models)) or 'none'}")
    return models[name]
