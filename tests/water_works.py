"""The second domain, ready to run: another team's two folders under the same platform."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.settings import PROJECT_DIR, Settings
from tests.second_domain.deliveries import deliver

HERE = Path(__file__).parent / "second_domain"


@dataclass(frozen=True)
class WaterWorks:
    """Where a copy of the second domain lives, and the settings that point the platform at it."""

    root: Path
    deliveries: Path
    settings: Settings

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which another process works on the same copy."""
        threads = self.settings.duckdb_threads
        return {
            **os.environ,
            **({} if threads is None else {"GROUNDWORK_DUCKDB_THREADS": str(threads)}),
            "PUMPS_DATA": str(self.deliveries),
            "GROUNDWORK_DATA_DIR": str(self.settings.data_dir),
            "GROUNDWORK_DBT_PROJECT_DIR": str(self.settings.dbt_project_dir),
            "GROUNDWORK_SODA_CHECKS_DIR": str(self.settings.soda_checks_dir),
            "DAGSTER_HOME": str(self.settings.data_dir / "dagster"),
        }


def lay_out(root: Path) -> None:
    """The two folders of the second domain under ``root``."""
    shipped = PROJECT_DIR / "dbt_project"
    project = root / "dbt_project"
    shutil.copytree(HERE / "dbt_project", project)
    shutil.copytree(shipped / "macros" / "groundwork", project / "macros" / "groundwork")
    shutil.copy(shipped / "profiles.yml", project)
    shutil.copytree(HERE / "soda_checks", root / "soda_checks")


def make_water_works(
    root: Path, *, days: int = 4, parsed: Path | None = None, **settings: object
) -> WaterWorks:
    """The second domain under ``root``, with the files of its first ``days`` days delivered.

    ``parsed`` is a folder where it is laid out, and what dbt has parsed of it in ``data``: the works then use
    that, and must not change it. The variable ``PUMPS_DATA`` that its sources name must be set to
    ``deliveries`` by the caller.
    """
    if parsed is None:
        lay_out(root)
    else:
        cache = Path("data", "dbt", "manifest")
        shutil.copytree(parsed / cache, root / cache)
    project = parsed or root
    deliveries = root / "deliveries"
    deliver(deliveries, days)
    return WaterWorks(
        root,
        deliveries,
        Settings(
            data_dir=root / "data",
            dbt_project_dir=project / "dbt_project",
            soda_checks_dir=project / "soda_checks",
            **settings,
        ),
    )
