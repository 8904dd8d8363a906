"""Leases: a version that a process reads is not removed, and a version that is being removed is not opened.

A reader holds a shared lock on the version's manifest while it has the version open; a removal needs the
exclusive lock. The lock of a killed process is released. What belongs here: that lock. What does not: other
reasons to keep a version (``keeping``).
"""

import contextlib
import errno
import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

from orchestration.learning.datasets.manifest import DatasetError

_NO_LOCKS = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF}
"""Errors of a file system without such locks; there versions are read and removed without a lease."""


class VersionRemovedError(DatasetError):
    """A version is gone, or is being removed."""

    def __init__(self, manifest: Path) -> None:
        reference = f"{manifest.parent.parent.name}@{manifest.parent.name}"
        super().__init__(f"{reference}: found no {manifest}, expected a version")


class Lease:
    """A shared lock on a version, held until it is released or garbage-collected or the process ends."""

    def __init__(self, manifest: Path) -> None:
        """Take the shared lock.

        Raises:
            VersionRemovedError: The version is gone, or is being removed.
        """
        self._manifest = manifest
        try:
            handle = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise VersionRemovedError(manifest) from None
        self._release = weakref.finalize(self, os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)  # Waits while a removal or a check holds it.
        except OSError as fault:
            if fault.errno not in _NO_LOCKS:
                self.release()
                raise
        if not _is_same(handle, manifest):  # Removed between opening and locking.
            self.release()
            raise VersionRemovedError(manifest)

    def release(self) -> None:
        """Release the lock."""
        self._release()

    def __reduce__(self) -> tuple[type["Lease"], tuple[Path]]:
        return Lease, (self._manifest,)


@contextlib.contextmanager
def exclusive_lease(manifest: Path) -> Iterator[bool]:
    """Hold the exclusive lock; yields False, without the lock, while a process reads the version."""
    handle = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as fault:
            if fault.errno not in _NO_LOCKS:
                raise
        yield True
    finally:
        os.close(handle)


def _is_same(handle: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(handle)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)
