"""A floating-point measure of ``rolling_sums`` stops the load, with its column and what to declare instead."""

from pathlib import Path

import pytest

from orchestration.declarations import DeclarationError
from orchestration.project import read_project
from tests.water_works import make_water_works


def test_a_floating_point_measure_is_refused_when_definitions_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = make_water_works(tmp_path, days=1)
    monkeypatch.setenv("PUMPS_DATA", str(works.deliveries))
    read_project(works.settings)
    model = works.settings.dbt_project_dir / "models" / "features" / "pump_pressure.sql"
    text = model.read_text()
    model.write_text(text.replace("cast(pressure * 100 as integer)", "cast(pressure as double)"))
    place = r"models/features/pump_pressure\.sql: rolling_sums\.measures\.centibar: found double"
    for _ in range(2):
        with pytest.raises(DeclarationError, match=place + r", .* cast\(centibar as decimal\(18, 6\)\)"):
            read_project(works.settings)
    model.write_text(text.replace("cast(pressure * 100 as integer)", "pressure"))
    read_project(works.settings)
    assert not (works.settings.lake_dir / "catalog.sqlite").exists()
