"""A repeated request gets a new run key once its run has ended, after a pause."""

import dagster as dg
import pytest

from orchestration.run_keys import run_key

TAGS = {"dagster/run_key": "wanted", "dagster/sensor_name": "watch"}


@pytest.mark.parametrize("fails", [True, False])
def test_a_key_is_reused_only_until_its_run_ends(fails: bool) -> None:
    @dg.asset
    def made() -> None:
        if fails:
            raise ValueError("no")

    with dg.DagsterInstance.ephemeral() as instance:
        assert run_key(instance, "watch", "wanted", 0).key == "wanted"
        dg.materialize([made], instance=instance, tags=TAGS, raise_on_error=False)
        (record,) = instance.get_run_records()
        over = record.end_time or 0.0
        first = run_key(instance, "watch", "wanted", over)
        assert first.key == "wanted#1"
        assert first.wait_seconds == pytest.approx(60, abs=1)
        assert run_key(instance, "watch", "wanted", over + 61).wait_seconds == 0
        assert run_key(instance, "another", "wanted", over).key == "wanted"
