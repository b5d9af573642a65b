"""Opening the ledger: SQLite (write-ahead log, full sync) or PostgreSQL, migrated to this version."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from dicom_listener.errors import StartupError
from skiagraph.settings.listener import ListenerSettings


def ledger_url(settings: ListenerSettings) -> str:
    """The address of the ledger: the setting, or a file in the folder."""
    if settings.database_url is not None:
        return str(
            make_url(settings.database_url.get_secret_value())
            .set(drivername="postgresql+psycopg")
            .render_as_string(hide_password=False)
        )
    return f"sqlite:///{(settings.folder / 'ledger.sqlite').absolute()}"


# A server that is gone without a word is noticed within half a minute or so.
_SILENT_SERVER: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Database:
    """One engine and its write discipline: SQLite has one writer, so our threads queue here for it."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(write=True)
        self._writer: threading.Lock | nullcontext[None] = (
            threading.Lock() if self.engine.dialect.name == "sqlite" else nullcontext()
        )
        try:
            with self._writing.connect() as connection:
                _migrate(connection)
        except SQLAlchemyError as error:
            self.engine.dispose()
            raise StartupError(
                f"the ledger at {make_url(url).render_as_string()} cannot be opened: {type(error).__name__};"
                " check listener.folder or listener.database_url"
            ) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One durable transaction: committed to disk when the block ends."""
        with self._writer, self._writing.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def writable(self) -> bool:
        """True; raises where a database answers and takes no changes, as one that has failed over does."""
        with self.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0"))
        return True

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_size=10, max_overflow=40, pool_pre_ping=True, connect_args=_SILENT_SERVER
        )
    engine = create_engine(
        url, pool_size=20, max_overflow=100, connect_args={"timeout": 30, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN"
        )

    return engine


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(files("dicom_listener.ledger") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
