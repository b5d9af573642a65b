"""The spool: bytes on disk that survive a crash. Nothing is acknowledged before it is durable here."""

import filecmp
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_listener.headers import is_uid


class Spool:
    """Below `root`: `incoming/` (being received), `received/<study>/`, `results/<study>/<revision>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.incoming = self.root / "incoming"
        for folder in (self.root, self.incoming, self.root / "received", self.root / "results"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync(self.root)

    def clear_incoming(self) -> int:
        """Remove what an earlier process was receiving and never acknowledged."""
        left = [path for path in self.incoming.iterdir() if path.is_file()]
        for path in left:
            path.unlink()
        return len(left)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def path(self, relative: str) -> Path:
        return self.root / relative

    def file(self, temporary: Path, *, study_instance_uid: str, sop_instance_uid: str) -> str:
        """Make a received file durable under a name of its own; returns its path below the root.

        temporary: in `incoming`, closed or flushed; it is gone afterwards.
        """
        folder = self._folder("received", study_instance_uid)
        _checked(sop_instance_uid)
        target = folder / f"{sop_instance_uid}-{uuid.uuid4().hex[:8]}.dcm"
        # The name first: a file system that journals takes it to disk together with the bytes. What is
        # cut off between the two has no row in the ledger, and was not acknowledged.
        temporary.replace(target)
        _sync(target)
        _sync(folder)
        return str(target.relative_to(self.root))

    def same_bytes(self, relative: str, candidate: Path) -> bool:
        """Whether a file of the spool holds exactly the candidate's bytes."""
        kept = self.path(relative)
        return kept.is_file() and filecmp.cmp(kept, candidate, shallow=False)

    def keep_result(self, study_instance_uid: str, revision: int, name: str, content: bytes) -> str:
        """Make the bytes of one object of a result durable; the same name again replaces them."""
        folder = self._folder("results", study_instance_uid, str(revision))
        temporary = folder / f".{name}.{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / name)
        except OSError:  # a part of it would keep the last bytes of a full disk from the ledger
            temporary.unlink(missing_ok=True)
            raise
        _sync(folder)
        return str((folder / name).relative_to(self.root))

    def remove(self, relative: str) -> int:
        """Remove a file, or a folder of results, and what is empty then; returns the bytes that frees."""
        path = self.path(relative)
        files = [path] if path.is_file() else [one for one in path.glob("*") if one.is_file()]
        freed = 0
        for file in files:
            with suppress(FileNotFoundError):
                freed += file.stat().st_size
                file.unlink()
        with suppress(OSError):  # not empty: something came in between
            if path.is_dir():
                path.rmdir()
            path.parent.rmdir()
        return freed

    def kept(self, study: str) -> Iterator[str]:
        """Paths of the received files and the folders of results of one study."""
        for kind in ("received", "results"):
            for path in (self.root / kind / study).glob("*"):
                yield str(path.relative_to(self.root))

    def studies(self) -> set[str]:
        """Study Instance UIDs that have a folder."""
        return {path.name for kind in ("received", "results") for path in (self.root / kind).iterdir()}

    def writable(self) -> bool:
        with suppress(OSError), self._probe() as probe:
            probe.write_bytes(b"1")
            return True
        return False

    @contextmanager
    def _probe(self) -> Iterator[Path]:
        probe = self.root / f".probe-{os.getpid()}"
        try:
            yield probe
        finally:
            probe.unlink(missing_ok=True)

    def _folder(self, kind: str, *parts: str) -> Path:
        folder = self.root / kind
        for part in parts:
            _checked(part)
            child = folder / part
            if not child.is_dir():
                child.mkdir(exist_ok=True, mode=0o700)
                _sync(folder)
            folder = child
        return folder


def _checked(part: str) -> None:
    if not is_uid(part):
        raise ValueError("a path of the spool is made of UIDs and numbers only")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
