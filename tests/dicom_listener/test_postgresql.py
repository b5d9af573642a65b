"""Ledger and workflows on PostgreSQL instead of SQLite: the same story, kill -9 included."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dicom_listener import studies
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
