"""A challenger is judged: its rows read, both models scored, the gate asked, the verdict kept.

What belongs here: putting these together. What does not: any of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestration.learning.contest import Contest, hold_contest
from orchestration.learning.events import Event, Who
from orchestration.learning.gate import GateResult, Shadow, Situation, judge, passed
from orchestration.learning.model import ServedModel, opened
from orchestration.learning.plots import calibration_png
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.statistics.metrics import calibration_curve
from orchestration.learning.training import Code, Dataset, part_rows, train_on


@dataclass(frozen=True)
class Judged:
    """The verdict on a challenger, and what it rests on."""

    contest: Contest
    results: list[GateResult]
    event: Event

    def picture(self) -> bytes:
        """The calibration curves of both models."""
        contest = self.contest
        curves = {}
        for who, contender in (("challenger", contest.challenger), (contest.against, contest.opponent)):
            curve = calibration_curve(contest.part.labels, contender.scores)
            curves[who] = (curve.scores, curve.positives)
        return calibration_png(curves)


def judge_challenger(
    spec: ModelSpec,
    registry: Registry,
    version: str,
    open_dataset: Callable[[str, str], Dataset],
    checks: Mapping[str, bool | None],
    now: datetime,
    code: Code,
    who: Who,
    log: Callable[[str], None],
    *,
    forced: str | None = None,
    shadow: Shadow | None = None,
) -> Judged:
    """Judge a registered version on the newest rows of the dataset version that it was trained on.

    Args:
        spec: The model.
        registry: Where versions are.
        version: The challenger.
        open_dataset: Gives a version of a training set.
        checks: Whether each blocking check of the inputs holds.
        now: The platform's present instant.
        code: What trains a baseline, where one is needed.
        who: Who judges.
        log: Takes progress.
        forced: What forces a retrain that need not be better.
        shadow: How long the challenger has scored beside the champion, if it has.

    Raises:
        RegistryError: The version is not registered.
        CorruptArtifactError: A model's artifact is not what was registered; nothing is judged.
        SplitError: The dataset version has too few rows.
    """
    challenger = opened(registry.artifact(spec.name, version))
    serving = registry.champion(spec.name)
    champion = None if serving is None else opened(registry.artifact(spec.name, serving.version))
    dataset = open_dataset(spec.table.name, challenger.manifest["dataset"]["version"])
    wanted = dict.fromkeys([*spec.columns, *challenger.scorer.columns])
    parts = part_rows(spec, dataset.read(columns=[*wanted, *_also(champion, dataset, wanted)]))

    def baseline() -> ServedModel:
        log(f"training the baseline, {spec.declared.baseline.name}")
        made = train_on(
            spec, dataset.version, parts, registry.root, code, log, algorithm=spec.declared.baseline
        )
        registry.register(made, Who(who.actor, "the declared baseline", who.run_id))
        return opened(made)

    contest = hold_contest(spec, parts.evaluation, challenger, champion, baseline)
    results = judge(spec, contest, Situation(checks, now, forced, shadow))
    for result in results:
        log(f"{'passed' if result.passed else 'failed'} {result.name}: {result.description}")
    verdict = {
        "passed": passed(results),
        "champion": None if serving is None else serving.version,
        "against": contest.against,
        "forced": forced,
        "results": [result.as_json() for result in results],
    }
    return Judged(contest, results, registry.judge(spec.name, version, who, verdict))


def _also(champion: ServedModel | None, dataset: Dataset, wanted: Mapping[str, None]) -> list[str]:
    """The columns that only the champion reads and the dataset version has."""
    if champion is None:
        return []
    return [c for c in champion.scorer.columns if c not in wanted and c in dataset.columns()]
