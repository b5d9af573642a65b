"""What is away comes back: the PACS, the service, the node itself; nothing is lost, nothing comes twice."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from pynetdicom import AE

from dicom_listener import studies
from dicom_listener.errors import UnknownStudyError
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeService]:
    with FakeService(tmp_path_factory.mktemp("service")) as found:
        yield found


def states(node: NodeProcess) -> Counter[str]:
    return Counter(one.state for one in studies.list_studies(node.settings))


def test_pacs_that_is_down_gets_its_results_when_it_is_back_and_delays_nobody(
    tmp_path: Path, service: FakeService, free_port: Callable[[], int]
) -> None:
    away = Pacs(port=free_port())
    retry = {
        "first_seconds": 60,
        "longest_seconds": 600,
    }  # only the C-ECHO that is answered again can be so quick
    with Pacs() as other:
        destinations = [away.destination | {"name": "away"}, other.destination | {"name": "other"}]
        with NodeProcess(tmp_path, service_url=service.url, destinations=destinations, retry=retry) as node:
            for _ in range(3):
                assert send(node.port, [radiograph()]) == [0]
            until(lambda: len(other.received) == 6)
            until(lambda: node.metric('skiagraph_outbox_pending{destination="away"}') == 3)
            assert node.metric('skiagraph_peer_up{destination="away"}') == 0
            assert states(node) == {"scored": 3}
            with away:
                until(lambda: states(node) == {"delivered": 3})
                assert Counter(away.received) == Counter(other.received)
                assert max(Counter(uid for uid, _ in away.received).values()) == 1
            assert node.metric('skiagraph_outbox_pending{destination="away"}') == 0


def test_refusal_for_good_is_a_dead_letter_with_its_history_until_somebody_retries(
    tmp_path: Path, service: FakeService
) -> None:
    answers = iter([0xA900])
    with (
        Pacs(before_answer=lambda _number: next(answers, None)) as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node,
    ):
        instance = radiograph()
        send(node.port, [instance])
        until(lambda: states(node) == {"dead_letter": 1})
        assert node.metric("skiagraph_dead_letter_studies") == 1
        (revision,) = studies.show_study(node.settings, instance.StudyInstanceUID).revisions
        assert revision.deliveries[0].accepted == (1,)  # the picture was taken, the report was not
        assert revision.deliveries[0].error == "pacs answered 0xA900"
        studies.retry(node.settings, instance.StudyInstanceUID)
        until(lambda: states(node) == {"delivered": 1})
        assert [len(set(pacs.received)), len(pacs.received)] == [2, 3]


def test_service_that_is_down_or_late_is_asked_again(tmp_path: Path) -> None:
    with FakeService(tmp_path / "service") as service, Pacs() as pacs:
        with NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node:
            service.stop()
            send(node.port, [radiograph()])
            until(lambda: node.metric('skiagraph_retries_total{stage="scoring"}') >= 1)
            service.behave(status=503)
            service.start()
            until(lambda: [one["status"] for one in service.answers()].count(503) >= 1)
            service.behave()
            until(lambda: states(node) == {"delivered": 1})
        assert len({one["result_time"] for one in service.answers()}) == 1  # set once, by the ledger


@pytest.mark.parametrize(("status", "state", "asked"), [(422, "rejected", 1), (500, "dead_letter", 3)])
def test_what_the_service_can_never_answer_ends_with_a_reason(
    tmp_path: Path, status: int, state: str, asked: int
) -> None:
    with FakeService(tmp_path / "service") as service, Pacs() as pacs:
        service.behave(status=status, code="no_radiograph")
        with NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node:
            instance = radiograph()
            send(node.port, [instance])
            until(lambda: states(node) == {state: 1})
            assert len(service.answers()) == asked
            (found,) = studies.list_studies(node.settings, state=state)
            assert found.error is not None
            assert "no_radiograph" in found.error
            service.behave()
            studies.retry(node.settings, instance.StudyInstanceUID)
            until(lambda: states(node) == {"delivered": 1})


def test_requests_made_while_the_node_is_down_are_served_when_it_starts(
    tmp_path: Path, service: FakeService
) -> None:
    with Pacs() as pacs:
        node = NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination])
        with node:
            instance = radiograph()
            send(node.port, [instance])
            until(lambda: states(node) == {"delivered": 1})
            assert node.stop() == 0
        studies.replay(node.settings, instance.StudyInstanceUID)
        with pytest.raises(UnknownStudyError, match=r"no study 1\.2\.3 in the ledger"):
            studies.discard(node.settings, "1.2.3")
        with node:
            until(lambda: len(pacs.received) == 4)
            until(lambda: states(node) == {"delivered": 1})


def test_discarded_study_is_delivered_no_more(
    tmp_path: Path, service: FakeService, free_port: Callable[[], int]
) -> None:
    away = Pacs(port=free_port())
    with NodeProcess(tmp_path, service_url=service.url, destinations=[away.destination]) as node:
        instance = radiograph()
        send(node.port, [instance])
        until(lambda: states(node) == {"scored": 1})
        studies.discard(node.settings, instance.StudyInstanceUID)
        until(lambda: states(node) == {"discarded": 1})
        with away:
            until(lambda: node.metric('skiagraph_peer_up{destination="pacs"}') == 1)
            time.sleep(0.5)
            assert away.received == []


def test_stop_lets_a_running_association_finish(tmp_path: Path, service: FakeService) -> None:
    with NodeProcess(tmp_path, service_url=service.url) as node:
        instance = radiograph()
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(instance.SOPClassUID, instance.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", node.port, ae_title="SKIAGRAPH")
        stopping = Thread(target=node.stop)
        stopping.start()
        until(lambda: "stopping" in node.log())
        assert association.send_c_store(instance).Status == 0
        association.release()
        stopping.join()
        assert node.exit_code == 0
        assert states(node) == {"receiving": 1}


def test_second_node_in_the_same_folder_says_why_it_does_not_start(tmp_path: Path) -> None:
    with NodeProcess(tmp_path) as node:
        second = NodeProcess(tmp_path)
        second.spawn()
        until(lambda: not second.running())
        assert second.exit_code == 1
        assert "is in use by another node: stop it, or choose another folder" in second.log()
        assert node.running()


def test_port_in_use_says_why_the_node_does_not_start(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "first") as node:
        second = NodeProcess(tmp_path / "second", port=node.port)
        second.spawn()
        until(lambda: not second.running())
        assert f"127.0.0.1:{node.port} cannot be bound" in second.log()


def test_below_the_reserve_associations_are_refused_and_readiness_says_so(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, reserve_bytes=2**60) as node:
        with pytest.raises(AssertionError, match="not accepted"):
            send(node.port, [radiograph()])
        answer = node.http("/readyz")
        assert (answer.status_code, answer.json()["above_reserve"]) == (503, False)
