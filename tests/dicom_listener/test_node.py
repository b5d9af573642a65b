"""A real node process between real peers: the main line, and what may go wrong around it."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from dicom_listener import studies
from dicom_listener.ledger.overview import StudySummary
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until


class House:
    """A node, the service's stand-in and a PACS that live as long as the module."""

    def __init__(self, folder: Path) -> None:
        self.service = FakeService(folder / "service").start()
        self.pacs = Pacs().start()
        self.node = NodeProcess(
            folder / "node",
            service_url=self.service.url,
            destinations=[self.pacs.destination],
            peers=[{"ae_title": "MODALITY"}, {"ae_title": "WARD"}],
            rules=[
                {"name": "phantom", "when": {"PatientID": "PHANTOM*"}, "gate": False, "model": "other"},
                {
                    "name": "drop-knees",
                    "when": {"BodyPartExamined": "knee"},
                    "drop": True,
                    "reason": "not for us",
                },
                {"name": "hold-ward", "when": {"CallingAETitle": "WARD"}, "hold": True},
            ],
        ).start()

    def summary(self, study: str) -> StudySummary:
        found = [one for one in studies.list_studies(self.node.settings) if one.study_instance_uid == study]
        assert found, "not in the ledger"
        return found[0]

    def wait(self, study: str, state: str, revision: int = 1) -> StudySummary:
        def there() -> StudySummary | None:
            seen = self.summary(study)
            return seen if (seen.state, seen.revision) == (state, revision) else None

        found = until(there)
        assert found is not None
        return found

    def close(self) -> None:
        assert self.node.stop() == 0
        self.pacs.stop()
        self.service.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("house"))
    yield found
    found.close()


def kinds(house: House, study: str) -> list[str]:
    return [event.kind for event in studies.show_study(house.node.settings, study).events]


def test_report_and_picture_come_back_and_the_ledger_tells_the_story(house: House) -> None:
    study = generate_uid()
    assert send(house.node.port, [radiograph(study), radiograph(study)]) == [0, 0]
    house.wait(study, "delivered")
    history = studies.show_study(house.node.settings, study)
    (revision,) = history.revisions
    for made in revision.objects:
        kept = (house.node.settings.folder / "spool" / made.path).read_bytes()
        assert hashlib.sha256(kept).hexdigest() == made.sha256
    sent = {made.sop_instance_uid for made in revision.objects}
    assert {uid for uid, data in house.pacs.datasets.items() if data.StudyInstanceUID == study} == sent
    assert kinds(house, study) == [
        "instance_received",
        "instance_received",
        "revision_cut",
        "revision_scored",
        "object_accepted",
        "object_accepted",
        "delivered",
        "revision_delivered",
    ]


def test_late_instance_makes_an_amended_report(house: House) -> None:
    study = generate_uid()
    send(house.node.port, [radiograph(study)])
    house.wait(study, "delivered")
    (first,) = house.pacs.reports(study)
    send(house.node.port, [radiograph(study)])
    house.wait(study, "delivered", revision=2)
    (second,) = [one for one in house.pacs.reports(study) if one.SOPInstanceUID != first.SOPInstanceUID]
    document = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert document.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert house.service.answers()[-1]["instances"] == 2


def test_same_bytes_again_change_nothing(house: House) -> None:
    instance = radiograph()
    study = instance.StudyInstanceUID
    send(house.node.port, [instance])
    house.wait(study, "delivered")
    assert send(house.node.port, [instance, instance]) == [0, 0]
    time.sleep(0.8)
    seen = house.summary(study)
    assert (seen.state, seen.revision, seen.instances) == ("delivered", 1, 1)


def test_other_bytes_under_the_same_uid_are_both_kept_and_the_newer_is_used(house: House) -> None:
    instance = radiograph(seed=1)
    study = instance.StudyInstanceUID
    send(house.node.port, [instance])
    house.wait(study, "delivered")
    instance.PixelData = radiograph(seed=2).PixelData
    send(house.node.port, [instance])
    house.wait(study, "delivered", revision=2)
    history = studies.show_study(house.node.settings, study)
    assert len(history.instances) == 2
    assert all((house.node.settings.folder / "spool" / one.path).is_file() for one in history.instances)
    assert "instance_replaced" in kinds(house, study)
    assert house.service.answers()[-1]["instances"] == 1


def test_rule_for_test_patients_switches_the_gate_off(house: House) -> None:
    instance = radiograph(PatientID="PHANTOM-7")
    send(house.node.port, [instance])
    assert house.wait(instance.StudyInstanceUID, "delivered").rule == "phantom"
    asked = house.service.answers()[-1]
    assert (asked["gate"], asked["model"]) == (False, "other")


def test_dropped_study_is_kept_and_not_scored(house: House) -> None:
    instance = radiograph(BodyPartExamined="KNEE")
    before = len(house.service.answers())
    send(house.node.port, [instance])
    assert house.wait(instance.StudyInstanceUID, "dropped").error == "not for us"
    assert len(house.service.answers()) == before


def test_held_study_goes_on_when_somebody_says_so(house: House) -> None:
    instance = radiograph()
    study = instance.StudyInstanceUID
    send(house.node.port, [instance], calling="WARD")
    house.wait(study, "held")
    request = studies.proceed(house.node.settings, study)
    house.wait(study, "delivered")
    assert studies.outcome(house.node.settings, request) == "scoring"
    again = studies.proceed(house.node.settings, study)
    until(lambda: studies.outcome(house.node.settings, again) == "refused: revision 1 is delivered, not held")


def test_replay_with_another_model_amends(house: House) -> None:
    instance = radiograph()
    study = instance.StudyInstanceUID
    send(house.node.port, [instance])
    house.wait(study, "delivered")
    studies.replay(house.node.settings, study, model="second-opinion")
    found = house.wait(study, "delivered", revision=2)
    assert found.result is not None
    assert found.result["model"]["name"] == "second-opinion"
    assert "PredecessorDocumentsSequence" in house.pacs.reports(study)[-1]


def test_what_we_made_is_kept_and_never_scored(house: House) -> None:
    study = generate_uid()
    send(house.node.port, [radiograph(study)])
    house.wait(study, "delivered")
    ours = next(
        one for one in house.pacs.datasets.values() if one.StudyInstanceUID == study and one.Modality == "OT"
    )
    assert send(house.node.port, [ours]) == [0]
    time.sleep(0.8)
    assert house.summary(study).revision == 1
    assert [one.ignored for one in studies.show_study(house.node.settings, study).instances] == [
        None,
        "made_by_us",
    ]


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "SKIAGRAPH"), ("MODALITY", "WRONG")])
def test_strangers_are_rejected_and_counted(house: House, calling: str, called: str) -> None:
    label, reason = ("other", "calling") if calling == "STRANGER" else ("MODALITY", "called")
    labels = f'calling_ae="{label}",reason="{reason}_ae_not_recognised",result="rejected"'
    sample = f"skiagraph_associations_total{{{labels}}}"
    before = house.node.metric(sample)
    entity = AE(ae_title=calling)
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", house.node.port, ae_title=called)
    assert association.is_rejected
    until(lambda: house.node.metric(sample) == before + 1)


def no_study(instance: FileDataset) -> None:
    del instance.StudyInstanceUID


def hostile_study(instance: FileDataset) -> None:
    instance.StudyInstanceUID = "../../../../tmp/x"


def long_series(instance: FileDataset) -> None:
    instance.SeriesInstanceUID = "1." + "2" * 80


@pytest.mark.filterwarnings("ignore:.*(UI|UID).*:UserWarning")
@pytest.mark.parametrize("spoil", [no_study, hostile_study, long_series])
def test_unfit_uids_are_refused_with_a_reason_and_the_next_study_is_unaffected(
    house: House, spoil: Callable[[FileDataset], None]
) -> None:
    bad, good = radiograph(), radiograph()
    spoil(bad)
    files = set((house.node.settings.folder / "spool" / "received").iterdir())
    assert send(house.node.port, [bad, good]) == [0xC000, 0]
    house.wait(good.StudyInstanceUID, "delivered")
    created = set((house.node.settings.folder / "spool" / "received").iterdir()) - files
    assert [folder.name for folder in created] == [good.StudyInstanceUID]
    assert not list((house.node.settings.folder / "spool" / "incoming").iterdir())


def test_metrics_are_there_from_the_start_without_phi(house: House) -> None:
    text = house.node.http("/metrics").text
    for name in (
        'instances_received_total{calling_ae="other",modality="CR",status="0xA700",transfer_syntax="other"}',
        'delivery_attempts_total{destination="pacs",outcome="permanent"}',
        'studies_completed_total{trigger="max_wait"}',
        'queue_depth{stage="scoring"}',
        'outbox_oldest_age_seconds{destination="pacs"}',
        'peer_up{destination="pacs"}',
        "dead_letter_studies",
        "spool_free_bytes",
        "turnaround_seconds_count",
    ):
        assert f"skiagraph_{name} " in text
    assert "SYNTHETIC" not in text
    assert "SYNTHETIC" not in house.node.log()
    assert house.node.http("/readyz").status_code == 200
    assert house.node.http("/livez").status_code == 200


def test_no_phi_in_the_databases(house: House) -> None:
    for database in house.node.settings.folder.glob("*.sqlite*"):
        assert b"SYNTHETIC" not in database.read_bytes(), database
