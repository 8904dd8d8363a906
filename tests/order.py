"""Which worker begins with what: the longest files first, one worker after another; what is short can move on.

pytest-xdist gives each worker a part of the list from the same end, and lets one that is done take over what is
last in another's part. The seconds need not be right: they only say which files are long.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

SECONDS = {
    "e2e/test_crashes.py": 240,
    "e2e/test_dagster_dev.py": 50,
    "e2e/test_feedback_loop.py": 130,
    "integration/dbt_project/test_models.py": 55,
    "integration/feature_server/test_project_server.py": 15,
    "integration/feature_server/test_concurrency.py": 15,
    "integration/feature_store/test_killed_materializations.py": 35,
    "integration/feature_store/test_online_assets.py": 30,
    "integration/transformation/test_dbt_events.py": 30,
    "integration/transformation/test_dbt_leaves_nothing.py": 25,
    "integration/automation/test_runs.py": 35,
    "integration/replay/test_replay.py": 60,
    "integration/second_domain/test_second_domain.py": 25,
    "integration/point_in_time/test_dimensions.py": 20,
    "integration/point_in_time/test_feature_views.py": 30,
    "integration/datasets/test_killed_builds.py": 25,
    "integration/learning/test_model_assets.py": 20,
    "integration/learning/test_killed_serving.py": 15,
    "integration/contracts/test_planted_defects.py": 15,
    "integration/readme/test_reading.py": 10,
}


def in_parts(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in as many parts as there are workers, of the same number each, the longest files first."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    long = {
        path: s for path in files for end, s in SECONDS.items() if path.as_posix().endswith(f"tests/{end}")
    }
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for path in sorted(long, key=lambda p: (-long[p], p)):
        least = loads.index(min(loads))
        parts[least] += files[path]
        loads[least] += long[path]
    short = [item for path, tests in files.items() if path not in long for item in tests]
    ordered: list[pytest.Item] = []
    for number, part in enumerate(parts):
        room = (len(items) - len(ordered)) // (workers - number) - len(part)
        ordered += part + short[: max(room, 0)]
        short = short[max(room, 0) :]
    return ordered + short
