"""What the replay amounts to: a table of the lanes, what fired when and why, and pictures.

What belongs here: scoring what each lane served, and telling of it. What does not: the walk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestration.automation.retraining.policy import Decision
from orchestration.learning.model import opened
from orchestration.learning.splitting import days_of, labels_of
from orchestration.learning.statistics.comparison import compare
from orchestration.learning.statistics.delong import placements
from orchestration.learning.statistics.metrics import losses
from orchestration.replay.lanes import Week
from orchestration.replay.plots import weeks_png
from orchestration.replay.walk import Walked

Floats = NDArray[np.float64]

AGAINST = "monthly"
"""The lane that all others are compared with."""
_ERROR_RATE = 0.05


@dataclass(frozen=True)
class Served:
    """What a lane served, by week; ``start`` is the first week that all lanes served."""

    weeks: Sequence[Week]
    log_loss: Sequence[float]
    auc: Sequence[float]
    labels: Floats
    scores: Floats
    days: NDArray[np.int64]

    @property
    def mean_log_loss(self) -> float:
        """Over all rows."""
        return float(losses(self.labels, self.scores).mean())

    @property
    def mean_auc(self) -> float:
        """Over the weeks."""
        return float(np.mean(self.auc))


@dataclass(frozen=True)
class Line:
    """A lane in the table; ``gain`` is by how much its log loss is lower than the other lane's."""

    name: str
    words: str
    trainings: int
    promotions: int
    log_loss: float
    auc: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """The whole: lines, decisions of the triggers, and the same as Markdown with pictures beside it."""

    lines: Sequence[Line]
    decisions: Sequence[Decision]
    markdown: str
    pictures: Mapping[str, bytes]

    def write(self, folder: Path) -> Path:
        """Write Markdown and pictures into a folder and give the Markdown's place."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in self.pictures.items():
            (folder / name).write_bytes(png)
        place = folder / "report.md"
        place.write_text(self.markdown, encoding="utf-8")
        return place


def make_report(walked: Walked) -> Report:
    """Score every week of every lane, and tell of it."""
    served = {name: _served(walked, found) for name, found in walked.weeks.items()}
    lines = [_line(walked, served, name) for name in served]
    now = datetime.now(UTC)
    lane = walked.lanes["triggers"]
    with lane.lakehouse.kept_open():
        decisions = lane.decisions(now)
    pictures = {
        "log_loss.png": weeks_png("Log loss by week", _series(served, "log_loss"), _trained(served)),
        "auc.png": weeks_png("Area under the ROC curve by week", _series(served, "auc"), _trained(served)),
    }
    return Report(lines, decisions, _markdown(walked, lines, decisions), pictures)


def _served(walked: Walked, found: Sequence[Week]) -> Served:
    ground = walked.ground
    spec, history = ground.spec, ground.history
    root = ground.models
    labels, scores, days, by_week = [], [], [], []
    models: dict[str, object] = {}
    for week in found:
        rows = history.between(week.start, week.end)
        known = labels_of(rows, spec.training_set)
        if week.version not in models:
            models = {week.version: _open(root, spec.name, week.version)}
        said = models[week.version].scorer.score(rows)  # type: ignore[attr-defined]
        labels.append(known)
        scores.append(said)
        days.append(days_of(rows, spec.training_set, spec.timezone))
        by_week.append((float(losses(known, said).mean()), placements(known, said).area))
    return Served(
        found,
        [loss for loss, _ in by_week],
        [area for _, area in by_week],
        np.concatenate(labels),
        np.concatenate(scores),
        np.concatenate(days),
    )


def _open(root: Path, name: str, version: str) -> object:
    from orchestration.learning.artifact import read_artifact  # noqa: PLC0415

    return opened(read_artifact(root, name, version))


def _line(walked: Walked, served: Mapping[str, Served], name: str) -> Line:
    mine, other = served[name], served[AGAINST]
    test = compare(
        "log_loss", mine.labels, other.scores, mine.scores, mine.days, _ERROR_RATE,
        seed=walked.ground.spec.declared.seed,
    )  # fmt: skip
    return Line(
        name,
        walked.lanes[name].plan.words,
        sum(week.trained is not None for week in mine.weeks),
        sum(week.promoted for week in mine.weeks),
        mine.mean_log_loss,
        mine.mean_auc,
        test.gain,
        test.low,
        test.high,
    )


def _series(served: Mapping[str, Served], what: str) -> dict[str, tuple[Sequence[datetime], Sequence[float]]]:
    return {name: ([w.start for w in told.weeks], getattr(told, what)) for name, told in served.items()}


def _trained(served: Mapping[str, Served]) -> list[datetime]:
    return [week.start for week in served["triggers"].weeks if week.promoted]


def _markdown(walked: Walked, lines: Sequence[Line], decisions: Sequence[Decision]) -> str:
    spec, found = walked.ground.spec, walked.weeks["triggers"]
    rows = sum(walked.ground.history.between(w.start, w.end).num_rows for w in found)
    text = [
        f"# {spec.name}: the loop on recorded history",
        "",
        f"{len(found)} weeks from {found[0].start:%Y-%m-%d} to {found[-1].end:%Y-%m-%d}, {rows:,} "
        "predictions. Every lane begins with the same first version; each later training passes the same "
        "promotion gate. "
        f"Gains are against training {walked.lanes[AGAINST].plan.words}, with one-sided bounds of "
        f"{1 - _ERROR_RATE:.0%} by drawing whole days.",
        "",
        "| trained | trainings | promoted | mean log loss | mean AUC | lower by | at least | at most |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in lines:
        gain = f"{line.gain:+.5f} | {line.low:+.5f} | {line.high:+.5f}" if line.name != AGAINST else "| |"
        text.append(
            f"| {line.words} | {line.trainings} | {line.promotions} | {line.log_loss:.5f} | {line.auc:.4f} "
            f"| {gain} |"
        )
    text += ["", "![Log loss by week](log_loss.png)", "", "![AUC by week](auc.png)", "", "## What fired", ""]
    text += ["| when | what | why | then |", "|:--|:--|:--|:--|"]
    promoted = {week.start: week for week in found}
    for decision in decisions:
        if decision.outcome == "fired":
            week = promoted.get(decision.decided_at)
            then = "" if week is None else "promoted" if week.promoted else "the champion stayed"
            told = f"{decision.decided_at:%Y-%m-%d} | {', '.join(decision.triggers)} | {decision.reason}"
            text.append(f"| {told} | {then} |")
    held = [d for d in decisions if d.outcome == "suppressed"]
    text += ["", f"## What was held back: {len(held)} times", ""]
    text += ["| when | what | why |", "|:--|:--|:--|"]
    text += [f"| {d.decided_at:%Y-%m-%d} | {', '.join(d.triggers)} | {d.reason} |" for d in held]
    return "\n".join(text) + "\n"
