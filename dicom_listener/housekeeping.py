"""What is done now and then: asking whether the destinations are up, removing what is delivered and old."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy import exists, select, update
from sqlalchemy.exc import DBAPIError

from dicom_listener import delivery, metrics
from dicom_listener.ledger import journal, outbox
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.states import FINISHED
from dicom_listener.ledger.tables import revisions as revisions_table
from dicom_listener.ledger.tables import studies
from dicom_listener.spool import Spool
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
_RETENTION_EVERY_SECONDS: Final = 3600.0
_PURGED_AT_ONCE: Final = 500


class Housekeeping:
    """`run` is one thread."""

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        database: Database,
        spool: Spool,
        tidy_up: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._spool = spool
        self._tidy_up = tidy_up
        self._up: dict[str, bool] = {}

    def run(self, stopping: threading.Event) -> None:
        retention_at = 0.0
        while not stopping.is_set():
            try:
                self.ask_peers()
                self._tidy_up()
                if time.monotonic() >= retention_at:
                    self.purge()
                    retention_at = time.monotonic() + _RETENTION_EVERY_SECONDS
            except DBAPIError as error:  # the database restarts, or the disk is full
                _log.error("the ledger cannot be used", reason=type(error.orig).__name__)
            stopping.wait(self._settings.peer_check_seconds)

    def ask_peers(self) -> None:
        """C-ECHO each destination; what waits for one that is back is due at once."""
        for destination in self._settings.destinations:
            is_up = delivery.echo(self._settings, destination)
            metrics.peer_up.labels(destination.name).set(is_up)
            was_up = self._up.get(destination.name)
            self._up[destination.name] = is_up
            if is_up and was_up is not True:
                with self._database.write() as connection:
                    hurried = outbox.hurry(connection, destination.name, at=journal.now())
                if was_up is False:
                    _log.info("destination is back", destination=destination.name, waiting=hurried)
            elif was_up is not False and not is_up:
                _log.warning("destination does not answer C-ECHO", destination=destination.name)

    def purge(self) -> int:
        """Remove the bytes of old studies whose revisions are all finished; the ledger keeps their story."""
        before = journal.now() - timedelta(days=self._settings.retention_days)
        unfinished = exists().where(
            revisions_table.c.study_instance_uid == studies.c.study_instance_uid,
            revisions_table.c.state.not_in([state.value for state in FINISHED]),
        )
        with self._database.read() as connection:
            old = list(
                connection.execute(
                    select(studies.c.study_instance_uid)
                    .where(
                        studies.c.last_received_at < before,
                        studies.c.open.is_(False),
                        studies.c.purged_at.is_(None),
                        ~unfinished,
                    )
                    .order_by(studies.c.last_received_at)
                    .limit(_PURGED_AT_ONCE)
                ).scalars()
            )
        for study in old:
            with self._database.write() as connection:
                connection.execute(
                    update(studies)
                    .where(studies.c.study_instance_uid == study)
                    .values(purged_at=journal.now())
                )
                journal.note(connection, "purged", study)
            self._spool.forget(study)
        return len(old)
