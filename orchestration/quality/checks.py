"""Soda contracts as Dagster asset checks: one op a contract, one check a Soda check.

What belongs here: building the ops. What does not: everything inside them (``verification``) and the
look of a result (``results``).
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from orchestration.asset_specs import asset_key
from orchestration.dagster_ext import CheckHistory
from orchestration.dagster_ext.check_state import WHOLE_TABLE
from orchestration.lakehouse import LakehouseResource
from orchestration.partitions import run_window
from orchestration.quality.contract import Contract
from orchestration.quality.results import check_result, check_spec, with_open_failures
from orchestration.quality.verification import verify
from orchestration.settings import Clock


def build_contract_checks(contracts: Sequence[Contract], clock: Clock) -> list[dg.AssetChecksDefinition]:
    """The checks of every contract, one op a table.

    A check carries no partitions of its own: an op must also run without partitions, and over a range
    of them in one run, which Dagster's partitioned checks do not. In a partitioned run it tests the
    run's window.
    """
    return [_checks(contract, clock) for contract in contracts]


def _checks(contract: Contract, clock: Clock) -> dg.AssetChecksDefinition:
    table = contract.target.table
    by_name = {check.name: check for check in contract.checks}

    @dg.multi_asset_check(
        name=f"check_{table.layer}_{table.name}",
        specs=[check_spec(contract, check) for check in contract.checks],
        description=f"The contract {contract.file}.",
        can_subset=True,
        compute_kind="soda",
    )
    def _run(
        context: dg.AssetCheckExecutionContext, lakehouse: LakehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        checks = [check for name, check in by_name.items() if name in selected]
        column = contract.target.window_column
        window = run_window(context) if column is not None else None
        key = asset_key(table)
        partitions = {} if column is None else {key: column.partition}
        history = CheckHistory(context.instance, partitions, context.run.run_id)
        # Before the first row is read: data that is built meanwhile is not tested.
        until = history.newest_materialization(key)
        windowed: list[dg.AssetCheckKey] = []
        with lakehouse.reader() as con:
            for verdict in verify(con, contract, checks, window, clock.now()):
                result = check_result(con, contract, verdict, window, until)
                if column is not None and verdict.check.blocking and not verdict.check.whole_table:
                    check = dg.AssetCheckKey(key, verdict.check.name)
                    result = with_open_failures(
                        result, window, history.open_failures(check, until, window or WHOLE_TABLE)
                    )
                    windowed.append(check)
                yield result
        CheckHistory(context.instance, partitions, context.run.run_id).republish(windowed)

    return _run
