"""Champion and challenger on the same rows: scored now, on a window that neither has learnt from.

What belongs here: choosing those rows and scoring them. What does not: what the scores decide (``gate``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.learning.artifact import digest
from orchestration.learning.model import ServedModel
from orchestration.learning.spec import ModelSpec
from orchestration.learning.splitting import Window, days_of, labels_of, select
from orchestration.learning.training import Part

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A model and its scores of the contest's rows."""

    model: ServedModel
    scores: Floats


@dataclass(frozen=True)
class Contest:
    """Two models on the same rows; the opponent is the champion, or the baseline where there is none."""

    part: Part
    challenger: Contender
    opponent: Contender
    against: str
    """``champion`` or ``baseline``."""
    why: str
    """Why that one."""

    def facts(self) -> dict[str, Any]:
        """What was compared, for evidence; ``rows_sha256`` tells rows and labels."""
        return {
            "window": self.part.facts(),
            "rows_sha256": rows_digest(self.part),
            "challenger": self.challenger.model.version,
            "opponent": self.opponent.model.version,
            "against": self.against,
            "why": self.why,
        }


def learnt_until(model: ServedModel) -> datetime:
    """The instant from which on a model has seen no row and no label."""
    split = model.manifest["split"]
    end = datetime.fromisoformat(split["validation"]["end"])
    return end + timedelta(seconds=split["embargo_seconds"])


def missing_columns(model: ServedModel, rows: pa.Table) -> list[str]:
    """The columns that a model reads and the rows lack."""
    return [name for name in model.scorer.columns if name not in rows.column_names]


def hold_contest(
    spec: ModelSpec,
    evaluation: Part,
    challenger: ServedModel,
    champion: ServedModel | None,
    baseline: Callable[[], ServedModel],
) -> Contest:
    """Score challenger and opponent on the evaluation rows that neither has learnt from.

    The baseline, which is made when it is asked for, takes the champion's place where there is none, or where
    the rows have no longer what the champion reads.
    """
    opponent, against, why = None, "baseline", "there is no champion"
    if champion is not None:
        lacking = missing_columns(champion, evaluation.rows)
        if lacking:
            why = f"the champion reads {', '.join(lacking)}, which the rows have no longer"
        else:
            opponent, against, why = champion, "champion", "it serves"
    opponent = opponent or baseline()
    start = max(learnt_until(challenger), learnt_until(opponent))
    part = evaluation
    if evaluation.window.start is None or start > evaluation.window.start:
        part = _narrowed(spec, evaluation, Window(start, evaluation.window.end))
    return Contest(
        part,
        Contender(challenger, challenger.scorer.score(part.rows)),
        # The challenger's declaration decides: a champion that rejects infinite values blocks no successor.
        Contender(opponent, opponent.scorer.without_infinite().score(part.rows)),
        against,
        why,
    )


def _narrowed(spec: ModelSpec, part: Part, window: Window) -> Part:
    rows = select(part.rows, spec.training_set, window, spec.declared.split.embargo)
    return replace(
        part,
        window=window,
        rows=rows,
        labels=labels_of(rows, spec.training_set),
        days=days_of(rows, spec.training_set, spec.timezone),
    )


def rows_digest(part: Part) -> str:
    """A hash of the rows' labels and instants, in their order."""
    labels = part.labels.astype(np.int8).tobytes().hex()
    return digest(f"{part.window.words()} {labels} {part.days.tobytes().hex()}")
