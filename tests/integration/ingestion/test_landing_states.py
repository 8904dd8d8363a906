"""Any sequence of changes to a folder, with runs in between, against a model of what the lake has to hold."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orchestration.ingestion.faults import IngestFault
from tests.integration.ingestion.landing_ground import ALL, Ground, days

Row = tuple[str, int, str]
"""Id, day of January 2024, name; a row whose id is no number goes to quarantine."""
CONTENTS: list[tuple[Row, ...]] = [
    (("1", 1, "a"),),
    (("2", 2, "b"),),
    (("1", 1, "a"), ("2", 2, "b"), ("2", 2, "b")),
    (("x", 1, "bad"), ("2", 2, "c")),
    (("x", 2, "bad"), ("y", 1, "bad")),
    (),
]
NAMES = st.sampled_from(["a.csv", "a.csv", "b.csv"])
DAYS = (1, 2)
RUNS = st.sampled_from([(DAYS,), ((1,), (2,)), ((2,),), ()])


@dataclass
class _Lake:
    """What the lake has to hold of one file."""

    rows: dict[int, Counter[Row]] = field(default_factory=lambda: {day: Counter() for day in DAYS})
    bad: list[str] | None = None
    """The names of its rows in quarantine; None while only a part of the days has landed."""


def text_of(content: tuple[Row, ...]) -> str:
    return "id,at,name\n" + "".join(f"{i},2024-01-{day:02}T10:00:00Z,{name}\n" for i, day, name in content)


class Folder(RuleBasedStateMachine):
    """A folder whose files come, change, go back, become empty, vanish and get other names."""

    @initialize()
    def start(self) -> None:
        self.ground = Ground(Path(mkdtemp(prefix="landing-states-")))
        self.table = self.ground.daily(uri="drop/", max_quarantined_share=1.0)
        self.files: dict[str, tuple[Row, ...]] = {}
        self.lake: dict[str, _Lake] = {}

    @rule(name=NAMES, content=st.sampled_from(CONTENTS), runs=RUNS)
    def put(self, name: str, content: tuple[Row, ...], runs: tuple[tuple[int, ...], ...]) -> None:
        self.ground.put(f"drop/{name}", text_of(content))
        self.files[name] = content
        for wanted in runs:
            self.run(wanted)

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        (self.ground.root / "drop" / name).unlink()
        del self.files[name]

    @precondition(lambda self: self.files)
    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: str) -> None:
        before = data.draw(st.sampled_from(sorted(self.files)))
        (self.ground.root / "drop" / before).rename(self.ground.root / "drop" / name)
        self.files[name] = self.files.pop(before)

    def run(self, wanted: tuple[int, ...]) -> None:
        refused = set()
        for name, content in self.files.items():
            lake = self.lake.setdefault(name, _Lake())
            if not content and any(lake.rows.values()):
                refused.add(name)
                continue
            for day in wanted:
                lake.rows[day] = Counter(r for r in content if r[0].isdigit() and r[1] == day)
            bad = sorted(text_of((row,)).split("\n")[1] for row in content if not row[0].isdigit())
            lake.bad = bad if wanted == DAYS else None
        window = ALL if wanted == DAYS else days(*wanted)
        with pytest.raises(IngestFault) if refused else nullcontext() as caught:
            self.ground.land(self.table, window)
        if caught is not None:
            assert refused == {name for name in self.files if f"drop/{name}: " in str(caught.value)}
        self._compare()

    @precondition(lambda self: self.files)
    @rule(runs=RUNS)
    def run_again(self, runs: tuple[tuple[int, ...], ...]) -> None:
        for wanted in runs:
            self.run(wanted)

    def _compare(self) -> None:
        if not self.ground.lakehouse.attachment.exists or not self.ground.ask(
            "select 1 from information_schema.tables where table_schema = 'raw'"
        ):
            assert not any(any(lake.rows.values()) for lake in self.lake.values())
            return
        held = self.ground.ask(
            'select parse_filename(_source_uri), day("at"), id::varchar, day("at"), name from raw.readings'
        )
        quarantined = self.ground.ask("select parse_filename(_source_uri), raw_text from quarantine.readings")
        for name, lake in self.lake.items():
            for day in DAYS:
                assert Counter(row[2:] for row in held if row[:2] == (name, day)) == lake.rows[day], (
                    name,
                    day,
                )
            if lake.bad is not None:
                assert sorted(text for file, text in quarantined if file == name) == lake.bad, name

    def teardown(self) -> None:
        if hasattr(self, "ground"):
            self.ground.close()


Folder.TestCase.settings = settings(
    max_examples=5,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestFolder = Folder.TestCase
