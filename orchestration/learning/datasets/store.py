"""Where dataset versions are kept: a local folder, of which readers see whole versions only.

    <root>/<dataset>/<version>/     manifest.json, query.sql, part-00000.parquet ...; never changes
    <root>/<dataset>/builds.jsonl   one line a build, appended
    <root>/<dataset>/pins/          one file a pinned version
    <root>/<dataset>/.lock          held by whoever writes or removes; a killed process lets go of it

A version is written under another name, put on the disk, and given its name last; one that is removed
loses its name first. What has no name of a version belongs to nobody once the lock is free, and is swept.

What belongs here: folders, names and locks. What does not: what a version says or holds.
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from orchestration.learning.datasets.lease import VersionRemovedError, exclusive_lease
from orchestration.learning.datasets.manifest import (
    ID_LENGTH,
    Build,
    DatasetError,
    Manifest,
    Part,
    last_built,
    parse_build,
    parse_manifest,
)

MANIFEST, QUERY, BUILDS, PINS = "manifest.json", "query.sql", "builds.jsonl", "pins"
LATEST = "latest"
_UNNAMED = ".unnamed-"
_ID = re.compile(rf"^[0-9a-f]{{{ID_LENGTH}}}$")
_NAME = re.compile(r"^\w[\w-]*\Z")


class Pin(Part):
    """Why a version is kept whatever its age, and since when."""

    reason: str
    pinned_at: AwareDatetime


def sync(path: Path) -> None:
    """Have a file or folder on the disk, not only on its way there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, text: str) -> None:
    """Write a file that a power cut leaves whole once this has returned."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class DatasetStore:
    """The dataset versions below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The datasets that have a version, in name order."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if self.versions(folder.name))

    def versions(self, dataset: str) -> list[str]:
        """The versions of a dataset, in no order that means anything."""
        folder = self.root / dataset
        if not (_NAME.match(dataset) and folder.is_dir()):
            return []
        return sorted(p.name for p in folder.iterdir() if _ID.match(p.name) and (p / MANIFEST).is_file())

    def path(self, dataset: str, version: str) -> Path:
        """The folder of a version."""
        return self.root / dataset / version

    def manifest(self, dataset: str, version: str) -> Manifest:
        """The manifest of a version, by its whole id.

        Raises:
            DatasetError: There is no such version, or its manifest cannot be read.
        """
        file = self.path(dataset, version) / MANIFEST
        try:
            return parse_manifest(file.read_bytes(), str(file))
        except FileNotFoundError:
            raise VersionRemovedError(file) from None

    def manifests(self, dataset: str, faults: list[str] | None = None) -> list[Manifest]:
        """The manifests of a dataset, the version that was built last first.

        A version that is removed meanwhile is left out. With ``faults``, a version whose manifest cannot be
        read is left out too, and the list gets a line for it.

        Raises:
            DatasetError: A manifest cannot be read, and ``faults`` is None.
        """
        builds = self.builds(dataset)
        found = []
        for version in self.versions(dataset):
            try:
                found.append(self.manifest(dataset, version))
            except VersionRemovedError:
                continue
            except DatasetError as fault:
                if faults is None:
                    raise
                faults.append(str(fault))
        return sorted(found, key=lambda m: (last_built(m, builds), m.version), reverse=True)

    def builds(self, dataset: str) -> list[Build]:
        """Every build of a dataset, oldest first."""
        file = self.root / dataset / BUILDS
        if not file.is_file():
            return []
        found = map(parse_build, file.read_text(encoding="utf-8").splitlines())
        return [build for build in found if build is not None]

    def resolve(self, dataset: str, text: str = LATEST) -> Manifest:
        """The version that ``latest``, an id or the beginning of one means.

        Raises:
            DatasetError: No version or more than one matches, or ``dataset`` is not a name.
        """
        if not _NAME.match(dataset):
            raise DatasetError(f"dataset: found {dataset!r}, expected the name of a training set")
        # A version that is removed between listing and reading is skipped.
        while versions := self.versions(dataset):
            if text == LATEST:
                if found := self.manifests(dataset):
                    return found[0]
                continue
            meant = [version for version in versions if text and version.startswith(text)]
            if len(meant) != 1:
                count = "none" if not meant else f"{len(meant)} ({', '.join(meant)})"
                raise DatasetError(
                    f"{dataset}@{text}: found {count}, expected latest, or the beginning of one of "
                    f"{', '.join(versions)}"
                )
            with contextlib.suppress(VersionRemovedError):
                return self.manifest(dataset, meant[0])
        have = ", ".join(self.names()) or "none"
        raise DatasetError(f"{dataset}: found no version in {self.root / dataset}, expected one of {have}")

    @contextlib.contextmanager
    def writing(self, dataset: str) -> Iterator[None]:
        """Be the only one who writes versions of a dataset; what killed ones have left is swept first."""
        folder = self.root / dataset
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in folder.glob(f"{_UNNAMED}*"):
                shutil.rmtree(left)
            yield

    @contextlib.contextmanager
    def scratch(self, dataset: str) -> Iterator[Path]:
        """A new folder to write a version in, gone afterwards unless published; only while ``writing``."""
        folder = self.root / dataset / f"{_UNNAMED}{os.getpid()}-{os.urandom(4).hex()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, manifest: Manifest) -> None:
        """Finish a version whose shards are written and make it visible; only while ``writing``."""
        write_synced(folder / MANIFEST, manifest.to_json())
        for file in folder.iterdir():
            file.chmod(0o444)
        sync(folder)
        folder.rename(self.path(manifest.dataset, manifest.version))
        sync(self.root / manifest.dataset)

    def note(self, dataset: str, build: Build) -> None:
        """Append a line to the log of builds; only while ``writing``."""
        file = self.root / dataset / BUILDS
        with file.open("a+b") as log:
            if log.tell():
                log.seek(-1, os.SEEK_END)
            if log.read(1) not in (b"", b"\n"):
                log.write(b"\n")  # after what a killed process left of a line
            log.write(build.model_dump_json().encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())
        sync(file.parent)

    def remove(self, dataset: str, version: str) -> None:
        """Remove a version: gone at once for whoever looks for it; only while ``writing``."""
        unnamed = self.root / dataset / f"{_UNNAMED}{os.getpid()}-{os.urandom(4).hex()}"
        self.path(dataset, version).rename(unnamed)
        shutil.rmtree(unnamed)

    def is_read(self, dataset: str, version: str) -> bool:
        """Whether a process has the version open."""
        try:
            with exclusive_lease(self.path(dataset, version) / MANIFEST) as alone:
                return not alone
        except FileNotFoundError:
            return False

    def remove_unread(self, dataset: str, version: str) -> bool:
        """Remove a version unless a process has it open; return whether it is gone. Needs ``writing``."""
        with exclusive_lease(self.path(dataset, version) / MANIFEST) as alone:
            if alone:
                self.remove(dataset, version)
            return alone

    def pins(self, dataset: str, faults: list[str] | None = None) -> Mapping[str, Pin]:
        """The pinned versions of a dataset; with ``faults`` the list gets a line for each unreadable pin.

        Raises:
            DatasetError: A pin cannot be read, and ``faults`` is None.
        """
        found = {}
        for file in sorted((self.root / dataset / PINS).glob("*.json")):
            try:
                found[file.stem] = Pin.model_validate_json(file.read_bytes())
            except FileNotFoundError:  # Removed meanwhile.
                continue
            except ValidationError as error:
                fault = f"{file}: found no pin, expected reason and pinned_at"
                if faults is None:
                    raise DatasetError(fault) from error
                faults.append(fault)
        return found

    def pin(self, dataset: str, version: str, reason: str, now: datetime) -> None:
        """Keep a version whatever its age.

        Raises:
            DatasetError: No reason is given.
        """
        if not reason.strip():
            raise DatasetError(f"{dataset}@{version}: found no reason, expected why it is to be kept")
        with self.writing(dataset):
            folder = self.root / dataset / PINS
            folder.mkdir(exist_ok=True)
            staging = folder / f".{version}.{os.getpid()}"
            write_synced(staging, Pin(reason=reason.strip(), pinned_at=now).model_dump_json())
            staging.rename(folder / f"{version}.json")
            sync(folder)

    def unpin(self, dataset: str, version: str) -> None:
        """Take a pin away.

        Raises:
            DatasetError: The version is not pinned.
        """
        with self.writing(dataset):
            file = self.root / dataset / PINS / f"{version}.json"
            if not file.exists():
                raise DatasetError(f"{dataset}@{version}: found no pin, expected one")
            file.unlink()


UsedBy = Callable[[str], Mapping[str, str]]
"""Tells which versions of a dataset are in use: what uses them, by version. A model registry is one."""
