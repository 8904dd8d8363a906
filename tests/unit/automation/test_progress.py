"""What a person reads while a run works, and how it ends."""

import io
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from orchestration.graph_run import _skipped
from orchestration.instance import open_instance
from orchestration.progress import Progress
from orchestration.settings import Settings

ROWS = {"dagster/row_count": 336_776, "summary": "3 more"}
DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04")


@dg.multi_asset(
    specs=[dg.AssetSpec(["raw", "t"]), dg.AssetSpec(["quarantine", "t"])], partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)  # fmt: skip
def land() -> Iterator[dg.MaterializeResult[None]]:
    yield dg.MaterializeResult(["raw", "t"], metadata=ROWS)
    yield dg.MaterializeResult(["quarantine", "t"], metadata={"dagster/row_count": 0})


@dg.asset(key=["staged", "t"], deps=[["raw", "t"]])
def stage() -> None:
    raise ValueError("bad [cast] of column x")


def _check(
    passed: bool, severity: dg.AssetCheckSeverity, *, blocking: bool, name: str = "complete"
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=["raw", "t"], name=name, blocking=blocking)
    def complete() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=passed, severity=severity, description="Missing values of x: 3; expected none.",
            metadata={"measured": 3.0, "threshold": "none", "contract": "soda_checks/raw/t.yml:7"},
        )  # fmt: skip

    return complete


def _follow(*checks: dg.AssetChecksDefinition) -> tuple[Progress, str]:
    text = io.StringIO()
    progress = Progress(Console(file=text, soft_wrap=True, highlight=False))
    job = dg.Definitions(
        assets=[land, stage], asset_checks=checks,
        jobs=[dg.define_asset_job("all", selection=dg.AssetSelection.all())],
    ).resolve_job_def("all")  # fmt: skip
    instance = dg.DagsterInstance.ephemeral()
    run_id = "3f0c52b4-7c1e-4c55-8a8e-0d8a2a0c0b11"
    instance.add_event_listener(run_id, progress)
    tags = {
        "dagster/asset_partition_range_start": "2024-01-01",
        "dagster/asset_partition_range_end": "2024-01-03",
    }
    with progress.shown():
        job.execute_in_process(instance=instance, run_id=run_id, tags=tags, raise_on_error=False)
    return progress, text.getvalue()


@pytest.fixture(scope="module")
def warned() -> tuple[Progress, str]:
    return _follow(_check(False, dg.AssetCheckSeverity.WARN, blocking=False))


def test_an_asset_of_many_partitions_is_one_line_with_its_rows(warned: tuple[Progress, str]) -> None:
    lines = [line for line in warned[1].splitlines() if "336,776 rows" in line]
    assert len(lines) == 1
    assert lines[0].split()[:2] == ["raw", "t"]
    assert lines[0].endswith(" s  3 more")


def test_an_empty_quarantine_is_no_news(warned: tuple[Progress, str]) -> None:
    assert "quarantine" not in warned[1]


def test_a_warning_is_one_line_and_blocks_nothing(warned: tuple[Progress, str]) -> None:
    progress, text = warned
    assert "warned complete: Missing values of x: 3; expected none." in text
    assert "look at" not in text
    assert progress.blocked == []


def test_an_error_names_the_step_and_keeps_brackets(warned: tuple[Progress, str]) -> None:
    progress, text = warned
    assert "staged__t failed: ValueError: bad [cast] of column x" in text
    assert progress.errors == ["staged__t: ValueError: bad [cast] of column x"]


def test_an_error_that_is_already_printed_is_only_named_at_the_end(warned: tuple[Progress, str]) -> None:
    progress, text = warned
    lines = [*text.splitlines(), *progress.why_failed()]
    assert len([line for line in lines if "bad [cast] of column x" in line]) == 1
    assert progress.why_failed() == ["staged__t failed: its error is printed above"]


def test_a_year_of_partitions_does_not_print_a_line_per_partition(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    year = dg.DailyPartitionsDefinition("2023-01-01", end_date="2024-01-01")

    @dg.asset(partitions_def=year, backfill_policy=dg.BackfillPolicy.single_run())
    def t(context: dg.AssetExecutionContext) -> None:
        context.log.info("landed")

    @dg.asset
    def u() -> None:
        raise ValueError("a cast")

    job = dg.Definitions(assets=[t, u], jobs=[dg.define_asset_job("all")]).resolve_job_def("all")
    tags = {
        "dagster/asset_partition_range_start": "2023-01-01",
        "dagster/asset_partition_range_end": "2023-12-31",
    }
    with open_instance(Settings(data_dir=tmp_path)) as instance:
        done = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
        made = instance.get_materialized_partitions(t.key)
        kinds = {event.dagster_event_type for event in instance.all_logs(done.run_id)}
    printed = capfd.readouterr().err
    assert len(made) == 365
    assert {dg.DagsterEventType.STEP_START, dg.DagsterEventType.ASSET_MATERIALIZATION} <= kinds
    assert not done.success
    assert "landed" in printed
    assert "a cast" in printed
    assert "MATERIALIZATION" not in printed
    assert len([line for line in printed.splitlines() if " - all - " in line]) < 10


def test_a_failed_check_says_what_it_measured_and_where_to_look() -> None:
    progress, text = _follow(_check(False, dg.AssetCheckSeverity.ERROR, blocking=True))
    assert "failed complete: Missing values of x: 3; expected none." in text
    assert "measured 3, threshold none, contract soda_checks/raw/t.yml:7" in text
    assert "look at: raw/t > Checks > complete" in text
    assert progress.blocked == ["raw/t: complete"]
    assert "staged__t" not in text


def test_checks_that_were_skipped_are_listed() -> None:
    @dg.asset_check(asset=["raw", "t"], name="complete")
    def complete() -> dg.AssetCheckResult:
        raise RuntimeError("out of memory")

    @dg.asset_check(asset=["staged", "t"], name="of_what_was_not_built")
    def other() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    checks = (complete, other, _check(True, dg.AssetCheckSeverity.ERROR, blocking=True, name="unique"))
    progress, _ = _follow(*checks)
    graph = dg.Definitions(assets=[land, stage], asset_checks=checks).get_repository_def().asset_graph
    assert list(_skipped(graph, progress)) == ["not evaluated: 1 check of raw/t: complete"]


def test_the_summary_counts_by_layer(warned: tuple[Progress, str]) -> None:
    rows = {line.split()[0]: line.split()[1:-1] for line in warned[0].summary().splitlines()}
    assert rows["raw"] == ["1", "336,776", "0", "1", "0"]
    assert rows["all"] == ["2", "336,776", "0", "1", "0"]
