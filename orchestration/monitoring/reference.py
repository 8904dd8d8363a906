"""What a served version looked like when it was made, from its manifest.

What belongs here: reading the manifest once for all that watches. What does not: the window that is compared
with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestration.learning.profile import ColumnProfile
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.statistics.gaps import CalibrationGaps


@dataclass(frozen=True)
class Expected:
    """A metric on the evaluation rows, with its interval where there is one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Reference:
    """A version: profiles of its inputs, its score and its label, importance, and what it reached."""

    version: str
    features: Mapping[str, ColumnProfile]
    score: ColumnProfile
    label: ColumnProfile
    importance: Mapping[str, float]
    threshold: float
    dataset_version: str
    train_start: datetime | None
    train_end: datetime
    expected: Mapping[str, Mapping[str, Expected]]
    """By slice, as ``column=value``, the empty text being all rows; then by metric."""
    persistence: Mapping[str, float] = field(default_factory=dict)
    """How much the days of each column, the score and the label hang together; 1 where it is not told."""
    gaps: CalibrationGaps | None = None
    """How far its scores are from what comes true; None where its manifest has not told yet."""


def read_reference(version: str, manifest: Mapping[str, Any]) -> Reference:
    """From an artifact's manifest."""
    profile, train = manifest["profile"], manifest["split"]["train"]
    positives = round(profile["label"] * profile["rows"])
    expected = {"": _metrics(manifest["metrics"]["evaluation"])}
    for column, values in manifest["slices"].items():
        for value, told in values.items():
            expected[f"{column}={value}"] = _metrics(told["metrics"])
    gaps = manifest.get("calibration_gaps")
    return Reference(
        version=version,
        features={name: ColumnProfile.from_json(told) for name, told in profile["features"].items()},
        score=ColumnProfile.from_json(profile["score"]),
        label=ColumnProfile(
            "label", "flag", profile["rows"], 0, (profile["rows"] - positives, positives, 0),
            values=("false", "true"),
        ),
        importance={name: float(share) for name, share in manifest["importance"]},
        threshold=float(manifest["operating_point"]["threshold"]),
        dataset_version=manifest["dataset"]["version"],
        train_start=None if train["start"] is None else datetime.fromisoformat(train["start"]),
        train_end=datetime.fromisoformat(train["end"]),
        expected=expected,
        persistence=profile.get("persistence", {}),
        gaps=None if gaps is None else CalibrationGaps.from_json(gaps),
    )  # fmt: skip


def _metrics(told: Mapping[str, Any]) -> dict[str, Expected]:
    return {name: Expected(m["value"], m["low"], m["high"]) for name, m in told.items()}


def reference_of(registry: Registry, spec: ModelSpec, version: str) -> Reference:
    """The reference of a registered version, every checksum of its artifact being right.

    Raises:
        RegistryError: It is not registered.
        CorruptArtifactError: Its artifact is not what was registered.
    """
    artifact = registry.artifact(spec.name, version)
    return read_reference(artifact.version, artifact.manifest)
