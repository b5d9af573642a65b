"""Reception beside the main line: TLS, several AE titles, expected views, unfriendly traffic, retention."""

import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from dicom_listener import studies
from tests.conftest import debian_program
from tests.dicom_listener.peers import FakeService, NodeProcess, radiograph, send, until
from tests.dicom_listener.test_interop import dcmtk

REJECTED_HANDSHAKES = (
    'skiagraph_associations_total{calling_ae="other",reason="tls_handshake_failed",result="rejected"}'
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeService]:
    with FakeService(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.mark.debian("storescu", "storescp")
def test_tls_with_client_certificates_in_and_out(
    tmp_path: Path, certificates: Path, service: FakeService, free_port: Callable[[], int]
) -> None:
    server: dict[str, Any] = {
        "certificate": certificates / "server.pem",
        "key": certificates / "server.key",
        "client_ca": certificates / "ca.pem",
    }
    shown = shutil.copy(certificates / "client.pem", tmp_path)
    client = {"ca": certificates / "ca.pem", "certificate": shown, "key": certificates / "client.key"}
    with _storescp_with_tls(tmp_path / "pacs", certificates, free_port()) as port:
        destination = {"name": "pacs", "ae_title": "PACS", "host": "localhost", "port": port, "tls": client}
        with NodeProcess(
            tmp_path / "node", service_url=service.url, destinations=[destination], tls=server | {"port": 0}
        ) as node:
            instance = radiograph()
            instance.save_as(tmp_path / "source.dcm", enforce_file_format=True)
            common = ("-aec", "SKIAGRAPH", "127.0.0.1", node.ports["dicom_tls"], tmp_path / "source.dcm")
            assert dcmtk("storescu", *common).returncode != 0  # plain to the TLS port
            assert dcmtk("storescu", "+tla", "-ic", *common).returncode != 0  # no certificate
            until(lambda: node.metric(REJECTED_HANDSHAKES) == 2)
            assert node.log().count("TLS handshake failed") == 2
            secured = ("+tls", certificates / "client.key", certificates / "client.pem")
            sent = dcmtk("storescu", *secured, "+cf", certificates / "ca.pem", *common)
            assert sent.returncode == 0, sent.stderr
            until(lambda: studies.list_studies(node.settings, state="delivered"))
            assert len(list((tmp_path / "pacs").iterdir())) == 2
            Path(shown).write_text("about to be replaced")  # read at the start, and only then
            radiograph().save_as(tmp_path / "source.dcm", enforce_file_format=True)
            assert dcmtk("storescu", *secured, "+cf", certificates / "ca.pem", *common).returncode == 0
            until(lambda: len(studies.list_studies(node.settings, state="delivered")) == 2)
            until(lambda: node.metric('skiagraph_peer_up{destination="pacs"}') == 1)


@contextmanager
def _storescp_with_tls(folder: Path, certificates: Path, port: int) -> Iterator[int]:
    """DCMTK's storescp, which asks for a certificate of the authority."""
    folder.mkdir()
    program = debian_program("storescp")
    assert program is not None
    secured = [
        "+tls",
        certificates / "server.key",
        certificates / "server.pem",
        "+cf",
        certificates / "ca.pem",
        "-rc",
    ]
    process = subprocess.Popen([program, *map(str, secured), "-od", str(folder), str(port)])
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.mark.debian("storescu")
def test_silent_peer_on_the_tls_port_keeps_nobody_waiting(tmp_path: Path, certificates: Path) -> None:
    tls = {"certificate": certificates / "server.pem", "key": certificates / "server.key", "port": 0}
    instance = radiograph()
    instance.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    with ExitStack() as stack:
        node = stack.enter_context(NodeProcess(tmp_path, tls=tls))
        port = node.ports["dicom_tls"]
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        started = time.monotonic()
        sent = dcmtk(
            "storescu", "+tla", "-ic", "-aec", "SKIAGRAPH", "127.0.0.1", port, tmp_path / "source.dcm"
        )
        assert sent.returncode == 0, sent.stderr
        assert time.monotonic() - started < 9  # the silent one has ten seconds


def test_every_ae_title_of_ours_answers_and_rules_tell_them_apart(tmp_path: Path) -> None:
    rules = [{"name": "second", "when": {"CalledAETitle": "SECOND"}, "drop": True}]
    with NodeProcess(tmp_path, other_ae_titles=["SECOND"], rules=rules) as node:
        instance = radiograph()
        assert send(node.port, [instance], called="SECOND") == [0]
        until(lambda: studies.list_studies(node.settings, state="dropped"))


def test_expected_views_and_force_end_the_waiting_and_urgent_studies_come_first(
    tmp_path: Path,
) -> None:
    rules = [
        {"name": "stat", "when": {"PatientID": "STAT*"}, "priority": 1},
        {"name": "hands", "when": {"ViewPosition": "PA"}, "expected_views": ["PA", "*O", "L*"]},
    ]
    with FakeService(tmp_path / "service") as service:
        service.behave(delay_seconds=4.0)  # longer than it takes to be told of both that wait
        with NodeProcess(
            tmp_path,
            service_url=service.url,
            rules=rules,
            scoring_concurrency=1,
            quiet_period_seconds=120,
            max_wait_seconds=240,
        ) as node:
            hand, other, urgent = generate_uid(), generate_uid(), generate_uid()
            views = [radiograph(hand, ViewPosition=view) for view in ("LL", "LLO", "PA")]
            send(node.port, [*views[:2], radiograph(other), radiograph(urgent, PatientID="STAT-1")])
            time.sleep(0.5)
            assert {one.state for one in studies.list_studies(node.settings)} == {"receiving"}
            send(node.port, views[2:])
            until(lambda: service.asked() == [hand])  # busy with it
            requests = [studies.force(node.settings, study) for study in (other, urgent)]
            until(lambda: len(service.answers()) == 3)
            assert service.asked() == [hand, urgent, other]
            assert [studies.outcome(node.settings, one) for one in requests] == ["revision 1"] * 2
            (revision,) = studies.show_study(node.settings, hand).revisions
            assert revision.revision.trigger == "expected_views"
            again = studies.force(node.settings, other)
            until(lambda: studies.outcome(node.settings, again) == "nothing is open")


@pytest.mark.debian("storescu")
def test_association_cut_in_mid_instance_leaves_nothing_behind(tmp_path: Path) -> None:
    with NodeProcess(tmp_path) as node:
        instance = radiograph(rows=1024)
        instance.save_as(tmp_path / "source.dcm", enforce_file_format=True)
        with _cutting_proxy(node.port, after_bytes=1_000_000) as port:
            cut = dcmtk("storescu", "-aec", "SKIAGRAPH", "127.0.0.1", port, tmp_path / "source.dcm")
            assert cut.returncode != 0
        until(lambda: not list((node.settings.folder / "spool" / "incoming").iterdir()))
        assert studies.list_studies(node.settings) == []
        until(lambda: node.metric("skiagraph_associations_active") == 0)
        assert (
            dcmtk("storescu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, tmp_path / "source.dcm").returncode
            == 0
        )


@contextmanager
def _cutting_proxy(target: int, *, after_bytes: int) -> Iterator[int]:
    """A line to the port `target` that breaks after so many bytes towards it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def forward() -> None:
        connection, _ = listening.accept()
        with connection, socket.create_connection(("127.0.0.1", target)) as onward:
            back = threading.Thread(target=_pump, args=(onward, connection), daemon=True)
            back.start()
            sent = 0
            while sent < after_bytes and (data := connection.recv(65536)):
                onward.sendall(data)
                sent += len(data)
            for end in (onward, connection):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        thread.join(timeout=10)
        listening.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


def test_garbage_on_the_port_does_no_harm(tmp_path: Path) -> None:
    draw = random.Random(7)
    with NodeProcess(tmp_path, network_timeout_seconds=2) as node:
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", node.port)) as connection:
                connection.sendall(draw.randbytes(draw.randrange(1, 200)))
        assert send(node.port, [radiograph()]) == [0]
        assert node.http("/readyz").status_code == 200


def test_what_is_delivered_and_old_leaves_the_spool_and_nothing_else(
    tmp_path: Path, service: FakeService
) -> None:
    rules = [{"name": "hold", "when": {"PatientID": "HOLD"}, "hold": True}]
    options: dict[str, Any] = {"service_url": service.url, "rules": rules}
    with NodeProcess(tmp_path, **options) as node:
        done, held = radiograph(), radiograph(PatientID="HOLD")
        send(node.port, [done, held])
        until(lambda: {one.state for one in studies.list_studies(node.settings)} == {"delivered", "held"})
        assert node.stop() == 0
    with NodeProcess(tmp_path, retention_days=0, **options) as node:
        received = node.settings.folder / "spool" / "received"
        until(lambda: [folder.name for folder in received.iterdir()] == [held.StudyInstanceUID])
        kinds = [event.kind for event in studies.show_study(node.settings, done.StudyInstanceUID).events]
        assert kinds[-1] == "purged"


@pytest.mark.debian("storescu")
def test_instance_that_outgrows_the_limit_is_cut_while_it_comes(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, max_instance_bytes=2_000_000) as node:
        radiograph(rows=2000).save_as(tmp_path / "large.dcm", enforce_file_format=True)  # 8 MB
        sending = ("storescu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, tmp_path / "large.dcm")
        assert dcmtk(*sending).returncode != 0
        until(lambda: "instance cut" in node.log())
        until(lambda: not list((node.settings.folder / "spool" / "incoming").iterdir()))
        assert send(node.port, [radiograph()]) == [0]
