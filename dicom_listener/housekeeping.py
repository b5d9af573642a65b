"""What is done now and then: removing what nobody needs any more, giving up what nobody would take."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from dicom_listener.ledger import journal, outbox
from dicom_listener.ledger.connection import Database
from dicom_listener.retention import Retention
from dicom_listener.workflow import WorkflowEngine
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
_HOUR_SECONDS: Final = 3600.0
_WORKFLOWS_KEPT: Final = timedelta(days=1)


class Housekeeping:
    """`run` is one thread."""

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        database: Database,
        engine: WorkflowEngine,
        retention: Retention,
        tidy_up: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._engine = engine
        self._retention = retention
        self._tidy_up = tidy_up

    def run(self, stopping: threading.Event) -> None:
        hourly_at = 0.0
        while not stopping.is_set():
            try:
                self.give_up_removed()
                self._tidy_up()
                self._retention.make_room()
                if time.monotonic() >= hourly_at:
                    self._retention.remove_old()
                    self._retention.sweep(stopping)
                    self._engine.forget(before=journal.now() - _WORKFLOWS_KEPT)
                    hourly_at = time.monotonic() + _HOUR_SECONDS
            except (SQLAlchemyError, OSError) as error:  # the database restarts, or the disk is full
                _log.error("housekeeping failed", reason=type(error).__name__)
            stopping.wait(self._settings.peer_check_seconds)

    def give_up_removed(self) -> None:
        """Results for a destination that is no longer configured are dead letters: nobody would take them."""
        with self._database.read() as connection:
            stranded = outbox.stranded(connection, [one.name for one in self._settings.destinations])
        for tried in stranded:
            with self._database.write() as connection:
                error = f"destination {tried.destination} is no longer in listener.destinations: put it back"
                outbox.failed_delivery(
                    connection, tried, error=f"{error} and retry, or discard", next_attempt_at=None
                )
        for destination, count in Counter(one.destination for one in stranded).items():
            _log.error(
                "results wait for a destination that is no longer configured",
                destination=destination,
                results=count,
            )
