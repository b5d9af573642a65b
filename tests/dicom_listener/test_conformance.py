"""docs/dicom-conformance.md says what the code does."""

import re
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES

from dicom_listener import admission, commitment, commitment_peers, delivery
from dicom_listener.admission import Reason
from dicom_listener.delivery import Outcome
from dicom_listener.reception import application_entity
from service.contract import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from skiagraph.settings.listener import ListenerSettings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "dicom-conformance.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the first table after a text."""
    rows = TEXT.split(heading, 1)[1].split("|---", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def entity() -> AE:
    return application_entity(ListenerSettings())


def test_identity() -> None:
    stated = dict(row[:2] for row in table("## Identity"))
    assert stated["Implementation Class UID"] == IMPLEMENTATION_CLASS_UID == entity().implementation_class_uid
    assert stated["Implementation Version Name"] == IMPLEMENTATION_VERSION_NAME
    assert stated["Maximum PDU announced"].startswith(f"{entity().maximum_pdu_size} bytes")
    assert stated["Associations at once"].startswith(f"{ListenerSettings().max_associations} ")


def test_classes_and_syntaxes_as_scp() -> None:
    stated = {row[1]: row[0] for row in table("## As SCP")}
    assert stated == {uid: UID(uid).name.removesuffix(" SOP Class") for uid in stated}
    contexts = {
        str(context.abstract_syntax): context.transfer_syntax for context in entity().supported_contexts
    }
    assert set(stated) == set(contexts)
    for sop_class in admission.SOP_CLASSES:
        assert contexts[sop_class] == ALL_TRANSFER_SYNTAXES


def test_reasons_of_a_rejected_association() -> None:
    stated = {
        reason: tuple(map(int, numbers.split(", ")))
        for reason, numbers in table("An association is rejected")
    }
    cases: dict[Reason, dict[str, object]] = {
        Reason.CALLED_AE: {"called_ae": "OTHER"},
        Reason.CALLING_AE: {"calling_ae": "STRANGER"},
        Reason.ADDRESS: {"address": "10.0.0.9"},
        Reason.OURSELVES: {"implementation_class_uid": IMPLEMENTATION_CLASS_UID},
        Reason.TOO_MANY: {"active": 1000},
        Reason.NO_SPACE: {"free_bytes": 0},
        Reason.STOPPING: {"stopping": True},
    }
    settings = ListenerSettings.model_validate({"peers": [{"ae_title": "CR", "host": "10.0.0.1"}]})
    fine: dict[str, object] = {
        "calling_ae": "CR",
        "called_ae": "SKIAGRAPH",
        "address": "10.0.0.1",
        "implementation_class_uid": "1.2",
        "free_bytes": 2**62,
        "active": 0,
        "stopping": False,
    }
    done = {}
    for reason, change in cases.items():
        refusal = admission.associate(settings, **(fine | change))  # type: ignore[arg-type]
        assert refusal is not None
        assert refusal.reason is reason
        done[reason.value] = (refusal.result, refusal.source, refusal.diagnostic)
    assert stated == done


def test_statuses_we_answer_with() -> None:
    stated = {int(row[0], 16) for row in table("C-STORE is answered")}
    assert stated == {
        admission.SUCCESS,
        admission.OUT_OF_RESOURCES,
        admission.DOES_NOT_MATCH,
        admission.CANNOT_UNDERSTAND,
        0xC211,  # pynetdicom's answer when a handler raises
    }


def test_statuses_and_failure_reasons_of_storage_commitment() -> None:
    assert {int(row[0], 16) for row in table("N-ACTION is answered")} == {
        commitment_peers.SUCCESS,
        commitment_peers.INVALID_ARGUMENT,
        commitment_peers.NO_SUCH_ACTION,
        commitment_peers.RESOURCE_LIMITATION,
    }
    assert {int(row[0], 16) for row in table("Failure reasons in it")} == {
        commitment.NO_SUCH_INSTANCE,
        commitment.CLASS_INSTANCE_CONFLICT,
    }


@pytest.mark.parametrize(("row", "outcome"), [(0, Outcome.ACCEPTED), (1, Outcome.PERMANENT)])
def test_statuses_we_are_answered_with(row: int, outcome: Outcome) -> None:
    named = re.findall(r"0x([0-9A-Fx]{4})", table("A C-STORE response means")[row][0])
    assert named
    codes = [int(code.replace("x", digit), 16) for code in named for digit in "05F"]
    assert {delivery.judge(code) for code in codes} == {outcome}


def test_every_other_status_is_tried_again() -> None:
    named = {0x0117, 0x0122, 0x0124, 0x0000, 0x0111, 0xB000, 0xB006, 0xB007}
    others = [
        code for code in range(0x10000) if code not in named and code >> 8 != 0xA9 and code >> 12 != 0xC
    ]
    assert {delivery.judge(code) for code in others} == {Outcome.TRANSIENT}
