"""Model artifacts: folders of text named by what they hold, checked whenever they are read.

``<root>/<model>/<version>/`` holds ``manifest.json``, which names every other file with its SHA-256; the
version is the beginning of the manifest's own. What belongs here: writing, reading, checking. What does
not: what a manifest says (``training``), or which version serves (``registry``).
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
VERSION_DIGITS = 16
_UNFINISHED = ".unfinished-"
_ABANDONED_SECONDS = 3600


class CorruptArtifactError(RuntimeError):
    """A file of an artifact is missing, is not what its manifest says, or should not be there."""


@dataclass(frozen=True)
class Artifact:
    """What was read, every checksum being right."""

    version: str
    manifest: Mapping[str, Any]
    files: Mapping[str, str]
    sha256: str
    """Of the manifest, and so of everything."""


def digest(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: object) -> str:
    """One text for one value: keys in order, no number that is none."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def artifact_folder(root: Path, model: str, version: str) -> Path:
    """Where a version is or will be."""
    return root / model / version


def write_artifact(root: Path, model: str, manifest: Mapping[str, Any], files: Mapping[str, str]) -> Artifact:
    """Write a version, whole or not at all; one that is there already stays as it is.

    Args:
        root: Folder of all artifacts.
        model: The model's name.
        manifest: What it says, but for ``files``, which is added.
        files: Text by name.

    Raises:
        CorruptArtifactError: The version is there and is not what it should be.
    """
    listed = {name: {"sha256": digest(text), "bytes": len(text.encode())} for name, text in files.items()}
    text = canonical_json({**manifest, "files": listed})
    sha256 = digest(text)
    version = sha256[:VERSION_DIGITS]
    target = artifact_folder(root, model, version)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        unfinished = target.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
        unfinished.mkdir()
        for name, content in {**files, MANIFEST: text}.items():
            _write_through(unfinished / name, content)
        _sync_folder(unfinished)
        try:
            unfinished.rename(target)
        except OSError:  # Another process was as quick with the same content.
            shutil.rmtree(unfinished)
        _sync_folder(target.parent)
    return read_artifact(root, model, version, sha256=sha256)


def read_artifact(root: Path, model: str, version: str, *, sha256: str | None = None) -> Artifact:
    """Read a version and check every file.

    Raises:
        CorruptArtifactError: Something is not as it was written; the message names the file.
    """
    folder = artifact_folder(root, model, version)
    text = _read(folder / MANIFEST)
    found = digest(text)
    if not found.startswith(version) or (sha256 is not None and found != sha256):
        raise CorruptArtifactError(
            f"{folder / MANIFEST}: found content of SHA-256 {found}, expected {sha256 or version + '...'}"
        )
    manifest = json.loads(text)
    files = {}
    for name, facts in manifest["files"].items():
        content = _read(folder / name)
        if digest(content) != facts["sha256"]:
            raise CorruptArtifactError(
                f"{folder / name}: found content of SHA-256 {digest(content)}, expected {facts['sha256']}"
            )
        files[name] = content
    strangers = {path.name for path in folder.iterdir()} - {*files, MANIFEST}
    if strangers:
        raise CorruptArtifactError(f"{folder}: found {', '.join(sorted(strangers))}, expected no such file")
    return Artifact(version, manifest, files, found)


def stored_versions(root: Path, model: str) -> list[str]:
    """The versions whose folders are there, registered or not."""
    folder = root / model
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise CorruptArtifactError(f"{path}: found no such file, expected it") from None
    except UnicodeDecodeError as fault:
        raise CorruptArtifactError(f"{path}: found {fault}, expected UTF-8") from fault


def _write_through(path: Path, text: str) -> None:
    with path.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{_UNFINISHED}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
