"""What is done now and then: asking whether the destinations are up, removing what nobody needs any more."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import DBAPIError

from dicom_listener import delivery, metrics
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
        self._up: dict[str, bool] = {}

    def run(self, stopping: threading.Event) -> None:
        hourly_at = 0.0
        while not stopping.is_set():
            try:
                self.ask_peers()
                self.give_up_removed()
                self._tidy_up()
                self._retention.make_room()
                if time.monotonic() >= hourly_at:
                    self._retention.remove_old()
                    self._retention.sweep(stopping)
                    self._engine.forget(before=journal.now() - _WORKFLOWS_KEPT)
                    hourly_at = time.monotonic() + _HOUR_SECONDS
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

    def give_up_removed(self) -> None:
        """Results for a destination that is no longer configured are dead letters: nobody would take them."""
        with self._database.write() as connection:
            stranded = outbox.stranded(connection, [one.name for one in self._settings.destinations])
            for tried in stranded:
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
