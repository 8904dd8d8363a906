"""``groundwork dataset`` in the terminal."""

import json
import re

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from tests.integration.datasets.orders import NAME


@pytest.fixture
def dataset(orders, monkeypatch):
    """Runs a command on two versions of the orders, in this process."""
    monkeypatch.setenv("GROUNDWORK_DATA_DIR", str(orders.settings.data_dir))
    monkeypatch.setenv("GROUNDWORK_DBT_PROJECT_DIR", str(orders.settings.dbt_project_dir))
    orders.build()
    orders.append(100, 50)
    orders.build()

    def command(*arguments, code=0):
        result = CliRunner().invoke(main, ["dataset", *arguments])
        assert result.exit_code == code, result.output
        return json.loads(result.output) if "--json" in arguments else result.output

    return command


def test_versions_are_listed_shown_compared_checked_and_made_again(dataset):
    newest, oldest = (one["version"] for one in dataset("list", "--json"))
    assert f"{NAME}@{newest}" in dataset("list", NAME)
    assert dataset("show", NAME, oldest[:5], "--json")["rows"] == 100
    assert re.search(r"splits +train 90, validation 30, test 30", dataset("show", NAME))
    assert "rows: 50 added, 0 removed, 0 changed" in dataset("diff", NAME, oldest)
    assert dataset("diff", NAME, newest, oldest, "--json")["rows"]["removed"] == 50
    assert "is whole: 3 files, 150 rows" in dataset("verify", NAME)
    assert dataset("verify", NAME, oldest, "--json") == {
        "version": f"{NAME}@{oldest}", "whole": True, "faults": []
    }  # fmt: skip
    assert "comes out the same from snapshot" in dataset("rebuild", NAME, oldest)


def test_a_version_that_does_not_hold_ends_with_code_1(dataset, orders):
    file = orders.version().path / "part-00001.parquet"
    file.chmod(0o644)
    file.write_bytes(b"")
    assert "found 0 bytes" in dataset("verify", NAME, code=1)
    orders.run(f"update lake.training.{NAME} set amount = 1 where order_id = 42")
    orders.build()
    assert "changed: order_id 42 in amount" in dataset("rebuild", NAME, code=1)
    assert dataset("rebuild", NAME, "--json", code=1)["rows"]["changed"] == 1


def test_versions_are_pinned_and_removed(dataset):
    newest, oldest = (one["version"] for one in dataset("list", "--json"))
    dataset("pin", NAME, oldest[:8], "--reason", "of the audit")
    assert "pinned: of the audit" in dataset("gc", "--keep", "1")
    assert dataset("list", "--json")[1]["pinned"] == "of the audit"
    dataset("unpin", NAME, oldest)
    assert "would go: --remove removes them" in dataset("gc", NAME, "--keep", "1")
    (kept, gone) = dataset("gc", "--keep", "1", "--remove", "--json")
    assert (kept["version"], kept["removed"]) == (f"{NAME}@{newest}", False)
    assert (gone["version"], gone["removed"]) == (f"{NAME}@{oldest}", True)
    assert len(dataset("list", "--json")) == 1


def test_json_and_lines_are_unchanged_by_rich_markup_in_values(dataset, orders):
    newest = dataset("list", "--json")[0]["version"]
    reason = "audit :bug: [bold]of[/bold] " + "every line " * 40
    dataset("pin", NAME, newest, "--reason", reason)
    assert dataset("list", "--json")[0]["pinned"] == reason.strip()
    for output in (dataset("list"), dataset("show", NAME), dataset("gc", "--keep", "1")):
        assert reason.strip() in output  # In one line.
    assert max(len(line) for line in dataset("list").splitlines()) < 700
    file = orders.version().path / "part-00001.parquet"
    file.chmod(0o644)
    file.write_bytes(b"")
    assert any(
        str(file) in line and "expected" in line for line in dataset("verify", NAME, code=1).splitlines()
    )


def test_an_unreadable_version_hides_no_other(dataset, orders):
    newest, oldest = (one["version"] for one in dataset("list", "--json"))
    broken = orders.store.path(NAME, oldest) / "manifest.json"
    broken.chmod(0o644)
    broken.write_text("{")
    dataset("pin", NAME, newest, "--reason", "of the audit")
    (orders.store.root / NAME / "pins" / f"{oldest}.json").write_text("?")
    for name in ([], [NAME]):
        result = CliRunner().invoke(main, ["dataset", "list", *name, "--json"])
        assert result.exit_code == 1
        assert [one["version"] for one in json.loads(result.stdout)] == [newest]
        assert f"{broken}: found no JSON object, expected a manifest" in result.stderr
        assert f"{oldest}.json: found no pin" in result.stderr
    assert f"{NAME}@{newest}" in dataset("list", code=1)


def test_an_open_version_is_listed_as_in_use_and_kept(dataset, orders):
    oldest = orders.version(dataset("list", "--json")[1]["version"])
    assert "in use: a process reads it" in dataset("gc", "--keep", "1", "--remove")
    oldest.close()
    assert "1 of 2 versions" in dataset("gc", "--keep", "1", "--remove")


def test_mistakes_are_told_in_a_sentence(dataset):
    for arguments, message in (
        (("show", "nothing"), "nothing: found no version in"),
        (("show", NAME, "zz"), f"{NAME}@zz: found none, expected latest"),
        (("gc", "--older-than", "soon"), "--older-than: found 'soon', expected a whole number and a unit"),
        (("unpin", NAME, "latest"), "found no pin"),
    ):
        assert message in dataset(*arguments, code=1)
    assert "expected --keep, --older-than or both" in dataset("gc", code=2)
