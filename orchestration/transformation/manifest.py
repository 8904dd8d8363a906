"""The parsed dbt project: made by dbt when its files have changed, read from a cache otherwise.

What belongs here: when to parse and where the result is kept. What does not: what the manifest says
(``declarations`` reads that). With a warm cache dbt is not even imported.
"""

import hashlib
import json
import os
import shutil
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.settings import Settings
from orchestration.transformation.environment import dbt_environment, dbt_target
from orchestration.transformation.records import target_dir

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_NO_SOURCE = frozenset({"target", "logs", ".user.yml"})
_KEPT = 5
_ONE_PARSES = threading.Lock()
_PARSED: "dict[str, Manifest]" = {}
"""What this process has parsed, by fingerprint; the oldest is forgotten first."""


class DbtParseError(RuntimeError):
    """A dbt project that cannot be parsed; the message is dbt's own."""


def fingerprint(settings: Settings) -> str:
    """A hash of everything the manifest follows from.

    That is every file of the project (packages too), the profile's target, and the versions of dbt
    and its adapter.

    Raises:
        DbtParseError: The folder holds no dbt project.
    """
    root = settings.dbt_project_dir
    if not (root / "dbt_project.yml").is_file():
        raise DbtParseError(f"{root}: found no dbt_project.yml, expected a dbt project")
    digest = hashlib.sha256()
    for fact in (dbt_target(settings), str(root), version("dbt-core"), version("dbt-duckdb")):
        digest.update(fact.encode() + b"\0")
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not (Path(folder) == root and f in _NO_SOURCE))
        for name in sorted(set(names) - _NO_SOURCE):
            path = Path(folder, name)
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def load_manifest(settings: Settings) -> dict[str, Any]:
    """dbt's manifest of the project, as ``manifest.json`` says it.

    Processes may do this at the same time: each file of the cache appears whole or not at all.

    Raises:
        DbtParseError: dbt cannot parse the project.
    """
    known = fingerprint(settings)
    cached = _cache_dir(settings) / f"manifest-{known}.json"
    if not cached.is_file():
        _parse(settings, known)
    manifest: dict[str, Any] = json.loads(cached.read_bytes())
    return manifest


def executable_manifest(settings: Settings) -> "Manifest":
    """A manifest for one invocation of dbt, parsed once a process and project.

    Never the same object twice: dbt writes into a manifest while it runs one, and a second run of
    it loses the CTEs of ephemeral models. Neither pickle nor ``copy.deepcopy`` will do: dbt's own
    ``__reduce_ex__`` puts the lookups of a manifest in the wrong places.
    """
    with _ONE_PARSES:
        known = fingerprint(settings)
        if known not in _PARSED:
            while len(_PARSED) >= _KEPT:
                del _PARSED[next(iter(_PARSED))]
            _PARSED[known] = _parse(settings, known)
        parsed = _PARSED[known]
    manifest: Manifest = parsed.deepcopy()
    manifest.fixtures = parsed.fixtures
    return manifest


def _cache_dir(settings: Settings) -> Path:
    folder = settings.data_dir / "dbt" / "manifest"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_file(settings: Settings, name: str) -> Path:
    """The path of a cache file for the present content of the project; changed content has another path."""
    return _cache_dir(settings) / f"{name}-{fingerprint(settings)}"


def _publish(source: Path, target: Path) -> None:
    staging = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(source, staging)
    staging.replace(target)


def _parse(settings: Settings, known: str) -> "Manifest":
    """Run ``dbt parse``; what it has parsed is kept for the next process that reads the same files.

    Only for the very same files: from an older state of them dbt would go by the time of each, and take
    a file that was put back with its time of then for unchanged.
    """
    from orchestration.transformation.engine import Engine  # noqa: PLC0415 - imports dbt

    folder = _cache_dir(settings)
    partial, manifest = folder / f"partial_parse-{known}.msgpack", folder / f"manifest-{known}.json"
    with target_dir(settings) as scratch:
        if partial.is_file():
            shutil.copyfile(partial, scratch / "partial_parse.msgpack")
        flags = ["--log-level", "none", "--log-level-file", "none"]
        if partial.is_file() and manifest.is_file():
            flags.append("--no-write-json")  # half a second, for what is there
        args = [*flags, "parse", *project_args(settings, scratch)]
        with Engine(args, dbt_environment(settings)) as engine:
            for _ in engine.events():
                pass
        if not engine.succeeded:
            raise DbtParseError(f"{settings.dbt_project_dir}: dbt cannot parse the project\n{engine.error}")
        for name, kept in (("partial_parse.msgpack", partial), ("manifest.json", manifest)):
            if not kept.is_file():
                _publish(scratch / name, kept)
        _forget_old(folder)
        return engine.parsed


def project_args(settings: Settings, target_path: Path, log_path: Path | None = None) -> list[str]:
    """Arguments of any dbt command that name the project, and folders outside it to write into."""
    project = str(settings.dbt_project_dir)
    return [
        *("--project-dir", project, "--profiles-dir", project),
        *("--target-path", str(target_path), "--log-path", str(log_path or target_path)),
    ]


def _forget_old(folder: Path) -> None:
    for pattern in ("manifest-*.json", "partial_parse-*.msgpack", "measures-*"):
        newest_first = sorted(folder.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
        for path in newest_first[_KEPT:]:
            path.unlink(missing_ok=True)
