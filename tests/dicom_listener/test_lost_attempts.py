"""Attempts that end without a word in the ledger: made again after a wait, and given up in the end."""

import time
from pathlib import Path

from sqlalchemy import select

from dicom_listener.assembly import Assembly
from dicom_listener.dispatch import Dispatcher
from dicom_listener.ledger import arrivals, commitments, journal, outbox, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Arrival, OutgoingObject, Route, SopReference, Trigger
from dicom_listener.ledger.states import DeliveryState, ReportState, RevisionState
from dicom_listener.ledger.tables import reports
from dicom_listener.spool import Spool
from skiagraph.settings.listener import ListenerSettings, RetrySettings

STUDY = "1.2.3"
A_MOMENT_HOURS = 1e-9


class House:
    """A ledger with one study and one request for Storage Commitment, and the dispatcher over it."""

    def __init__(self, folder: Path, *, give_up_after_hours: float) -> None:
        settings = ListenerSettings(
            folder=folder, retry=RetrySettings(give_up_after_hours=give_up_after_hours)
        )
        self.database = Database(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.dispatcher = Dispatcher(
            settings, database=self.database, spool=Spool(folder / "spool"), assembly=Assembly(time.monotonic)
        )
        at = journal.now()
        arrival = Arrival(
            study_instance_uid=STUDY,
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
        with self.database.write() as connection:
            arrivals.record(connection, arrival, replaces=False)
            route = Route(destinations=("pacs",))
            arrivals.cut(connection, STUDY, trigger=Trigger.FORCED, route=route, at=at)
            commitments.requested(
                connection,
                transaction_uid="1.2.4",
                calling_ae="CR1",
                called_ae="SKIAGRAPH",
                peer_address="127.0.0.1",
                items=[SopReference(sop_class_uid="1.2", sop_instance_uid="1.2.3.4.5")],
                due_at=at,
            )

    def lose_scoring(self) -> RevisionState:
        with self.database.read() as connection:
            revision = revisions.get(connection, STUDY, 1)
        self.dispatcher._lost(revision)
        with self.database.read() as connection:
            after = revisions.get(connection, STUDY, 1)
        assert after.attempts == revision.attempts + 1
        assert after.next_attempt_at > journal.now() or after.state is RevisionState.DEAD_LETTER
        return after.state

    def lose_delivery(self) -> tuple[DeliveryState, RevisionState]:
        made = OutgoingObject(
            position=0,
            kind="structured_report",
            series_instance_uid="1.2",
            sop_class_uid="1.2",
            sop_instance_uid="1.2.1",
            path="results",
            sha256="0",
            size_bytes=1,
        )
        with self.database.write() as connection:
            revisions.scored(connection, STUDY, 1, result={}, made=[made])
            delivery = outbox.get_delivery(connection, STUDY, 1, "pacs")
        self.dispatcher._lost(delivery)
        with self.database.read() as connection:
            after = outbox.get_delivery(connection, STUDY, 1, "pacs")
            revision = revisions.get(connection, STUDY, 1)
        assert after.next_attempt_at > journal.now() or after.state is DeliveryState.DEAD_LETTER
        return after.state, revision.state

    def lose_report(self) -> ReportState:
        with self.database.read() as connection:
            number = connection.execute(select(reports.c.id)).scalar_one()
            report = commitments.get_report(connection, number)
        self.dispatcher._lost(report)
        with self.database.read() as connection:
            after = commitments.get_report(connection, number)
        assert after.next_attempt_at > journal.now() or after.state is ReportState.DEAD_LETTER
        return after.state


def test_lost_attempt_is_made_again_after_a_wait(tmp_path: Path) -> None:
    house = House(tmp_path, give_up_after_hours=1.0)
    assert house.lose_scoring() is RevisionState.READY
    assert house.lose_scoring() is RevisionState.READY
    assert house.lose_delivery() == (DeliveryState.PENDING, RevisionState.SCORED)
    assert house.lose_report() is ReportState.PENDING


def test_what_is_lost_for_too_long_is_a_dead_letter(tmp_path: Path) -> None:
    assert House(tmp_path, give_up_after_hours=A_MOMENT_HOURS).lose_scoring() is RevisionState.DEAD_LETTER


def test_delivery_and_report_lost_for_too_long_are_dead_letters(tmp_path: Path) -> None:
    house = House(tmp_path, give_up_after_hours=A_MOMENT_HOURS)
    assert house.lose_delivery() == (DeliveryState.DEAD_LETTER, RevisionState.DEAD_LETTER)
    assert house.lose_report() is ReportState.DEAD_LETTER
