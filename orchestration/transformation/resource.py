"""The Dagster resource that runs dbt, in the run's own process."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import ResourceDependency
from pydantic import PrivateAttr

from orchestration.settings import Settings

if TYPE_CHECKING:
    from dagster_dbt import DagsterDbtTranslator

    from orchestration.transformation.invocation import DbtInvocation

_ENGINE = "orchestration.transformation.engine"


class DbtResource(dg.ConfigurableResource[Any]):
    """Runs dbt commands as ``dagster_dbt.DbtCliResource`` does, without a process of their own.

    ``dbt.cli([...], context=context).stream()`` yields the same events; an invocation costs tenths
    of a second instead of five.
    """

    settings: ResourceDependency[Settings]
    _in_run: bool = PrivateAttr(default=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "DbtResource":
        """The resource for these settings; they are no part of its config, as they hold secrets."""
        return cls(settings=settings)

    @classmethod
    def _is_dagster_maintained(cls) -> bool:
        return False

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """From now on invocations share one DuckDB, until the run ends."""
        self._in_run = True

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close what the run's invocations have shared."""
        self._in_run = False
        if _ENGINE in sys.modules:  # else nothing has run
            sys.modules[_ENGINE].close_lakehouse()

    def cli(
        self,
        args: Sequence[str],
        *,
        raise_on_error: bool = True,
        manifest: Mapping[str, Any] | str | Path | None = None,
        dagster_dbt_translator: "DagsterDbtTranslator | None" = None,
        context: dg.AssetExecutionContext | dg.OpExecutionContext | None = None,
        target_path: Path | None = None,
    ) -> "DbtInvocation":
        """A dbt command, run when it is streamed.

        Args:
            args: The command without selection or project folder, such as ``["build"]``.
            raise_on_error: Whether the stream raises at its end when a node has failed.
            manifest: The manifest the step's assets were made from; by default that of ``@dbt_assets``.
            dagster_dbt_translator: How dbt's nodes are assets; by default that of ``@dbt_assets``.
            context: The step's context; its selected assets and checks are what dbt runs.
            target_path: Where the command's log, results and compiled SQL are kept; by default a folder
                of the run's own among the last 50.

        Raises:
            ValueError: The step's assets are of another dbt project.
        """
        # dbt and dagster-dbt take two seconds to import: only a run that uses them pays.
        from orchestration.transformation.invocation import DbtInvocation  # noqa: PLC0415

        return DbtInvocation(
            args,
            self.settings,
            context=context,
            manifest=manifest,
            translator=dagster_dbt_translator,
            target_path=target_path,
            raise_on_error=raise_on_error,
            keep_open=self._in_run,
        )
