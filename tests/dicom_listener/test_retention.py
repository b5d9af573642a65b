"""What leaves the spool, and what never does."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some

from dicom_listener import studies
from dicom_listener.ledger import arrivals, journal, outbox, purge, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Arrival, OutgoingObject, Route, Trigger
from dicom_listener.ledger.states import FINISHED, RevisionEvent, RevisionState
from dicom_listener.retention import Retention
from dicom_listener.spool import Spool
from skiagraph.settings.listener import ListenerSettings
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until

SIZE = 1000


class House:
    """A ledger and a spool in one folder, without a node."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.spool = Spool(folder / "spool")
        self.now = 0.0

    def retention(self, **settings: object) -> Retention:
        return Retention(
            ListenerSettings.model_validate({"reserve_bytes": 0, **settings}),
            database=self.database,
            spool=self.spool,
            clock=lambda: self.now,
        )

    def receive(self, study: str, instance: str, *, age_days: float = 0) -> Path:
        temporary = self.spool.incoming / "temporary"
        temporary.write_bytes(bytes(SIZE))
        path = self.spool.file(temporary, study_instance_uid=study, sop_instance_uid=instance)
        arrival = Arrival(
            study_instance_uid=study,
            series_instance_uid="1.9",
            sop_class_uid="1.2",
            sop_instance_uid=instance,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            modality="DX",
            calling_ae="CR",
            called_ae="SKIAGRAPH",
            peer_address="127.0.0.1",
            path=path,
            size_bytes=SIZE,
            received_at=journal.now() - timedelta(days=age_days),
        )
        with self.database.write() as connection:
            arrivals.record(connection, arrival, replaces=False)
        return self.spool.path(path)

    def cut(self, study: str, state: RevisionState) -> None:
        """A revision that is brought to a state the way it gets there."""
        start = state if state in (RevisionState.HELD, RevisionState.DROPPED) else RevisionState.READY
        route = Route(state=start, destinations=("pacs",))
        with self.database.write() as connection:
            revision = arrivals.cut(
                connection, study, trigger=Trigger.QUIET_PERIOD, route=route, at=journal.now()
            )
            assert revision is not None
            number = revision.revision
            if state in (RevisionState.SCORED, RevisionState.DELIVERED):
                revisions.scored(connection, study, number, result={}, made=[self._object(study, number)])
            if state is RevisionState.DELIVERED:
                outbox.delivered(connection, outbox.get_delivery(connection, study, number, "pacs"))
            event = {
                RevisionState.REJECTED: RevisionEvent.REJECT,
                RevisionState.DEAD_LETTER: RevisionEvent.GIVE_UP,
                RevisionState.DISCARDED: RevisionEvent.DISCARD,
                RevisionState.SUPERSEDED: RevisionEvent.SUPERSEDE,
            }.get(state)
            if event is not None:
                revisions.transition(connection, study, number, event)
            assert revisions.get(connection, study, number).state is state

    def _object(self, study: str, revision: int) -> OutgoingObject:
        path = self.spool.keep_result(study, revision, "1.5.dcm", bytes(SIZE))
        return OutgoingObject(
            position=0,
            kind="structured_report",
            series_instance_uid="1.8",
            sop_class_uid="1.7",
            sop_instance_uid="1.5",
            path=path,
            sha256="0",
            size_bytes=SIZE,
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.database.close()


States = some.lists(some.lists(some.sampled_from(list(RevisionState)), max_size=3), min_size=1, max_size=4)


@given(States, some.integers(0, 12), some.booleans())
@hypothesis_settings(max_examples=12, deadline=None)
def test_nothing_that_anybody_waits_for_ever_leaves(
    histories: list[list[RevisionState]], kept: int, by_age: bool
) -> None:
    with TemporaryDirectory() as folder:
        house = House(Path(folder))
        waited_for: set[Path] = set()
        for number, history in enumerate(histories):
            paths = set()
            for position, state in enumerate(history):
                paths.add(house.receive(f"1.{number}", f"1.{number}.{position}"))
                house.cut(f"1.{number}", state)
            if len(history) == 3:  # a late one that no revision covers yet
                paths.add(house.receive(f"1.{number}", f"1.{number}.9"))
            with house.database.read() as connection:
                states = {
                    revisions.get(connection, f"1.{number}", one + 1).state for one in range(len(history))
                }
            if len(history) == 3 or not states <= FINISHED:
                waited_for |= paths
                waited_for |= set((house.spool.root / "results" / f"1.{number}").glob("*/*"))
        if by_age:
            house.retention(retention_days=0).remove_old()
        else:
            house.retention(retention_bytes=kept * SIZE).make_room()
        left = {path for path in house.spool.root.rglob("*") if path.is_file()}
        assert waited_for <= left
        if by_age:
            assert left == waited_for
        house.database.close()


def test_the_oldest_leave_first_and_only_as_many_as_must(house: House) -> None:
    paths = []
    for number in range(4):
        paths.append(house.receive(f"1.{number}", f"1.{number}.1", age_days=4 - number))
        house.cut(f"1.{number}", RevisionState.HELD if number == 0 else RevisionState.DELIVERED)
    house.retention(retention_bytes=5 * SIZE).make_room()  # of 7
    assert [path.exists() for path in paths] == [True, False, True, True]
    with house.database.read() as connection:
        assert purge.spool_bytes(connection) == 5 * SIZE
        event = journal.history(connection, "1.1")[-1]
    assert (event.kind, event.detail) == ("purged", {"reason": "space"})
    assert not (house.spool.root / "results" / "1.1").exists()


def test_late_instance_of_a_study_that_has_left_is_scored_alone(house: House) -> None:
    house.receive("1.1", "1.1.1", age_days=2)
    house.cut("1.1", RevisionState.DELIVERED)
    house.retention(retention_days=1).remove_old()
    late = house.receive("1.1", "1.1.2")
    house.retention(retention_days=0).remove_old()
    assert late.is_file()
    with house.database.read() as connection:
        assert [one.sop_instance_uid for one in arrivals.instances_of(connection, "1.1")] == ["1.1.2"]
    house.cut("1.1", RevisionState.DELIVERED)
    house.receive("1.1", "1.1.3")
    house.cut("1.1", RevisionState.READY)
    with house.database.read() as connection:
        # The first report is the only one of what has left: the second stands beside it.
        assert revisions.predecessor(connection, "1.1", 2) is None
        assert revisions.predecessor(connection, "1.1", 3) is not None


def test_sweep_takes_what_stays_unknown_and_leaves_what_becomes_known(house: House) -> None:
    known = house.receive("1.1", "1.1.1")
    house.cut("1.1", RevisionState.DELIVERED)
    folder = house.spool.root / "received" / "1.1"
    lost, late = folder / "1.1.8-0.dcm", house.spool.root / "received" / "1.2" / "1.2.1-0.dcm"
    late.parent.mkdir()
    lost.write_bytes(b"left by a crash")
    late.write_bytes(bytes(SIZE))
    forgotten = house.spool.root / "results" / "1.7" / "1" / "1.5.dcm"
    forgotten.parent.mkdir(parents=True)
    forgotten.write_bytes(b"left by a crash")
    retention, stopping = house.retention(), threading.Event()
    retention.sweep(stopping)
    house.now += 3599
    retention.sweep(stopping)
    assert all(path.is_file() for path in (known, lost, late, forgotten))
    house.receive("1.2", "1.2.1").unlink()
    with house.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE instances SET path = 'received/1.2/1.2.1-0.dcm' WHERE sop_instance_uid = '1.2.1'"
        )
    house.now += 1
    retention.sweep(stopping)
    assert [path.is_file() for path in (known, lost, late, forgotten)] == [True, False, True, False]
    assert not forgotten.parent.parent.exists()
    assert len(list((house.spool.root / "results" / "1.1" / "1").iterdir())) == 1


def test_destination_that_is_removed_leaves_a_dead_letter_until_it_is_back(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    away = Pacs(port=free_port())
    with FakeService(tmp_path / "service") as service:
        instance = radiograph()
        study = instance.StudyInstanceUID
        with NodeProcess(tmp_path, service_url=service.url, destinations=[away.destination]) as node:
            send(node.port, [instance])
            until(lambda: studies.list_studies(node.settings, state="scored"))
            assert node.stop() == 0
        with NodeProcess(tmp_path, service_url=service.url) as node:
            until(lambda: studies.list_studies(node.settings, state="dead_letter"))
            (revision,) = studies.show_study(node.settings, study).revisions
            assert "put it back and retry, or discard" in str(revision.deliveries[0].error)
            assert node.metric("skiagraph_dead_letter_studies") == 1
            assert node.stop() == 0
        # Records of attempts that ended long ago leave the workflow database.
        with sqlite3.connect(tmp_path / "var" / "workflow.sqlite") as workflows:
            workflows.execute("UPDATE workflow_status SET completed_at = 1 WHERE completed_at IS NOT NULL")
            (ended,) = workflows.execute(
                "SELECT count(*) FROM workflow_status WHERE completed_at = 1"
            ).fetchone()
            assert ended >= 2
        workflows.close()
        with away, NodeProcess(tmp_path, service_url=service.url, destinations=[away.destination]) as node:
            studies.retry(node.settings, study)
            until(lambda: studies.list_studies(node.settings, state="delivered"))
            assert len(away.received) == 2
            with sqlite3.connect(tmp_path / "var" / "workflow.sqlite") as workflows:
                old = "SELECT count(*) FROM workflow_status WHERE completed_at = 1"
                until(lambda: workflows.execute(old).fetchone() == (0,))
            workflows.close()
