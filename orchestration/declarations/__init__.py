"""What the dbt project declares, as strict typed models read from dbt's manifest.

What belongs here: the shape of every ``config.meta`` the platform reads, and its validation. What
does not: what is done with a declaration (ingestion, features, quality decide that themselves).
"""

from orchestration.declarations.data_types import canonical, decimal_shape
from orchestration.declarations.durations import parse_duration
from orchestration.declarations.manifest import load_declarations
from orchestration.declarations.models import (
    Algorithm,
    DriftTrigger,
    Encoding,
    Floors,
    Gate,
    LearnedModel,
    Metric,
    ModelSplit,
    NewLabelsTrigger,
    OperatingPoint,
    PerformanceTrigger,
    Predict,
    Retrain,
)
from orchestration.declarations.monitoring import (
    BiasWatch,
    DriftWatch,
    Monitoring,
    PerformanceWatch,
    SkewWatch,
)
from orchestration.declarations.shapes import (
    Classification,
    ColumnMeta,
    ExposureMeta,
    FeatureService,
    FeatureView,
    Freshness,
    Ingest,
    OnDemandFeature,
    Partition,
    RequestColumn,
    RoleView,
    Spine,
    Split,
    TableMeta,
    TrainingSet,
)
from orchestration.declarations.strict import DeclarationError, Declared, parse_strict
from orchestration.declarations.tables import (
    LAYERS,
    Declarations,
    DeclaredColumn,
    Exposure,
    Layer,
    NullKeys,
    Table,
)

__all__ = [
    "LAYERS",
    "Algorithm",
    "BiasWatch",
    "Classification",
    "ColumnMeta",
    "DeclarationError",
    "Declarations",
    "Declared",
    "DeclaredColumn",
    "DriftTrigger",
    "DriftWatch",
    "Encoding",
    "Exposure",
    "ExposureMeta",
    "FeatureService",
    "FeatureView",
    "Floors",
    "Freshness",
    "Gate",
    "Ingest",
    "Layer",
    "LearnedModel",
    "Metric",
    "ModelSplit",
    "Monitoring",
    "NewLabelsTrigger",
    "NullKeys",
    "OnDemandFeature",
    "OperatingPoint",
    "Partition",
    "PerformanceTrigger",
    "PerformanceWatch",
    "Predict",
    "RequestColumn",
    "Retrain",
    "RoleView",
    "SkewWatch",
    "Spine",
    "Split",
    "Table",
    "TableMeta",
    "TrainingSet",
    "canonical",
    "decimal_shape",
    "load_declarations",
    "parse_duration",
    "parse_strict",
]
