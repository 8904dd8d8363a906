"""The loop in Dagster: a challenger is trained, judged and promoted, or it is not and nothing changes."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.utils import make_new_run_id

from orchestration import models_command
from orchestration.cli import main
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import CorruptArtifactError
from orchestration.learning.assets import Ground, build_model_assets, model_key
from orchestration.learning.conditions import CONDITIONS
from orchestration.learning.registry import Registry
from orchestration.learning.spec import ModelSpec
from orchestration.learning.splitting import SplitError
from orchestration.settings import PROJECT_DIR, Clock, Settings
from tests.forks import CONTEXT
from tests.integration.learning.killed import become_mortal
from tests.model_works import CODE, Rows, make_rows, make_spec

INPUT = dg.AssetCheckKey(dg.AssetKey(["raw", "readings"]), "row_count")
WATCH = dg.AssetCheckKey(dg.AssetKey(["monitoring", "low_pressure_skew"]), "no_skew")


@dg.asset(key=["raw", "readings"])
def readings() -> None: ...


@dg.asset(key=["dataset", "low_pressure_training_set"])
def dataset() -> None: ...


@dataclass
class Works:
    """The assets of one model, on datasets that a test puts there."""

    settings: Settings
    lakehouse: LakehouseResource
    registry: Registry
    instance: dg.DagsterInstance
    datasets: dict[str, Rows] = field(default_factory=dict)

    def ground(self) -> Ground:
        def open_dataset(name: str, version: str) -> Rows:
            assert name == "low_pressure_training_set"
            return list(self.datasets.values())[-1] if version == "latest" else self.datasets[version]

        return Ground(
            self.settings,
            Clock(datetime(2024, 3, 1, tzinfo=UTC)),
            open_dataset,
            lambda name: dg.AssetKey(["dataset", name]),
            lambda _: [INPUT],
            lambda _: CODE,
            watches=lambda _: [WATCH],
        )

    def evaluate_input(self, passed: bool) -> None:
        @dg.asset_check(asset=readings, name="row_count", blocking=True)
        def row_count() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=passed)

        dg.materialize([readings, row_count], instance=self.instance, raise_on_error=False)

    def run(
        self,
        spec: ModelSpec,
        config: Mapping[str, Any] | None = None,
        parts: tuple[str, ...] = (),
        **how: Any,
    ) -> dg.ExecuteInProcessResult:
        assets = build_model_assets({spec.name: spec}, self.ground())
        return dg.materialize(
            [readings, dataset, *assets],
            selection=[model_key(spec, p) for p in parts or ("challenger", "evaluation", "champion")],
            instance=self.instance,
            resources={"lakehouse": self.lakehouse},
            run_config={"ops": config or {}},
            **how,
        )


@pytest.fixture
def works(settings: Settings, lakehouse: LakehouseResource, registry: Registry) -> Iterator[Works]:
    with dg.DagsterInstance.ephemeral() as instance:
        made = Works(settings, lakehouse, registry, instance, {"d0": Rows(make_rows(), "d0")})
        made.evaluate_input(True)
        yield made


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def decision(result: dg.ExecuteInProcessResult, spec: ModelSpec) -> str:
    event = next(
        e for e in result.get_asset_materialization_events()
        if e.asset_key == model_key(spec, "champion")
    )  # fmt: skip
    return str(event.materialization.metadata["decision"].value)


def test_challengers_are_trained_judged_and_promoted_or_not(works: Works) -> None:
    # The first beats the baseline; the second, of labels without sense, changes nothing.
    first = works.run(make_spec())
    assert verdicts(first) == dict.fromkeys(CONDITIONS, True)
    champion = works.registry.champion("low_pressure")
    assert champion is not None
    assert (champion.actor, champion.run_id, champion.before) == ("dagster", first.run_id, None)
    challenger = next(
        e
        for e in first.get_asset_materialization_events()
        if e.asset_key == model_key(make_spec(), "challenger")
    ).materialization.metadata
    assert str(challenger["card"].value).startswith(f"# low_pressure {champion.version}")
    assert all(
        str(challenger[name].value).startswith("![") for name in ("learning_curve", "calibration_curve")
    )

    again = works.run(make_spec())
    assert (
        decision(again, make_spec()) == f"{champion.version} serves on: trained again, it came out the same"
    )

    works.datasets["d1"] = Rows(make_rows(strength=0.0, seed=2), "d1")
    second = works.run(make_spec())
    assert second.success
    found = verdicts(second)
    assert found["inputs_hold"]
    assert not found["better_than_champion"]
    assert decision(second, make_spec()).startswith(f"{champion.version} serves on: ")
    assert works.registry.champion("low_pressure") == champion

    # Judged again, nothing is trained; and what was decided on already is not decided on again.
    third = works.run(make_spec(), parts=("champion",))
    assert "failed floors_reached" in decision(third, make_spec())

    # A check of an input fails: not even a model that is good enough may take over.
    works.evaluate_input(False)
    works.datasets["d2"] = Rows(make_rows(seed=3), "d2")
    config = {"model__low_pressure_evaluation": {"config": {"forced": "age"}}}
    fourth = works.run(make_spec(), config)
    assert verdicts(fourth) == dict.fromkeys(CONDITIONS, False) | {"same_frozen_window": True}
    works.evaluate_input(True)
    fifth = works.run(make_spec(), config, parts=("evaluation", "champion"))
    newest = works.registry.champion("low_pressure")
    assert verdicts(fifth) == dict.fromkeys(CONDITIONS, True)
    assert newest is not None
    assert newest.before == champion.version
    assert newest.detail["forced"] == "age"
    assert works.registry.version("low_pressure", newest.version).detail["dataset"] == "d2"
    assert works.registry.verify() == []
    assert works.registry.unregistered() == {}

    # A rollback stands: the verdict before it does not promote again.
    back = works.registry.rollback("low_pressure", models_command._person("It was slow."))
    assert back.version == champion.version
    sixth = works.run(make_spec(), parts=("champion",))
    assert (
        decision(sixth, make_spec())
        == f"{champion.version} serves: what was judged last was decided on already"
    )
    assert works.registry.champion("low_pressure") == back


def test_a_failed_retrain_leaves_the_champion_serving(works: Works) -> None:
    works.run(make_spec())
    champion = works.registry.champion("low_pressure")
    assert champion is not None
    for rows, fault in [
        (make_rows().slice(0, 0), "found no rows"),
        (make_rows(days=10), "train rows, .*: found 0 rows with a label, expected at least 100"),
        (make_rows().set_column(2, "is_low", [[True] * 3600]), "expected both classes"),
    ]:
        works.datasets["d1"] = Rows(rows, "d1")
        with pytest.raises(SplitError, match=fault):
            works.run(make_spec(), parts=("challenger",))
    assert not works.run(make_spec(), raise_on_error=False).success
    assert works.registry.champion("low_pressure") == champion
    assert len(works.registry.versions("low_pressure")) == 2  # With the baseline it was compared with.


def train_and_die(folder: Path, commit: int, before: bool) -> None:
    settings = Settings(data_dir=folder, duckdb_threads=1)
    lakehouse = LakehouseResource.from_settings(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        works = Works(settings, lakehouse, opened_registry(settings), instance, {"d0": few_rows()})
        works.evaluate_input(True)
        spec = make_spec()
        become_mortal(commit, before=before)
        works.run(spec)


def few_rows() -> Rows:
    return Rows(make_rows(40, 40), "d0")


def opened_registry(settings: Settings) -> Registry:
    clock = Clock(datetime(2024, 3, 1, tzinfo=UTC))
    return Registry(LakehouseResource.from_settings(settings), settings.data_dir / "models", clock)


def test_killed_at_any_commit_the_next_run_ends_as_if_nothing_was(works: Works, tmp_path: Path) -> None:
    works.datasets = {"d0": few_rows()}
    works.run(make_spec())
    events = [(e.kind, e.version) for e in works.registry.events()]
    champion = works.registry.champion("low_pressure")
    assert champion is not None
    assert [kind for kind, _ in events] == ["registered", "registered", "judged", "promoted"]
    for commit, before in [*((number, True) for number in range(1, 5)), (4, False)]:
        folder = tmp_path / f"{commit}{before}"
        process = CONTEXT.Process(target=train_and_die, args=(folder, commit, before))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        settings = Settings(data_dir=folder, duckdb_threads=1)
        registry = opened_registry(settings)
        assert registry.verify() == []
        found = [(e.kind, e.version) for e in registry.events()]
        assert found == events[: commit - before]
        for event in registry.versions("low_pressure"):
            registry.artifact("low_pressure", event.version)
        again = replace(works, settings=settings, lakehouse=registry._lakehouse, registry=registry)
        assert again.run(make_spec()).success
        # What was judged already is judged again, and nothing else is done twice.
        assert list(dict.fromkeys((e.kind, e.version) for e in registry.events())) == events
        assert len(registry.events()) - len(events) == (commit == 4)
        assert registry.champion("low_pressure").version == champion.version
        assert (registry.verify(), registry.unregistered()) == ([], {})


def test_a_run_killed_before_a_planned_monitoring_check_closes_no_gate(works: Works) -> None:
    works.datasets = {"d0": few_rows()}
    killed = dg.DagsterRun("all_assets", make_new_run_id(), status=dg.DagsterRunStatus.FAILURE)
    works.instance.add_run(killed)
    data = AssetCheckEvaluationPlanned(asset_key=WATCH.asset_key, check_name=WATCH.name)
    kind = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
    planned = DagsterEvent(kind, "all_assets", event_specific_data=data)
    works.instance.report_dagster_event(planned, killed.run_id)
    assert all(verdicts(works.run(make_spec())).values())
    assert works.registry.champion("low_pressure") is not None


def test_a_judged_challenger_is_not_promoted_after_a_check_fails(works: Works) -> None:
    works.datasets = {"d0": few_rows()}
    works.run(make_spec(), parts=("challenger", "evaluation"))
    works.evaluate_input(False)
    withheld = works.run(make_spec(), parts=("champion",))
    assert "is not promoted: 1 failed: raw/readings:row_count" in decision(withheld, make_spec())
    assert works.registry.champion("low_pressure") is None
    works.evaluate_input(True)
    works.run(make_spec(), parts=("champion",))
    assert works.registry.champion("low_pressure") is not None


def test_a_damaged_champion_is_told_and_not_replaced_unseen(works: Works) -> None:
    works.run(make_spec())
    champion = works.registry.champion("low_pressure")
    assert champion is not None
    (works.registry.root / "low_pressure" / champion.version / "model.txt").write_text("trees?")
    works.datasets["d1"] = Rows(make_rows(seed=3), "d1")
    with pytest.raises(CorruptArtifactError, match=r"model\.txt: found content of SHA-256"):
        works.run(make_spec())
    assert works.registry.champion("low_pressure") == champion


def test_the_command_shows_promotes_and_verifies(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    works.run(make_spec())
    works.datasets["d1"] = Rows(make_rows(strength=0.5, seed=3), "d1")
    works.run(make_spec())
    monkeypatch.setattr(models_command, "open_registry", lambda _: works.registry)
    monkeypatch.setattr(
        models_command,
        "input_verdicts",
        lambda *_: works.ground().verdicts(works.instance, make_spec()),
    )

    def said(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["models", *arguments], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    champion = works.registry.champion("low_pressure")
    assert champion is not None
    other = next(
        v for v in reversed(works.registry.versions("low_pressure")) if v.version != champion.version
    )
    listed = said("list")
    assert f"{champion.version}  2024-03-01 00:00  lightgbm" in listed
    assert "logistic_regression" in listed
    assert "champion since 2024-03-01 00:00" in listed
    assert "The gate is open." in said("show", "low_pressure")
    assert "## Trained on" in said("show", "low_pressure", champion.version[:7])
    assert '"version"' in said("card", "low_pressure", "--json")
    compared = said("compare", "low_pressure", champion.version, other.version)
    assert "log_loss" in compared
    assert f"{other.version} serves" in said("promote", "low_pressure", other.version, "--reason", "To see.")
    works.evaluate_input(False)
    promote = ("promote", "low_pressure", other.version, "--reason", "Now.")
    assert "do not hold: 1 failed: raw/readings:row_count" in said(*promote, code=1)
    assert "warning: promoted although" in said(*promote, "--ignore-failed-checks")
    works.evaluate_input(True)
    assert f"{champion.version} serves" in said("rollback", "low_pressure", "--reason", "Seen.")
    assert "0 faults" in said("verify", "--head", champion.hash)
    assert "found no event of hash abc" in said("verify", "--head", "abc", code=1)
    assert "found no such version" in said("promote", "low_pressure", "x", "--reason", "y", code=1)
    assert "found no model 'high'" in said("show", "high", code=1)


def test_what_definitions_import_is_light() -> None:
    script = (
        "import sys, orchestration.learning.assets, orchestration.learning.spec; "
        "print({'lightgbm', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=PROJECT_DIR
    )
    assert done.stdout == "set()\n"
