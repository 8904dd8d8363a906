"""What the command line accepts, before anything runs."""

from datetime import UTC, date, datetime

import pytest
from click.testing import CliRunner

from orchestration.automation.jobs import Span
from orchestration.cli import main
from orchestration.declarations import Declarations, DeclaredColumn, Ingest, Partition, Table, TableMeta
from orchestration.graph_run import UsageFault
from orchestration.project import Project
from orchestration.run_command import requested_span
from orchestration.settings import Clock, Settings

DAYS = Partition(frequency="daily", start=date(2024, 1, 1), end=date(2024, 2, 1))


def project(partition: Partition | None) -> Project:
    ingest = Ingest(
        uri="x.csv",
        format="csv",
        primary_key=("id",),
        event_time="at" if partition else None,
        partition=partition,
    )
    table = Table(
        unique_id="source.p.raw.t", layer="raw", schema="raw", name="t", description="A source.",
        file="models/raw/sources.yml", columns=(DeclaredColumn("id", "bigint", "Key.", "internal"),), tags=(),
        meta=TableMeta(owner="team:data", ingest=ingest), upstream=(),
    )  # fmt: skip
    declarations = Declarations({table.unique_id: table})
    return Project(Settings(), {}, declarations, Clock(datetime(2024, 1, 20, tzinfo=UTC)))


def test_without_arguments_every_partition_that_is_over_runs() -> None:
    assert requested_span(project(DAYS), None, None) == Span("2024-01-01", "2024-01-19")


def test_a_range_runs_as_asked() -> None:
    assert requested_span(project(DAYS), "2024-01-03", "2024-01-05") == Span("2024-01-03", "2024-01-05")
    assert requested_span(project(DAYS), "2024-01-18", None) == Span("2024-01-18", "2024-01-19")


def test_a_project_without_partitions_has_none_to_run() -> None:
    assert requested_span(project(None), None, None) is None
    with pytest.raises(UsageFault, match="2024-01-03"):
        requested_span(project(None), "2024-01-03", "2024-01-03")


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2024-01-25", "2024-01-25", "expected one from 2024-01-01 to 2024-01-19"),
        ("2023-12-31", None, "expected one from 2024-01-01 to 2024-01-19"),
        ("2024-01-05", "2024-01-03", "--from 2024-01-05 after --to 2024-01-03"),
    ],
)
def test_partitions_that_are_not_there_are_named(first: str, last: str | None, message: str) -> None:
    with pytest.raises(UsageFault, match=message):
        requested_span(project(DAYS), first, last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--partition", "june"], "expected a day such as 2013-06-30"),
        (["--partition", "2024-01-01", "--from", "2024-01-01"], "exclude each other"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["run", *arguments])
    assert result.exit_code == 2
    assert message in result.output
