"""What leaves the spool: by age, by space, or unknown to the ledger; never what anybody waits for."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from dicom_listener.ledger import journal, purge
from dicom_listener.ledger.connection import Database
from dicom_listener.spool import Spool
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
_AT_ONCE: Final = 100
# Room is made a little before the reserve is reached, and a little beyond: reception never waits for it.
_BEGIN_BELOW: Final = 1.1
_END_ABOVE: Final = 1.25
_UNKNOWN_FOR_SECONDS: Final = 3600.0


class Retention:
    """Used by one thread."""

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        database: Database,
        spool: Spool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._spool = spool
        self._clock = clock
        self._full = False  # and nothing could be removed: said once
        self._unknown: dict[str, float] = {}  # path to when it was first seen, by a clock that never jumps

    def remove_old(self) -> None:
        before = journal.now() - timedelta(days=self._settings.retention_days)
        while True:
            with self._database.read() as connection:
                old = purge.removable(connection, before=before, most=_AT_ONCE)
            if not old:
                return
            for study in old:
                self._purge(study, "age")

    def make_room(self) -> None:
        """Remove finished studies, the oldest first, until the limits are kept."""
        excess = self._excess_bytes()
        while excess > 0:
            with self._database.read() as connection:
                oldest = purge.removable(connection, most=_AT_ONCE)
            for study in oldest:
                if excess > 0:
                    excess -= self._purge(study, "space")
            if not oldest:
                if not self._full:
                    _log.warning("no room can be made: somebody waits for every study", excess_bytes=excess)
                break
        self._full = excess > 0

    def _excess_bytes(self) -> float:
        reserve, limit = self._settings.reserve_bytes, self._settings.retention_bytes
        free = self._spool.free_bytes()
        excess = reserve * _END_ABOVE - free if free < reserve * _BEGIN_BELOW else 0.0
        if limit is not None:
            with self._database.read() as connection:
                excess = max(excess, purge.spool_bytes(connection) - limit)
        return excess

    def _purge(self, study: str, reason: str) -> int:
        """The ledger first: what a crash leaves behind then is unknown to it, and swept."""
        with self._database.write() as connection:
            paths = purge.purge(connection, study, reason=reason)
        return sum(self._spool.remove(path) for path in paths)

    def sweep(self, stopping: threading.Event) -> None:
        """Remove what a crash left: what the ledger has not known since a sweep an hour ago, or longer."""
        now, seen = self._clock(), dict[str, float]()
        everything = sorted(self._spool.studies())
        for start in range(0, len(everything), _AT_ONCE):
            studies = everything[start : start + _AT_ONCE]
            if stopping.is_set():
                return
            found = {path for study in studies for path in self._spool.kept(study)}
            with self._database.read() as connection:
                unknown = found - purge.known_paths(connection, studies)
            for path in unknown:
                seen[path] = self._unknown.get(path, now)
                if now - seen[path] >= _UNKNOWN_FOR_SECONDS:
                    self._spool.remove(path)
                    _log.warning("removed from the spool what the ledger does not know", path=path)
        self._unknown = seen
