"""Whether each destination is up: a C-ECHO now and then, in a thread of its own for each."""

import threading

from sqlalchemy.exc import SQLAlchemyError

from dicom_listener import delivery, metrics
from dicom_listener.ledger import journal, outbox
from dicom_listener.ledger.connection import Database
from skiagraph import log
from skiagraph.settings.listener import Destination, ListenerSettings

_log = log.get(__name__)


class PeerWatch:
    """`run` is one thread: a destination that never answers keeps nobody waiting for another."""

    def __init__(self, settings: ListenerSettings, destination: Destination, *, database: Database) -> None:
        self._settings = settings
        self._destination = destination
        self._database = database
        self._up: bool | None = None

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                self._ask()
            except SQLAlchemyError as error:  # the database restarts, or the disk is full
                _log.error("the ledger cannot be used", reason=type(error).__name__)
            stopping.wait(self._settings.peer_check_seconds)

    def _ask(self) -> None:
        """What waits for a destination that is back is due at once."""
        name = self._destination.name
        was_up, is_up = self._up, delivery.echo(self._settings, self._destination)
        metrics.peer_up.labels(name).set(is_up)
        if is_up and not was_up:
            with self._database.write() as connection:
                hurried = outbox.hurry(connection, name, at=journal.now())
            if was_up is False:
                _log.info("destination is back", destination=name, waiting=hurried)
        elif was_up is not False and not is_up:
            _log.warning("destination does not answer C-ECHO", destination=name)
        self._up = is_up
