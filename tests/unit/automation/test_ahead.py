"""What a run prepares while its first landings leave a processor to spare."""

import threading
import time
from collections.abc import Callable

import dagster as dg

from orchestration.graph_run import Ahead

RUN_ID = "3f0c52b4-7c1e-4c55-8a8e-0d8a2a0c0b11"
SECONDS = 30


def run(
    prepare: Callable[[], None], land: Callable[[], object], build: Callable[[], object]
) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """A run of two landings, then another step; gives what the next listener heard of the steps' starts."""

    @dg.op(name="land_orders")
    def first() -> int:
        land()
        return 1

    @dg.op(name="land_buyers")
    def second(before: int) -> int:
        return before

    @dg.op(name="dbt_staged")
    def other(before: int) -> None:
        build()

    @dg.job(executor_def=dg.in_process_executor)
    def graph() -> None:
        other(second(first()))

    started: list[str] = []

    def then(event: dg.EventLogEntry) -> None:
        if event.dagster_event_type == dg.DagsterEventType.STEP_START:
            started.append(event.step_key or "")

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_event_listener(RUN_ID, Ahead(prepare, then))
        return graph.execute_in_process(instance=instance, run_id=RUN_ID, raise_on_error=False), started


def test_it_prepares_beside_the_landings_and_other_steps_wait_for_it():
    begun, landed, order = threading.Event(), threading.Event(), []

    def prepare() -> None:
        begun.set()
        assert landed.wait(SECONDS)
        time.sleep(0.2)  # the next steps could begin
        order.append("prepared")

    def land() -> None:
        assert begun.wait(SECONDS)  # the preparation goes on while this step does
        landed.set()

    result, started = run(prepare, land, lambda: order.append("built"))
    assert result.success
    assert order == ["prepared", "built"]
    assert started == ["land_orders", "land_buyers", "dbt_staged"]


def test_what_could_not_be_prepared_fails_the_step_that_waits():
    def prepare() -> None:
        raise OSError("no space left on device")

    result, _ = run(prepare, lambda: None, lambda: None)
    failed = {e.step_key: e.step_failure_data.error for e in result.all_events if e.is_step_failure}
    assert set(failed) == {"dbt_staged"}
    assert "no space left on device" in failed["dbt_staged"].to_string()
