"""Declared partitions become Dagster's, and days are as long as their zone makes them."""

from datetime import UTC, date, datetime, timedelta

from orchestration.declarations import Partition
from orchestration.partitions import day_window, partitions_def
from orchestration.settings import Clock

BERLIN = Partition(frequency="daily", start=date(2024, 3, 1), timezone="Europe/Berlin")


def test_an_open_ended_partition_grows_with_the_replay_clock():
    clock = Clock(datetime(2024, 3, 4, 23, 30, tzinfo=UTC))
    assert partitions_def(BERLIN, clock).get_partition_keys() == [
        "2024-03-01",
        "2024-03-02",
        "2024-03-03",
        "2024-03-04",
    ]


def test_a_closed_partition_ends_where_it_is_declared_to():
    closed = BERLIN.model_copy(update={"end": date(2024, 3, 3)})
    for clock in (Clock(), Clock(datetime(2030, 1, 1, tzinfo=UTC))):
        assert partitions_def(closed, clock).get_partition_keys() == ["2024-03-01", "2024-03-02"]


def test_nothing_declared_is_no_partition():
    assert partitions_def(None, Clock()) is None


def test_days_are_23_and_25_hours_long_where_clocks_change():
    def length(day):
        window = day_window(BERLIN, day)
        return window.end - window.start

    assert length(date(2024, 3, 30)) == timedelta(hours=24)
    assert length(date(2024, 3, 31)) == timedelta(hours=23)
    assert length(date(2024, 10, 27)) == timedelta(hours=25)
    assert day_window(BERLIN, date(2024, 7, 1)).start == datetime(2024, 6, 30, 22, tzinfo=UTC)
