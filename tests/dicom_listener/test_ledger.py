"""The ledger by itself: its schema, the order of arrivals and revisions, and what an explanation says."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from dicom_listener.errors import ImpossibleTransitionError, StartupError
from dicom_listener.explain import explain
from dicom_listener.ledger import arrivals, overview, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Arrival, OutgoingObject, Revision, Route, Trigger
from dicom_listener.ledger.states import RevisionEvent, RevisionState
from dicom_listener.ledger.tables import metadata
from skiagraph.settings.listener import ListenerSettings
from tests.dicom_listener.peers import radiograph

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STUDY = "1.2.3"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def arrive(database: Database, sop_instance_uid: str, *, ignored: str | None = None) -> bool:
    arrival = Arrival(
        study_instance_uid=STUDY,
        series_instance_uid="1.2.3.4",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid="1.2.840.10008.1.2",
        modality="CR",
        calling_ae="CR1",
        called_ae="SKIAGRAPH",
        peer_address="127.0.0.1",
        path=f"received/{STUDY}/{sop_instance_uid}",
        size_bytes=1,
        received_at=NOW,
        ignored=ignored,
    )
    with database.write() as connection:
        return arrivals.record(connection, arrival, replaces=False)


def cut(database: Database, trigger: Trigger = Trigger.QUIET_PERIOD) -> Revision | None:
    with database.write() as connection:
        return arrivals.cut(connection, STUDY, trigger=trigger, route=Route(destinations=("pacs",)), at=NOW)


def score(database: Database, number: int) -> RevisionState:
    report = OutgoingObject(
        position=0,
        kind="structured_report",
        series_instance_uid="1.2",
        sop_class_uid="1.2",
        sop_instance_uid=f"1.2.{number}",
        path="results",
        sha256="0",
        size_bytes=1,
    )
    with database.write() as connection:
        return revisions.scored(connection, STUDY, number, result={"number": number}, made=[report])


def test_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_revision_covers_what_has_come_and_a_later_instance_opens_the_study_again(database: Database) -> None:
    assert arrive(database, "1.1") is False
    assert arrive(database, "1.2") is False
    first = cut(database)
    assert first is not None
    assert cut(database) is None  # nothing new
    assert arrive(database, "1.3") is True
    with database.read() as connection:
        assert arrivals.open_studies(connection) == [STUDY]
        covered = arrivals.instances_of(connection, STUDY, first.last_instance_id)
    assert [one.sop_instance_uid for one in covered] == ["1.1", "1.2"]
    second = cut(database)
    assert second is not None
    with database.read() as connection:
        assert revisions.get(connection, STUDY, 1).state is RevisionState.SUPERSEDED
        assert revisions.predecessor(connection, STUDY, 2) is None  # nobody was sent the first


def test_scored_revision_is_the_predecessor_of_the_next_and_its_result_stands(database: Database) -> None:
    arrive(database, "1.1")
    cut(database)
    assert score(database, 1) is RevisionState.SCORED
    assert score(database, 1) is RevisionState.SCORED
    arrive(database, "1.2")
    cut(database)
    with database.read() as connection:
        before = revisions.predecessor(connection, STUDY, 2)
        assert len(revisions.objects_of(connection, STUDY, 1)) == 1
    assert before is not None
    assert before.sop_instance_uid == "1.2.1"


def test_result_of_a_superseded_revision_changes_nothing(database: Database) -> None:
    arrive(database, "1.1")
    cut(database)
    arrive(database, "1.2")
    cut(database)
    assert score(database, 1) is RevisionState.SUPERSEDED
    with database.read() as connection:
        assert revisions.objects_of(connection, STUDY, 1) == []


def test_ignored_instance_opens_nothing(database: Database) -> None:
    assert arrive(database, "1.1", ignored="made_by_us") is False
    assert cut(database) is None
    with database.read() as connection:
        assert [one.state for one in overview.summaries(connection)] == ["ignored"]


def test_failed_attempt_counts_once(database: Database) -> None:
    arrive(database, "1.1")
    tried = cut(database)
    assert tried is not None
    for _ in range(2):  # the same attempt, told twice: a step that a crash repeated
        with database.write() as connection:
            revisions.failed_scoring(connection, tried, error="away", fault=False, next_attempt_at=NOW)
    with database.read() as connection:
        assert revisions.get(connection, STUDY, 1).attempts == 1


def test_impossible_event_is_refused(database: Database) -> None:
    arrive(database, "1.1")
    cut(database)
    with database.write() as connection, pytest.raises(ImpossibleTransitionError):
        revisions.transition(connection, STUDY, 1, RevisionEvent.DELIVER)


def test_ledger_that_cannot_be_opened_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"check listener\.folder"):
        Database(f"sqlite:///{tmp_path / 'missing' / 'ledger.sqlite'}")


def test_explanation_names_the_rule_and_what_did_not_match(tmp_path: Path) -> None:
    settings = ListenerSettings.model_validate(
        {
            "rules": [
                {"name": "phantom", "when": {"PatientID": "PHANTOM*", "Modality": "DX"}, "gate": False},
                {"name": "rest", "drop": True},
            ]
        }
    )
    radiograph(STUDY).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (tmp_path / "b.dcm").write_text("not DICOM")
    (found,), (unreadable,) = explain(settings, sorted(tmp_path.glob("*.dcm")))
    assert (found.study_instance_uid, found.rule, found.route.state) == (STUDY, "rest", RevisionState.DROPPED)
    assert [(one.rule, one.taken, one.unmatched) for one in found.verdicts] == [
        ("phantom", False, {"PatientID": ("PHANTOM*",)}),
        ("rest", True, {}),
    ]
    assert unreadable.path.name == "b.dcm"
    assert unreadable.reason
