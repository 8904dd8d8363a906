"""What the replay amounts to: a table of the lanes, what fired when and why, and pictures.

What belongs here: scoring what each lane served, and telling of it. What does not: the walk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.automation.retraining.decisions import DecisionLog
from orchestration.automation.retraining.policy import Decision
from orchestration.lakehouse import LakehouseResource
from orchestration.lakehouse.tables import relation
from orchestration.learning.artifact import read_artifact
from orchestration.learning.model import ServedModel, opened
from orchestration.learning.predictions.scoring import prediction_ids
from orchestration.learning.predictions.table import PREDICTIONS
from orchestration.learning.splitting import days_of, labels_of
from orchestration.learning.statistics.comparison import compare
from orchestration.learning.statistics.delong import placements
from orchestration.learning.statistics.metrics import losses
from orchestration.replay.live import NAME
from orchestration.replay.plots import weeks_png
from orchestration.replay.walk import Walked
from orchestration.replay.weeks import Week
from orchestration.settings import Clock

Floats = NDArray[np.float64]

AGAINST = "monthly"
"""The lane that all others are compared with."""
_ERROR_RATE = 0.05
_SCORE = "_score"


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
    lakehouse = LakehouseResource.from_settings(walked.live)
    with lakehouse.kept_open():
        decisions = DecisionLog(lakehouse, Clock(datetime.now(UTC))).decisions(walked.ground.spec.name)
        rows = _rows(walked, lakehouse)
    served = {name: _served(walked, name, rows) for name in walked.weeks}
    lines = [_line(walked, served, name) for name in served]
    pictures = {
        "log_loss.png": weeks_png("Log loss by week", _series(served, "log_loss"), _trained(served)),
        "auc.png": weeks_png("Area under the ROC curve by week", _series(served, "auc"), _trained(served)),
    }
    count = sum(table.num_rows for table in rows.values())
    return Report(lines, decisions, _markdown(walked, served, lines, decisions, count), pictures)


def _rows(walked: Walked, lakehouse: LakehouseResource) -> dict[datetime, pa.Table]:
    """The labelled rows of each week that all lanes served, with the live platform's score as ``_SCORE``."""
    spec, history = walked.ground.spec, walked.ground.history
    starts = set.intersection(*({week.start for week in found} for found in walked.weeks.values()))
    spans = {week.start: week.end for week in walked.weeks[NAME] if week.start in starts}
    if spec.spine is None:
        return {start: history.between(start, end) for start, end in spans.items()}
    with lakehouse.reader() as con:
        predicted = con.execute(
            f"select prediction_id, score from {relation(PREDICTIONS, spec.name)} where mode = 'batch'"
        ).fetchall()
    scores = dict(predicted)
    found = {}
    for start, end in spans.items():
        rows = history.between(start, end)
        told = pa.array([scores.get(key) for key in prediction_ids(spec, rows).to_pylist()], pa.float64())
        # Who asked for the row before the version was trained that serves on its day is not served by it.
        found[start] = rows.append_column(_SCORE, told).filter(pc.is_valid(told))
    return found


def _served(walked: Walked, name: str, rows: Mapping[datetime, pa.Table]) -> Served:
    ground, spec = walked.ground, walked.ground.spec
    is_live = name == NAME
    root = (walked.live if is_live else ground.settings).models_dir
    weeks = [week for week in walked.weeks[name] if week.start in rows]
    labels, scores, days, by_week = [], [], [], []
    models: dict[str, ServedModel] = {}
    for week in weeks:
        table = rows[week.start]
        known = labels_of(table, spec.training_set)
        if is_live and _SCORE in table.column_names:
            said = table.column(_SCORE).to_numpy()
        else:
            if week.version not in models:
                models = {week.version: opened(read_artifact(root, spec.name, week.version))}
            said = models[week.version].scorer.score(table)
        labels.append(known)
        scores.append(said)
        days.append(days_of(table, spec.training_set, spec.timezone))
        by_week.append((float(losses(known, said).mean()), placements(known, said).area))
    return Served(
        weeks,
        [loss for loss, _ in by_week],
        [area for _, area in by_week],
        np.concatenate(labels),
        np.concatenate(scores),
        np.concatenate(days),
    )


def _line(walked: Walked, served: Mapping[str, Served], name: str) -> Line:
    mine, other = served[name], served[AGAINST]
    test = compare(
        "log_loss", mine.labels, other.scores, mine.scores, mine.days, _ERROR_RATE,
        seed=walked.ground.spec.declared.seed,
    )  # fmt: skip
    return Line(
        name,
        walked.words[name],
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
    return [week.start for week in served[NAME].weeks if week.promoted]


def _markdown(
    walked: Walked,
    served: Mapping[str, Served],
    lines: Sequence[Line],
    decisions: Sequence[Decision],
    rows: int,
) -> str:
    spec, found = walked.ground.spec, served[NAME].weeks
    text = [
        f"# {spec.name}: the loop on recorded history",
        "",
        f"{len(found)} weeks from {found[0].start:%Y-%m-%d} to {found[-1].end:%Y-%m-%d}, {rows:,} "
        f"labelled predictions. {walked.words[NAME].capitalize()}: the platform itself, its jobs, assets and "
        "sensor on a clock that was moved, scored by what it predicted. The others were trained on the same "
        "rows, by the same promotion gate. "
        f"Gains are against training {walked.words[AGAINST]}, with one-sided bounds of "
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
