"""The studies of the ledger, for `skiagraph studies`: from another process, whether the node runs or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from dicom_listener.errors import UnknownStudyError
from dicom_listener.ledger import inbox, overview
from dicom_listener.ledger.connection import Database, ledger_url
from dicom_listener.ledger.overview import StudyHistory, StudySummary
from dicom_listener.ledger.records import RequestKind
from skiagraph.settings import SettingsError
from skiagraph.settings.listener import ListenerSettings


def list_studies(
    settings: ListenerSettings, *, state: str | None = None, limit: int = 100
) -> list[StudySummary]:
    """The latest studies first. state: of the latest revision (`dead_letter` …), or `receiving`."""
    with _opened(settings) as database, database.read() as connection:
        return overview.summaries(connection, state=state, limit=limit)


def show_study(settings: ListenerSettings, study_instance_uid: str) -> StudyHistory:
    """Everything that happened to one study; raises UnknownStudyError."""
    with _opened(settings) as database, database.read() as connection:
        found = overview.history(connection, study_instance_uid)
    if found is None:
        raise UnknownStudyError(f"no study {study_instance_uid} in the ledger below {settings.folder}")
    return found


def force(settings: ListenerSettings, study_instance_uid: str) -> int:
    """Ask to wait no longer for further instances; returns the number of the request."""
    return _ask(settings, RequestKind.FORCE, study_instance_uid)


def proceed(settings: ListenerSettings, study_instance_uid: str) -> int:
    """Ask to go on with what a rule holds; returns the number of the request."""
    return _ask(settings, RequestKind.PROCEED, study_instance_uid)


def retry(settings: ListenerSettings, study_instance_uid: str) -> int:
    """Ask for another try at what was given up, rejected or held; returns the number of the request."""
    return _ask(settings, RequestKind.RETRY, study_instance_uid)


def replay(settings: ListenerSettings, study_instance_uid: str, *, model: str | None = None) -> int:
    """Ask for a new revision, with another model if one is named; returns the number of the request."""
    return _ask(settings, RequestKind.REPLAY, study_instance_uid, model)


def discard(settings: ListenerSettings, study_instance_uid: str) -> int:
    """Ask to give up the latest revision for good; returns the number of the request."""
    return _ask(settings, RequestKind.DISCARD, study_instance_uid)


def outcome(settings: ListenerSettings, request: int) -> str | None:
    """What the node did with a request; None while it has not looked at it."""
    with _opened(settings) as database, database.read() as connection:
        return inbox.outcome(connection, request)


def _ask(settings: ListenerSettings, kind: RequestKind, study: str, model: str | None = None) -> int:
    with _opened(settings) as database:
        with database.read() as connection:
            if not overview.summaries(connection, study_instance_uid=study, limit=1):
                raise UnknownStudyError(f"no study {study} in the ledger below {settings.folder}")
        with database.write() as connection:
            return inbox.ask(connection, kind, study, model)


@contextmanager
def _opened(settings: ListenerSettings) -> Iterator[Database]:
    url = ledger_url(settings)
    if settings.database_url is None and not Path(str(make_url(url).database)).is_file():
        raise SettingsError(
            f"there is no ledger in {settings.folder.absolute()}: name the node's settings with --config"
        )
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
