"""Storage Commitment in both roles, with pynetdicom and Orthanc (PS3.4 annex J)."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from pydantic import ValidationError
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt

from dicom_listener import commitment, studies, transport
from dicom_listener.commitment import ALL_COMMITTED, CLASS_INSTANCE_CONFLICT, NO_SUCH_INSTANCE
from dicom_listener.ledger.records import SopReference
from skiagraph.demo.pacs import orthanc
from skiagraph.settings.listener import ListenerSettings
from tests.conftest import debian_program
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until

MODALITY = {"ae_title": "MODALITY"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeService]:
    with FakeService(tmp_path_factory.mktemp("service")) as found:
        yield found


def reference(instance: Dataset) -> SopReference:
    return SopReference(sop_class_uid=instance.SOPClassUID, sop_instance_uid=instance.SOPInstanceUID)


class Reports:
    """What a requester was told: transactions in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any]] = []
        self.status = 0x0000

    def take(self, event: Any) -> tuple[int, None]:
        self.seen.append((event.event_type, event.event_information))
        return self.status, None

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[int]:
        entity = AE(ae_title="MODALITY")
        entity.add_supported_context(commitment.SOP_CLASS, scu_role=True, scp_role=True)
        server: Any = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)]
        )
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()

    def failures(self) -> dict[str, int]:
        return {
            item.ReferencedSOPInstanceUID: item.FailureReason for item in self.seen[-1][1].FailedSOPSequence
        }


@contextmanager
def requesting(node: NodeProcess, reports: Reports) -> Iterator[Any]:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(commitment.SOP_CLASS)
    association = entity.associate(
        "127.0.0.1", node.port, ae_title="SKIAGRAPH", evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.take)]
    )
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def ask(association: Any, items: list[SopReference], transaction: str | None = None, action: int = 1) -> int:
    information = commitment.action(transaction or generate_uid(), items)
    status, _ = association.send_n_action(information, action, commitment.SOP_CLASS, commitment.SOP_INSTANCE)
    return int(status.Status)


def test_report_on_the_association_of_the_request_tells_what_is_on_disk(tmp_path: Path) -> None:
    with NodeProcess(tmp_path) as node:
        here, lost, other = radiograph(), radiograph(), radiograph()
        assert send(node.port, [here, lost, other]) == [0, 0, 0]
        (kept,) = studies.show_study(node.settings, lost.StudyInstanceUID).instances
        (node.settings.folder / "spool" / kept.path).unlink()
        stranger = SopReference(sop_class_uid="1.2.3", sop_instance_uid=generate_uid())
        conflict = SopReference(sop_class_uid="1.2.3", sop_instance_uid=other.SOPInstanceUID)
        reports = Reports()
        with requesting(node, reports) as association:
            assert ask(association, [reference(here)], "1.2.3.4") == 0x0000
            until(lambda: len(reports.seen) == 1)
            assert reports.seen[0][0] == ALL_COMMITTED
            assert reports.seen[0][1].TransactionUID == "1.2.3.4"
            assert ask(association, [reference(here), reference(lost), stranger, conflict]) == 0x0000
            until(lambda: len(reports.seen) == 2)
            assert [item.ReferencedSOPInstanceUID for item in reports.seen[1][1].ReferencedSOPSequence] == [
                here.SOPInstanceUID
            ]
            assert reports.failures() == {
                lost.SOPInstanceUID: NO_SUCH_INSTANCE,
                stranger.sop_instance_uid: NO_SUCH_INSTANCE,
                other.SOPInstanceUID: CLASS_INSTANCE_CONFLICT,
            }
            assert ask(association, [reference(here)], action=7) == 0x0123
            assert ask(association, []) == 0x0115
        assert node.metric('skiagraph_storage_commitment_total{result="failed",role="scp"}') == 1
        until(lambda: "commitment_reported" in events(node, here))


def test_instance_that_comes_before_the_answer_to_a_report_is_stored(tmp_path: Path) -> None:
    first, second = radiograph(), radiograph()
    reporting, stored = threading.Event(), threading.Event()

    def answer_late(_event: Any) -> tuple[int, None]:
        reporting.set()
        assert not stored.wait(1.0)  # the node waits for this answer while the second instance comes
        return 0x0000, None

    entity = AE(ae_title="MODALITY")
    entity.dimse_timeout = 15
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    entity.add_requested_context(commitment.SOP_CLASS)
    with NodeProcess(tmp_path) as node:
        association = entity.associate(
            "127.0.0.1", node.port, ae_title="SKIAGRAPH", evt_handlers=[(evt.EVT_N_EVENT_REPORT, answer_late)]
        )
        assert association.send_c_store(first).Status == 0x0000
        assert ask(association, [reference(first)]) == 0x0000
        assert reporting.wait(10)
        assert association.send_c_store(second).Status == 0x0000
        stored.set()
        until(lambda: "commitment_reported" in events(node, first))
        assert association.is_established
        association.release()
        assert "report not taken" not in node.log()


def test_report_and_answers_of_other_threads_go_out_whole() -> None:
    parts: list[int] = []

    def in_two_parts(message: int, _context_id: int) -> None:
        parts.append(message)
        time.sleep(0.01)
        parts.append(message)

    send_message = transport.one_at_a_time(in_two_parts)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda message: send_message(message, 1), range(8)))
    assert parts[::2] == parts[1::2]


def test_request_survives_kill_and_is_reported_when_the_requester_listens_again(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, reports = free_port(), Reports()
    node = NodeProcess(tmp_path, peers=[MODALITY | {"port": port}])
    instance = radiograph()
    with node:
        send(node.port, [instance])
        with requesting(node, reports) as association:
            assert ask(association, [reference(instance)], "1.2.3.5") == 0x0000
        node.kill()
    with node:
        until(lambda: "report not taken" in node.log())
        reports.status = 0x0110
        with reports.listening(port):
            until(lambda: len(reports.seen) == 1)
            reports.status = 0x0000
            until(lambda: len(reports.seen) == 2)
            until(lambda: "commitment_reported" in events(node, instance))
        assert {one.TransactionUID for _, one in reports.seen} == {"1.2.3.5"}
        assert {kind for kind, _ in reports.seen} == {ALL_COMMITTED}


def test_requester_of_no_known_port_is_given_up_with_the_setting(tmp_path: Path) -> None:
    with NodeProcess(tmp_path) as node:
        with requesting(node, Reports()) as association:
            assert ask(association, [reference(radiograph())]) == 0x0000
        until(lambda: "listener.peers has no port for it" in node.log())
        assert node.metric('skiagraph_storage_commitment_total{result="unanswered",role="scp"}') == 1


def events(node: NodeProcess, instance: FileDataset) -> list[str]:
    return [event.kind for event in studies.show_study(node.settings, instance.StudyInstanceUID).events]


class CommittingPacs(Pacs):
    """A PACS that answers requests for Storage Commitment as it is told to.

    behave: gets the number of the request (from 0); the instances not committed to, or None for no report.
    """

    def __init__(self, behave: Callable[[int, list[str]], list[str] | None], **options: Any) -> None:
        super().__init__(**options)
        self.node_port = 0  # reports go there; 0: on the association of the request
        self.asked: list[list[str]] = []
        self._behave = behave
        self.statuses: list[int] = []

    def start(self) -> Self:
        super().start()
        self._server.ae.add_supported_context(commitment.SOP_CLASS)
        self._server.contexts = self._server.ae.supported_contexts
        self._server.bind(evt.EVT_N_ACTION, self._action)
        return self

    def _action(self, event: Any) -> tuple[int, None]:
        asked = commitment.read(event.action_information)
        self.asked.append([item.sop_instance_uid for item in asked.items])
        failed = self._behave(len(self.asked) - 1, self.asked[-1])
        if failed is not None:
            answer = commitment.Transaction(
                transaction_uid=asked.transaction_uid,
                items=tuple(item for item in asked.items if item.sop_instance_uid not in failed),
                failed={item: NO_SUCH_INSTANCE for item in asked.items if item.sop_instance_uid in failed},
            )
            threading.Thread(target=self._report, args=(event.assoc, answer)).start()
        return 0x0000, None

    def _report(self, association: Any, answer: commitment.Transaction) -> None:
        kind, information = commitment.report(answer)
        if self.node_port:
            entity = AE(ae_title="PACS")
            entity.add_requested_context(commitment.SOP_CLASS)
            role = build_role(commitment.SOP_CLASS, scp_role=True)
            association = entity.associate("127.0.0.1", self.node_port, ae_title="SKIAGRAPH", ext_neg=[role])
        status, _ = association.send_n_event_report(
            information, kind, commitment.SOP_CLASS, commitment.SOP_INSTANCE
        )
        self.statuses.append(int(status.Status))
        if self.node_port:
            association.release()

    @property
    def destination(self) -> dict[str, object]:
        return super().destination | {"storage_commitment": True}


@pytest.mark.parametrize("on_a_new_association", [False, True])
def test_result_is_delivered_once_committed_and_what_is_not_committed_is_sent_again(
    tmp_path: Path, service: FakeService, on_a_new_association: bool
) -> None:
    with (
        CommittingPacs(lambda number, asked: asked[:1] if number == 0 else []) as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node,
    ):
        pacs.node_port = node.port if on_a_new_association else 0
        instance = radiograph()
        send(node.port, [instance])
        until(lambda: studies.list_studies(node.settings, state="delivered"))
        until(lambda: pacs.statuses == [0, 0])
        assert [len(asked) for asked in pacs.asked] == [2, 2]
        assert len(pacs.received) == 3
        assert len(set(pacs.received)) == 2  # the same bytes again
        told = [kind for kind in events(node, instance) if "commit" in kind or "deliver" in kind]
        assert told == [
            "commitment_asked",
            "commitment_answered",
            "delivery_failed",
            "commitment_asked",
            "commitment_answered",
            "delivered",
            "revision_delivered",
        ]
        assert node.metric('skiagraph_storage_commitment_total{result="committed",role="scu"}') == 1
        assert node.metric('skiagraph_storage_commitment_total{result="failed",role="scu"}') == 1


def test_destination_that_does_not_report_is_asked_again_and_nothing_is_sent_twice(
    tmp_path: Path, service: FakeService
) -> None:
    with (
        CommittingPacs(lambda number, _asked: None if number == 0 else []) as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node,
    ):
        instance = radiograph()
        send(node.port, [instance])
        until(lambda: delivery_states(node, instance) == ["committing"])
        assert node.metric('skiagraph_outbox_pending{destination="pacs"}') == 1
        until(lambda: studies.list_studies(node.settings, state="delivered"))
        assert len(pacs.asked) == len(pacs.received) == 2
        assert node.metric('skiagraph_storage_commitment_total{result="unanswered",role="scu"}') == 1


def test_destination_that_offers_no_commitment_is_a_dead_letter_that_names_the_setting(
    tmp_path: Path, service: FakeService
) -> None:
    with Pacs() as pacs:
        destination = pacs.destination | {"storage_commitment": True}
        with NodeProcess(tmp_path, service_url=service.url, destinations=[destination]) as node:
            send(node.port, [radiograph()])
            (found,) = until(lambda: studies.list_studies(node.settings, state="dead_letter"))
            (revision,) = studies.show_study(node.settings, found.study_instance_uid).revisions
            assert revision.deliveries[0].accepted == (0, 1)
            assert "set its storage_commitment to false" in str(revision.deliveries[0].error)


def test_destination_that_is_to_report_must_be_let_in() -> None:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104, "storage_commitment": True}
    with pytest.raises(ValidationError, match="does not let its AE title PACS in: add it there"):
        ListenerSettings.model_validate({"destinations": [destination], "peers": [MODALITY]})


def delivery_states(node: NodeProcess, instance: FileDataset) -> list[str]:
    history = studies.show_study(node.settings, instance.StudyInstanceUID)
    return [one.state.value for revision in history.revisions for one in revision.deliveries]


@pytest.mark.debian("Orthanc")
def test_orthanc_asks_and_is_asked(
    tmp_path: Path, service: FakeService, free_port: Callable[[], int]
) -> None:
    program = debian_program("Orthanc")
    assert program is not None
    port, pacs_port = free_port(), free_port()
    modality = {"AET": "SKIAGRAPH", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    destination = {
        "name": "pacs",
        "ae_title": "DEMOPACS",
        "host": "127.0.0.1",
        "port": pacs_port,
        "storage_commitment": True,
    }
    with (
        orthanc(program, tmp_path, port=pacs_port, DicomModalities={"skiagraph": modality}) as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[destination], port=port) as node,
    ):
        instance = radiograph()
        instance.save_as(tmp_path / "source.dcm", enforce_file_format=True)
        content = (tmp_path / "source.dcm").read_bytes()
        stored = httpx.post(f"{pacs.url}/instances", content=content).raise_for_status().json()["ID"]
        modality_url = f"{pacs.url}/modalities/skiagraph"
        httpx.post(f"{modality_url}/store", content=stored, timeout=30).raise_for_status()
        until(lambda: studies.list_studies(node.settings, state="delivered"))
        assert events(node, instance).count("commitment_answered") == 1
        unknown = [instance.SOPClassUID, generate_uid()]
        request = {"DicomInstances": [[instance.SOPClassUID, instance.SOPInstanceUID], unknown]}
        asked = httpx.post(f"{modality_url}/storage-commitment", json=request).raise_for_status().json()
        answer = until(lambda: _answer(f"{pacs.url}{asked['Path']}"))
        assert [one["SOPInstanceUID"] for one in answer["Success"]] == [instance.SOPInstanceUID]
        assert [(one["SOPInstanceUID"], one["FailureReason"]) for one in answer["Failures"]] == [
            (unknown[1], NO_SUCH_INSTANCE)
        ]


def _answer(url: str) -> Any:
    said = httpx.get(url).raise_for_status().json()
    return None if said["Status"] == "Pending" else said
