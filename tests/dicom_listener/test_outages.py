"""What is away comes back: the PACS, the service, the node itself; nothing is lost, nothing comes twice."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
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


def test_what_the_service_can_never_answer_ends_with_a_reason(tmp_path: Path) -> None:
    with (
        FakeService(tmp_path / "service") as service,
        Pacs() as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node,
    ):
        for status, state, asked in ((422, "rejected", 1), (500, "dead_letter", 3)):
            service.behave(status=status, code="no_radiograph")
            before = len(service.answers())
            instance = radiograph()
            send(node.port, [instance])
            (found,) = until(partial(studies.list_studies, node.settings, state=state))
            assert len(service.answers()) == before + asked
            assert "no_radiograph" in str(found.error)
            assert node.metric("skiagraph_dead_letter_studies") == 1
            service.behave()
            studies.retry(node.settings, instance.StudyInstanceUID)
            until(lambda: set(states(node)) == {"delivered"})


@pytest.mark.parametrize(
    "status", [401, 403, 404, 201], ids=["no token", "no scope", "no such path", "another version"]
)
def test_what_is_wrong_for_every_study_waits_for_its_repair(tmp_path: Path, status: int) -> None:
    with (
        FakeService(tmp_path / "service") as service,
        Pacs() as pacs,
        NodeProcess(
            tmp_path,
            service_url=service.url,
            destinations=[pacs.destination],
            retry={"first_seconds": 0.1, "longest_seconds": 0.1, "faults": 1},
        ) as node,
    ):
        service.behave(status=status)  # none of them is an answer for a study
        send(node.port, [radiograph()])
        until(lambda: len(service.answers()) >= 3)
        assert states(node) == {"ready": 1}
        service.behave()
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
    with NodeProcess(tmp_path, service_url=service.url, quiet_period_seconds=60) as node:
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


def test_second_node_says_why_it_does_not_start(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "first") as node:
        same_folder = NodeProcess(tmp_path / "first")
        same_port = NodeProcess(tmp_path / "second", port=node.port)
        same_folder.spawn()
        same_port.spawn()
        until(lambda: not same_folder.running() and not same_port.running())
        assert (same_folder.exit_code, same_port.exit_code) == (1, 1)
        assert "is in use by another node: stop it, or choose another folder" in same_folder.log()
        assert f"127.0.0.1:{node.port} cannot be bound" in same_port.log()
        assert node.running()


def test_below_the_reserve_associations_are_refused_and_readiness_says_so(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, reserve_bytes=2**60) as node:
        with pytest.raises(AssertionError, match="not accepted"):
            send(node.port, [radiograph()])
        answer = node.http("/readyz")
        assert (answer.status_code, answer.json()["above_reserve"]) == (503, False)


def test_destinations_without_an_address_keep_nobody_waiting(tmp_path: Path, service: FakeService) -> None:
    nowhere = [
        {"name": name, "ae_title": "PACS", "host": host, "port": 104}
        for name, host in (("unknown", "pacs.invalid"), ("no-name", "pacs..example"))
    ]
    with (
        Pacs() as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination, *nowhere]) as node,
    ):
        send(node.port, [radiograph()])
        until(lambda: len(pacs.received) == 2)
        until(lambda: node.log().count("cannot be reached") >= 4)
        assert node.running()
        assert states(node) == {"scored": 1}


def test_destination_that_stops_in_mid_pdu_holds_nobody(tmp_path: Path, service: FakeService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        held: list[socket.socket] = []

        def begin_an_answer() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = frozen.accept()
                    peer.sendall(b"\x02\x00\x00\x00\x00\xb8")  # A-ASSOCIATE-AC, 184 bytes to come
                    held.append(peer)

        Thread(target=begin_an_answer, daemon=True).start()
        destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1"}
        with NodeProcess(
            tmp_path,
            service_url=service.url,
            destinations=[destination | {"port": frozen.getsockname()[1]}],
            network_timeout_seconds=2,
        ) as node:
            send(node.port, [radiograph()])
            until(lambda: node.log().count('"event": "not delivered"') >= 2)
            until(lambda: "destination does not answer C-ECHO" in node.log())
            assert node.stop() == 0
        for peer in held:
            peer.close()
