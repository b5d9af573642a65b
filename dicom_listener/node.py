"""The node: everything wired together in the order of its start; backwards it is the order of its stop."""

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

from pynetdicom import evt

from dicom_listener import metrics, tls
from dicom_listener.assembly import Assembly
from dicom_listener.commitment_peers import CommitmentPeers
from dicom_listener.console import Console
from dicom_listener.dispatch import Dispatcher
from dicom_listener.errors import StartupError
from dicom_listener.housekeeping import Housekeeping
from dicom_listener.ledger import overview
from dicom_listener.ledger.connection import Database, ledger_url
from dicom_listener.peer_watch import PeerWatch
from dicom_listener.readiness import Readiness
from dicom_listener.reception import Reception
from dicom_listener.retention import Retention
from dicom_listener.spool import Spool
from dicom_listener.workflow import StudyWorkflows, WorkflowEngine
from service.client import Client
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
PORTS_FILE: Final = "ports.json"


class Node(AbstractContextManager["Node"]):
    """A running DICOM node from `__enter__` to `__exit__`; raises StartupError."""

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._stopping = threading.Event()
        self.failed = threading.Event()
        self._threads: list[threading.Thread] = []
        self.dicom_port = 0
        self.console_port = 0
        self.tls_port = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _log.info("stopping")
        self._stack.close()

    def healthy(self) -> bool:
        """False once a background thread has died: the process must stop then."""
        return not self.failed.is_set() and all(thread.is_alive() for thread in self._threads)

    def _start(self, stack: ExitStack) -> None:
        settings = self._settings
        for files in [other.tls for other in settings.destinations] + [peer.tls for peer in settings.peers]:
            if files is not None:
                tls.client_context(files)  # what cannot be used is told now, not at a delivery
        stack.enter_context(_locked(settings.folder))
        database = Database(ledger_url(settings))
        stack.callback(database.close)
        spool = Spool(settings.folder / "spool")
        spool.clear_incoming()
        assembly = Assembly(time.monotonic)
        dispatcher = Dispatcher(settings, database=database, spool=spool, assembly=assembly)
        dispatcher.resume()
        client = stack.enter_context(
            Client(
                settings.service_url,
                settings.service_token.get_secret_value() if settings.service_token else None,
                settings.service_timeout_seconds,
                tls=tls.client_context(settings.service_tls, "listener.service_tls")
                if settings.service_tls
                else None,
            )
        )
        commitment_peers = CommitmentPeers(settings, database=database, spool=spool)
        workflows = StudyWorkflows(
            settings,
            database=database,
            spool=spool,
            client=client,
            wake=dispatcher.wake,
            commitment_peers=commitment_peers,
        )
        metrics.prepare(settings)
        names = [destination.name for destination in settings.destinations]

        def read_backlog() -> overview.Backlog:
            with database.read() as connection:
                return overview.backlog(connection, names)

        engine = stack.enter_context(WorkflowEngine(settings, workflows))
        stack.callback(self._join)
        self._thread("dispatcher", lambda: dispatcher.run(engine, self._stopping))
        stack.callback(self._stopping.set)
        reception = stack.enter_context(
            Reception(
                settings,
                database=database,
                spool=spool,
                assembly=assembly,
                handlers=[
                    (evt.EVT_N_ACTION, commitment_peers.requested),
                    (evt.EVT_N_EVENT_REPORT, commitment_peers.reported),
                ],
            )
        )

        housekeeping = Housekeeping(
            settings,
            database=database,
            engine=engine,
            retention=Retention(settings, database=database, spool=spool),
            tidy_up=reception.remove_abandoned,
        )
        self._thread("housekeeping", lambda: housekeeping.run(self._stopping))
        for destination in settings.destinations:
            watch = PeerWatch(settings, destination, database=database)
            self._thread(f"peer-{destination.name}", partial(watch.run, self._stopping))

        def state_of(study_instance_uid: str) -> str | None:
            with database.read() as connection:
                found = overview.summaries(connection, study_instance_uid=study_instance_uid, limit=1)
            return found[0].state if found else None

        readiness = Readiness(
            {
                "dicom": reception.alive,
                "spool_writable": spool.writable,
                "above_reserve": lambda: spool.free_bytes() >= settings.reserve_bytes,
                "ledger": database.writable,
                "threads": self.healthy,
            }
        )
        for collector in (
            metrics.BacklogCollector(read_backlog, spool.free_bytes),
            metrics.ReadinessCollector(readiness),
        ):
            metrics.registry.register(collector)
            stack.callback(metrics.registry.unregister, collector)
        console = stack.enter_context(Console(settings, readiness, state_of))
        if console.thread is not None:
            self._threads.append(console.thread)
        self.dicom_port, self.tls_port, self.console_port = reception.port, reception.tls_port, console.port
        stack.callback((settings.folder / PORTS_FILE).unlink, missing_ok=True)
        ports = {"dicom": self.dicom_port, "console": self.console_port, "pid": os.getpid()}
        _publish(settings.folder, ports | ({"dicom_tls": self.tls_port} if settings.tls else {}))
        _log.info(
            "listening",
            ae_title=settings.ae_title,
            dicom_port=self.dicom_port,
            console_port=self.console_port,
        )
        if not settings.destinations:
            _log.warning("listener.destinations is empty: results are kept and go nowhere")

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except Exception:
                _log.exception("a background thread died; the node stops", thread=name)
                self.failed.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _join(self) -> None:
        deadline = time.monotonic() + self._settings.drain_seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))


def run(settings: ListenerSettings) -> int:
    """Run a node in the foreground until SIGTERM or SIGINT; 0, or 1 when one of its threads died."""
    stop = threading.Event()

    def stopped(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, stopped) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Node(settings) as node:
            while not stop.wait(0.5):
                if not node.healthy():
                    return 1
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One node per folder: a lock that ends with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(
            f"listener.folder {folder} cannot be written: {error.strerror};"
            " choose another, or give it to this user"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StartupError(
            f"listener.folder {folder} is in use by another node: stop it, or choose another folder"
        ) from error
    try:
        (folder / PORTS_FILE).unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def _publish(folder: Path, ports: dict[str, int]) -> None:
    temporary = folder / f".{PORTS_FILE}"
    temporary.write_text(json.dumps(ports))
    temporary.replace(folder / PORTS_FILE)
