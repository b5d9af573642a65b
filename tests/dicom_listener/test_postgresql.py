"""Ledger and workflows on PostgreSQL instead of SQLite: the same story, kill -9 included."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from dicom_listener import studies
from dicom_listener.ledger import arrivals, journal, purge, revisions
from dicom_listener.ledger.connection import Database, ledger_url
from dicom_listener.ledger.records import Arrival, Route, Trigger
from dicom_listener.ledger.states import RevisionEvent
from skiagraph.settings.listener import ListenerSettings
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until

_BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _as_server(*command: object) -> None:
    """PostgreSQL refuses to run as root: become its own user there."""
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    subprocess.run(
        [str(part) for part in command],
        check=True,
        capture_output=True,
        timeout=120,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
    )


@pytest.fixture
def database_url(free_port: Callable[[], int]) -> Iterator[str]:
    if not _BIN:
        reason = "Debian programs missing: postgresql (apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="skiagraph-postgresql-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    try:
        _as_server(_BIN[-1] / "initdb", "-D", folder / "data", "-A", "trust", "-U", "skiagraph", "--no-sync")
        _as_server(
            _BIN[-1] / "pg_ctl", "-D", folder / "data", "-o", options, "-w", "-l", folder / "log", "start"
        )
        yield f"postgresql://skiagraph@127.0.0.1:{port}/postgres"
        _as_server(_BIN[-1] / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_studies_survive_kill_and_are_delivered_once(tmp_path: Path, database_url: str) -> None:
    with FakeService(tmp_path / "service") as service, Pacs() as pacs:
        service.behave(delay_seconds=1.0)
        node = NodeProcess(
            tmp_path, service_url=service.url, destinations=[pacs.destination], database_url=database_url
        )
        with node:
            sent = [radiograph() for _ in range(4)]
            assert send(node.port, sent) == [0] * 4
            until(lambda: studies.list_studies(node.settings, state="ready"))
            node.kill()
        with node:
            until(lambda: len(studies.list_studies(node.settings, state="delivered")) == 4, seconds=40)
            assert not list(node.settings.folder.glob("*.sqlite"))
            assert node.stop() == 0
        assert {str(one.StudyInstanceUID) for one in sent} == {
            str(one.StudyInstanceUID) for one in pacs.datasets.values()
        }
        assert len(pacs.datasets) == 8
        assert len(set(pacs.received)) == 8


def test_study_that_is_replayed_meanwhile_does_not_leave_the_spool(database_url: str) -> None:
    database = Database(ledger_url(ListenerSettings.model_validate({"database_url": database_url})))
    study, at = "1.2.3", journal.now()
    arrival = Arrival(
        study_instance_uid=study,
        series_instance_uid="1.2.3.4",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        sop_instance_uid="1.2.3.4.5",
        transfer_syntax_uid="1.2.840.10008.1.2",
        modality="CR",
        calling_ae="CR1",
        called_ae="SKIAGRAPH",
        peer_address="127.0.0.1",
        path="received",
        size_bytes=1,
        received_at=at,
    )
    with database.write() as connection:
        arrivals.record(connection, arrival, replaces=False)
        arrivals.cut(connection, study, trigger=Trigger.FORCED, route=Route(), at=at)
        revisions.transition(connection, study, 1, RevisionEvent.DISCARD)

    def purged() -> list[str]:
        with database.write() as connection:
            return purge.purge(connection, study, reason="space")

    def waits_for_a_lock() -> bool:
        with psycopg.connect(database_url) as connection:
            query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return connection.execute(query).fetchone() is not None

    with ThreadPoolExecutor(1) as threads:
        with database.write() as connection:
            arrivals.cut(connection, study, trigger=Trigger.REPLAY, route=Route(), at=at)
            purging = threads.submit(purged)
            until(waits_for_a_lock)
        assert purging.result(timeout=10) == []
    with database.read() as connection:
        assert [one.path for one in arrivals.instances_of(connection, study)] == ["received"]
    database.close()


def test_database_that_takes_no_changes_is_seen(tmp_path: Path, database_url: str) -> None:
    def read_only(now: bool) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if now else 'off'}")
            connection.execute("SELECT pg_reload_conf()")

    with NodeProcess(tmp_path, database_url=database_url) as node:
        assert node.http("/readyz").status_code == 200
        read_only(True)
        until(lambda: node.http("/readyz").status_code == 503)
        assert node.http("/readyz").json() == {
            "dicom": True,
            "spool_writable": True,
            "above_reserve": True,
            "ledger": False,
            "threads": True,
        }
        assert node.metric('skiagraph_ready{check="ledger"}') == 0
        assert node.metric('skiagraph_ready{check="dicom"}') == 1
        read_only(False)
        until(lambda: node.http("/readyz").status_code == 200)


class CutAtCommit:
    """Stands between a node and PostgreSQL; `armed`, it cuts the connection of the next instance's COMMIT.

    arrives: whether PostgreSQL gets that COMMIT all the same, after a while.
    """

    def __init__(self, server_port: int, *, arrives: bool) -> None:
        self.armed = threading.Event()
        self._server_port, self._arrives = server_port, arrives
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            node, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(node,), daemon=True).start()

    def _serve(self, node: socket.socket) -> None:
        entering = False
        with node, socket.create_connection(("127.0.0.1", self._server_port)) as server, suppress(OSError):
            threading.Thread(target=self._answer, args=(server, node), daemon=True).start()
            while said := node.recv(65536):
                entering = entering or b"INSERT INTO instances" in said
                if entering and b"COMMIT" in said and self.armed.is_set():
                    self.armed.clear()
                    node.shutdown(socket.SHUT_RDWR)
                    time.sleep(1.0)
                    if self._arrives:
                        server.sendall(said)
                    else:
                        server.shutdown(socket.SHUT_RDWR)
                    return
                entering = entering and b"COMMIT" not in said
                server.sendall(said)

    def _answer(self, server: socket.socket, node: socket.socket) -> None:
        with suppress(OSError):
            while said := server.recv(65536):
                node.sendall(said)


@pytest.mark.parametrize("arrives", [True, False])
def test_commit_whose_answer_is_lost_costs_nothing(tmp_path: Path, database_url: str, arrives: bool) -> None:
    server = make_url(database_url)
    assert server.port is not None
    between = CutAtCommit(server.port, arrives=arrives)
    with (
        FakeService(tmp_path / "service") as service,
        Pacs() as pacs,
        NodeProcess(
            tmp_path,
            service_url=service.url,
            destinations=[pacs.destination],
            database_url=server.set(port=between.port).render_as_string(),
            quiet_period_seconds=3.0,
        ) as node,
    ):
        first = radiograph()
        second, alone = radiograph(first.StudyInstanceUID), radiograph()
        assert send(node.port, [first]) == [0]
        for instance in (second, alone):
            between.armed.set()
            assert send(node.port, [instance]) == [0xA700]
            assert not between.armed.is_set()

        def held() -> dict[str, int]:
            return {one.study_instance_uid: one.instances for one in studies.list_studies(node.settings)}

        def files() -> int:
            return len(list(node.settings.folder.glob("spool/received/*/*.dcm")))

        whole = {first.StudyInstanceUID: 2, alone.StudyInstanceUID: 1}
        until(lambda: held() == (whole if arrives else {first.StudyInstanceUID: 1}), seconds=5)
        assert files() == (3 if arrives else 1)
        if not arrives:
            assert send(node.port, [second, alone]) == [0, 0]
        until(lambda: len(studies.list_studies(node.settings, state="delivered")) == 2)
        assert send(node.port, [second, alone]) == [0, 0]
        assert (held(), files()) == (whole, 3)
        assert len(pacs.received) == 4
