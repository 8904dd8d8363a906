"""What surrounds a build: the repository, the checks of Dagster's event log, the days that were built."""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg

from orchestration.dagster_ext import GraphChecks, check_gate
from orchestration.declarations import Partition
from orchestration.instance import open_instance
from orchestration.learning.datasets.circumstances import (
    built_window,
    check_outcomes,
    cutoff_of,
    git_state,
    lock_hash,
    window_filter,
)
from orchestration.settings import Settings
from tests.forks import CONTEXT
from tests.programs import require

KEY = dg.AssetKey(["training", "returns"])
DAYS = Partition(frequency="daily", start="2024-01-01", timezone="Europe/Berlin")


def test_git_says_the_commit_and_whether_files_differ_from_it(tmp_path):
    assert git_state(tmp_path) is None

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(
            [require("git"), "-C", tmp_path, *identity, *arguments], check=True, capture_output=True
        )

    git("init")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("a")
    git("add", ".")
    git("commit", "-m", "a")
    found = git_state(tmp_path)
    assert len(found.commit) == 40
    assert not found.dirty
    (tmp_path / "other").write_text("b")
    assert git_state(tmp_path).dirty
    assert lock_hash(tmp_path / "file").startswith("ca978112ca1bbdca")
    assert lock_hash(tmp_path / "none") is None


def graph(*, passed, severity=dg.AssetCheckSeverity.ERROR):
    @dg.asset(key=KEY)
    def returns():
        return dg.MaterializeResult(metadata={"training_cutoff": "2024-01-31T00:00:00+00:00"})

    @dg.asset_check(asset=KEY, blocking=True)
    def complete():
        return dg.AssetCheckResult(passed=passed, severity=severity, metadata={"measured": 3.5})

    return [returns, complete]


def published(instance, definitions, wait_seconds=0.0):
    """The outcomes that a version would record, or the error with which the asset refuses it."""
    specs = list(definitions[1].check_specs)
    checks = GraphChecks(wait_seconds=wait_seconds)
    checks.add(specs)

    @dg.asset(deps=[KEY])
    def version(context: dg.AssetExecutionContext):
        checks.pinned(context, lambda: None)

    try:
        dg.materialize([version], instance=instance)
    except dg.Failure as failure:
        return failure.description
    return check_outcomes(checks.history(instance).last_results(s.key for s in specs), specs)


def test_checks_are_told_as_they_last_came_out():
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = graph(passed=True)
        assert "training/returns: complete: not evaluated" in published(instance, definitions)
        run = dg.materialize(definitions, instance=instance)
        (found,) = published(instance, definitions)
        assert (found.name, found.outcome, found.measured) == ("complete", "passed", 3.5)
        assert found.run_id == run.run_id
        assert cutoff_of(instance, KEY) == datetime(2024, 1, 31, tzinfo=UTC)
        dg.materialize(definitions[:1], instance=instance)
        assert "complete: not evaluated for the whole table" in published(instance, definitions)


def test_a_run_that_checks_its_older_build_last_hides_nothing_of_the_newest():
    def evaluated(instance, target, *, passed):
        told = dg.AssetCheckEvaluation(
            asset_key=KEY,
            check_name="complete",
            passed=passed,
            metadata={},
            target_materialization_data=target,
        )
        instance.report_runless_asset_event(told)

    with dg.DagsterInstance.ephemeral() as instance:
        definitions = graph(passed=True)
        older = dg.materialize(definitions, instance=instance).get_asset_check_evaluations()[0]
        dg.materialize(definitions[:1], instance=instance)
        evaluated(instance, older.target_materialization_data, passed=True)
        assert "complete: not evaluated" in published(instance, definitions)
        dg.materialize(definitions, instance=instance)
        evaluated(instance, older.target_materialization_data, passed=True)
        (found,) = published(instance, definitions)
        assert found.outcome == "passed"
        evaluated(instance, older.target_materialization_data, passed=False)
        assert "complete: failed" in published(instance, definitions)


def test_what_a_blocking_check_does_not_vouch_for_is_refused():
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = graph(passed=False)
        dg.materialize(definitions[:1], instance=instance)
        assert "complete: not evaluated" in published(instance, definitions)
        dg.materialize(definitions, instance=instance, raise_on_error=False)
        found = published(instance, definitions)
        assert "found blocking checks that do not hold (1 failed)" in found
        assert "complete: failed" in found
        warning = graph(passed=False, severity=dg.AssetCheckSeverity.WARN)
        dg.materialize(warning, instance=instance)
        (found,) = published(instance, warning)
        assert found.outcome == "warned"


def build_and_check(settings, built, waited):
    """Another run, whose check comes once somebody has waited for it."""

    @dg.asset_check(asset=KEY, name="complete", blocking=True)
    def complete():
        built.set()
        assert waited.wait(60)
        return dg.AssetCheckResult(passed=True, metadata={"measured": 4.5})

    with open_instance(settings) as instance:
        assert dg.materialize([graph(passed=True)[0], complete], instance=instance).success


def test_a_run_that_has_built_the_training_set_anew_may_first_check_it(tmp_path, monkeypatch):
    """While it goes on; what it leaves unchecked is refused at once."""
    settings = Settings(data_dir=tmp_path)
    built, waited = CONTEXT.Event(), CONTEXT.Event()

    def pause(seconds):
        waited.set()
        time.sleep(0.2)

    monkeypatch.setattr(check_gate, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    definitions = graph(passed=True)
    with open_instance(settings) as instance:
        first = dg.materialize(definitions, instance=instance).run_id
        other = CONTEXT.Process(target=build_and_check, args=(settings, built, waited))
        other.start()
        assert built.wait(60)
        assert "complete: not evaluated yet" in published(instance, definitions, wait_seconds=-1)
        (found,) = published(instance, definitions, wait_seconds=60)
        assert waited.is_set()
        assert found.measured == 4.5
        assert found.run_id != first
        other.join(60)
        assert other.exitcode == 0
        dg.materialize(definitions[:1], instance=instance)
        assert "complete: not evaluated for the whole table" in published(instance, definitions, 60)


def test_days_that_were_built_since_the_table_was_made_are_spans():
    def made(instance, *days):
        for day in days:
            instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=day))

    with dg.DagsterInstance.ephemeral() as instance:
        assert built_window(instance, KEY, DAYS, "known_at", None) is None
        made(instance, "2024-01-09", "2024-01-10")
        since = datetime.now(UTC)
        made(instance, "2024-01-02", "2024-01-01", "2024-01-04", "2024-01-10")
        found = built_window(instance, KEY, DAYS, "known_at", since)
        midnight = datetime(2023, 12, 31, 23, tzinfo=UTC)
        day = timedelta(days=1)
        assert found.spans == (
            (midnight, midnight + 2 * day),
            (midnight + 3 * day, midnight + 4 * day),
            (midnight + 9 * day, midnight + 10 * day),
        )
        assert window_filter(found).count(" or ") == 2
        assert len(built_window(instance, KEY, DAYS, "known_at", None).spans) == 3
        assert built_window(instance, KEY, None, "known_at", None) is None
    assert window_filter(None) == "true"
