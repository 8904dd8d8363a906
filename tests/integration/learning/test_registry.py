"""The registry tells who served when, and shows every attempt to change what it once said."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.lakehouse import LakehouseResource
from orchestration.learning.artifact import Artifact, CorruptArtifactError, write_artifact
from orchestration.learning.events import RegistryError, Who
from orchestration.learning.registry import Registry
from orchestration.settings import Clock, Settings
from tests.forks import CONTEXT

ANNA = Who("anna@example.com", "It is better.", run_id="run-1")


def made(registry: Registry, name: str, model: str = "tides") -> Artifact:
    manifest = {
        "model": model,
        "dataset": {"training_set": f"{model}_training_set", "version": f"d-{name}", "labels_until": "2024-02-01"},
        "algorithm": {"name": "lightgbm"},
        "schema_hash": "5c4e",
        "code": {"commit": "c0ffee"},
        "metrics": {"evaluation": {"auc": {"value": 0.75}}},
    }  # fmt: skip
    return write_artifact(registry.root, model, manifest, {"model.txt": f"trees of {name}"})


def at(registry: Registry, moment: datetime) -> Registry:
    return Registry(registry._lakehouse, registry.root, Clock(moment))


MARCH = datetime(2024, 3, 1, tzinfo=UTC)


def test_any_past_moment_can_be_asked_who_served_and_what_it_was_trained_on(registry: Registry) -> None:
    versions = []
    for number, name in enumerate("abc"):
        then = at(registry, MARCH + timedelta(days=10 * number))
        versions.append(then.register(made(registry, name), ANNA).version)
        then.promote("tides", versions[-1], ANNA, evidence={"gain": 0.01 * number})
    then = at(registry, MARCH + timedelta(days=30))
    assert then.rollback("tides", Who("bert@example.com", "It was slow.")).before == versions[2]

    served = [registry.champion_at("tides", MARCH + timedelta(days=d)) for d in (-1, 0, 9, 10, 29, 30)]
    assert served[0] is None
    assert [e.version for e in served if e] == [versions[i] for i in (0, 0, 1, 2, 1)]
    champion = registry.champion("tides")
    assert champion is not None
    assert (champion.kind, champion.actor, champion.reason) == (
        "rolled_back",
        "bert@example.com",
        "It was slow.",
    )
    assert registry.version("tides", champion.version).detail["dataset"] == "d-b"
    assert registry.datasets_in_use("tides_training_set") == {
        f"d-{name}": f"tides {version}" for name, version in zip("abc", versions, strict=True)
    }
    with registry._lakehouse.reader() as con:
        assert con.execute("select model, version from registry.champions").fetchall() == [
            ("tides", versions[1])
        ]
        assert con.execute("select count(*) from registry.model_versions").fetchall() == [(3,)]
        assert con.execute("select count(*) from registry.promotions").fetchall() == [(4,)]
    assert registry.verify() == []
    # Back from the second is the first, not the third that was taken off.
    assert at(registry, MARCH + timedelta(days=31)).rollback("tides", ANNA).version == versions[0]
    with pytest.raises(RegistryError, match="found no champion before"):
        registry.rollback("tides", ANNA)
    assert registry.rollback("tides", ANNA, to=versions[2][:6]).version == versions[2]


def test_doing_a_thing_twice_changes_nothing(registry: Registry) -> None:
    artifact = made(registry, "a")
    assert registry.register(artifact, ANNA) == registry.register(artifact, Who("bert", "Again."))
    assert registry.promote("tides", artifact.version, ANNA) == registry.promote(
        "tides", artifact.version, ANNA
    )
    assert len(registry.events()) == 2


def test_what_cannot_be_done_says_why_and_does_nothing(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="tides abc: found no such version, expected one of: none"):
        registry.promote("tides", "abc", ANNA)
    with pytest.raises(RegistryError, match="found no champion, expected one to roll back"):
        registry.rollback("tides", ANNA)
    first, second = (registry.register(made(registry, name), ANNA).version for name in "ab")
    registry.promote("tides", first, ANNA, instead_of=None)
    with pytest.raises(RegistryError, match=f"found {first} serving, expected None, with which {second} was"):
        registry.promote("tides", second, ANNA, instead_of=None)
    with pytest.raises(RegistryError, match="expected one of the earlier champions: there is none"):
        registry.rollback("tides", ANNA, to=second)
    with pytest.raises(RegistryError, match="found 2 versions that begin so"):
        registry.version("tides", "")
    assert [e.kind for e in registry.events()] == ["registered", "registered", "promoted"]


def test_a_changed_file_is_never_loaded_or_promoted(registry: Registry) -> None:
    artifact = made(registry, "a")
    registry.register(artifact, ANNA)
    file = registry.root / "tides" / artifact.version / "model.txt"
    file.write_text("other trees")
    for action in (registry.artifact, lambda m, v: registry.promote(m, v, ANNA)):
        with pytest.raises(CorruptArtifactError, match=r"model\.txt: found content of SHA-256"):
            action("tides", artifact.version)
    assert registry.champion("tides") is None
    assert "model.txt" in registry.verify()[0]
    file.unlink()
    assert "found no such file" in registry.verify()[0]


TAMPERINGS: list[tuple[str, str]] = [
    ("update registry.events set reason = 'Because.' where sequence = 2", "found content of hash"),
    ("update registry.events set detail = '[1]' where sequence = 2", "found content of hash"),
    ("update registry.events set happened_at = happened_at - interval '1 day' where sequence = 4", "found content of hash"),
    ("delete from registry.events where sequence = 2", "found sequence 3, expected 2"),
    ("delete from registry.events where sequence = 4", "the newest events are missing"),
    ("insert into registry.events select * from registry.events where sequence = 4", "found sequence 4, expected 5"),
    ("insert into registry.events select * replace (5 as sequence) from registry.events where sequence = 4", "event 5"),
    ("update registry.head set sequence = 3", "found event 3"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "fault"), TAMPERINGS)
def test_tampering_is_found(registry: Registry, statement: str, fault: str) -> None:
    for name in "ab":
        version = registry.register(made(registry, name), ANNA).version
        registry.promote("tides", version, ANNA)
    assert registry.verify(registry.events()[1].hash) == []
    with registry._lakehouse.transaction() as con:
        con.execute(statement)
    faults = registry.verify()
    assert any(fault in line for line in faults), faults


def test_a_history_cut_short_whole_is_found_by_a_hash_kept_elsewhere(registry: Registry) -> None:
    for name in "ab":
        registry.register(made(registry, name), ANNA)
    first, second = registry.events()
    with registry._lakehouse.transaction() as con:
        con.execute("delete from registry.events where sequence = 2")
        con.execute(f"update registry.head set sequence = 1, hash = '{first.hash}'")
    assert registry.verify() == []
    assert registry.verify(second.hash) == [
        f"found no event of hash {second.hash}, expected it: events are missing"
    ]


def promote_by_turns(settings: Settings, number: int, together: Any) -> None:
    lake = LakehouseResource.from_settings(settings)
    registry = Registry(lake, settings.models_dir, Clock(datetime(2024, 3, 1, tzinfo=UTC)))
    versions = [e.version for e in registry.versions("tides")]
    together.wait(60)
    for turn in range(3):
        registry.promote("tides", versions[(turn + number) % 3], Who(f"writer {number}", str(turn)))


def test_writers_at_once_make_one_chain(registry: Registry, settings: Settings) -> None:
    for name in "abc":
        registry.register(made(registry, name), ANNA)
    together = CONTEXT.Barrier(2)
    writers = [CONTEXT.Process(target=promote_by_turns, args=(settings, n, together)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    assert registry.verify() == []
    assert {e.actor for e in registry.events()} == {"anna@example.com", "writer 0", "writer 1"}


@pytest.mark.parametrize(
    "boundary", ["orchestration.learning.registry.insert_event", "before the registration"]
)
def test_a_crash_between_artifact_and_registration_leaves_nothing_half_visible(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    artifact = made(registry, "a")
    register: Callable[[], Any] = lambda: registry.register(artifact, ANNA)  # noqa: E731
    if boundary.startswith("orchestration"):
        with monkeypatch.context() as patched:
            patched.setattr(boundary, killed)
            with pytest.raises(KeyboardInterrupt):
                register()
    assert registry.events() == []
    assert registry.unregistered() == {"tides": [artifact.version]}
    assert registry.verify() == []
    assert made(registry, "a") == artifact
    assert register().sequence == 1
    assert registry.unregistered() == {}


def test_an_unfinished_artifact_is_no_version(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            made(registry, "a")
    assert registry.unregistered() == {}
    artifact = made(registry, "a")
    (registry.root / "tides" / artifact.version / "stranger.txt").write_text("?")
    with pytest.raises(CorruptArtifactError, match=r"found stranger\.txt, expected no such file"):
        made(registry, "a")


def test_a_lakehouse_without_a_registry_has_no_champion(
    registry: Registry, lakehouse: LakehouseResource
) -> None:
    assert registry.champion("tides") is None
    assert registry.events() == []
    assert registry.verify() == []
