"""Real peers of a node: the node itself as a process, a sender, a receiving PACS, the service's stand-in."""

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from skiagraph.settings.listener import ListenerSettings
from tests.dicom_listener import fake_service, run_node

REPOSITORY = Path(__file__).resolve().parents[2]
_T = TypeVar("_T")


def until(what: Callable[[], _T], *, seconds: float = 60.0, every: float = 0.05) -> _T:
    """Wait for something to become true; fails with what it was at the end."""
    deadline = time.monotonic() + seconds
    while True:
        seen = what()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"still {seen!r} after {seconds} s"
        time.sleep(every)


def radiograph(
    study: str | None = None, *, seed: int = 0, rows: int = 64, **attributes: object
) -> FileDataset:
    """A small DX instance; every call makes a new SOP Instance UID unless one is given."""
    meta = FileMetaDataset()
    dataset = FileDataset(
        "", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True
    )
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "DX"
    dataset.PatientID = dataset.PatientName = "SYNTHETIC"
    dataset.Rows = dataset.Columns = rows
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    noise = np.random.default_rng(seed).integers(0, 4096, (rows, rows), dtype=np.uint16)
    dataset.PixelData = noise.tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def send(
    port: int, datasets: Iterable[Dataset | Path], *, called: str = "SKIAGRAPH", calling: str = "MODALITY"
) -> list[int]:
    """Send instances over one association with pynetdicom; the statuses, in order."""
    items = [dcmread(item) if isinstance(item, Path) else item for item in datasets]
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = 30
    for sop_class, syntax in dict.fromkeys(
        (item.SOPClassUID, item.file_meta.TransferSyntaxUID) for item in items
    ):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    assert association.is_established, "the association was not accepted"
    try:
        return [int(association.send_c_store(item).Status) for item in items]
    finally:
        association.release()


class NodeProcess:
    """A node in a process group of its own, so that it can be killed like a machine that loses power."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = ListenerSettings.model_validate(
            {
                "folder": folder / "var",
                "port": 0,
                "console_port": 0,
                "quiet_period_seconds": 0.3,
                "reserve_bytes": 0,
                "peer_check_seconds": 0.5,
                "drain_seconds": 5.0,
                "retry": {"first_seconds": 0.3, "longest_seconds": 2.0},
                **settings,
            }
        )
        self._log = folder / "node.log"
        self._process: ForkServerProcess | None = None

    def start(self) -> "NodeProcess":
        (self.settings.folder / "ports.json").unlink(missing_ok=True)
        self.spawn()
        until(self._ports_or_failure, seconds=40)
        return self

    def spawn(self) -> None:
        """Start the process without waiting for it to listen."""
        self._process = run_node.processes.Process(
            target=run_node.main, args=(_plain(self.settings), self._log), daemon=True
        )
        self._process.start()

    def _ports_or_failure(self) -> bool:
        assert self.running(), self.log()[-3000:]
        return (self.settings.folder / "ports.json").exists()

    @property
    def ports(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.settings.folder / "ports.json").read_text())
        return found

    @property
    def port(self) -> int:
        return self.ports["dicom"]

    def http(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports['console']}{path}", timeout=10)

    def metric(self, sample: str) -> float:
        """The value of one sample, written as in the exposition format."""
        for line in self.http("/metrics").text.splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {sample}")

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def running(self) -> bool:
        return self._process is not None and self._process.exitcode is None

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode if self._process is not None else None

    def kill(self) -> None:
        """SIGKILL to the whole process group."""
        if self._process is not None and self._process.pid is not None and self.running():
            with suppress(ProcessLookupError):  # killed before it has made its group
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()

    def stop(self) -> int | None:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        self._process.join(timeout=30)
        return self._process.exitcode

    def __enter__(self) -> "NodeProcess":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.kill()


class Pacs:
    """A receiving store SCP that remembers the digest of every data set it was ever sent.

    before_answer: called with the number of the C-STORE (from 0) before it is answered; may return a status.
    """

    def __init__(self, port: int = 0, before_answer: Callable[[int], int | None] | None = None) -> None:
        self.port = port
        self.received: list[tuple[str, str]] = []  # SOP Instance UID, sha256 of the data set, in order
        self.datasets: dict[str, Dataset] = {}
        self._before_answer = before_answer
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self) -> Self:
        entity = AE(ae_title="PACS")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        entity.add_supported_context("1.2.840.10008.5.1.4.1.1.88.34", ALL_TRANSFER_SYNTAXES)
        entity.add_supported_context(Verification)
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = int(self._server.server_address[1])
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None

    def _store(self, event: Any) -> int:
        content = event.encoded_dataset(include_meta=False)
        with self._lock:
            number = len(self.received)
            uid = str(event.request.AffectedSOPInstanceUID)
            self.received.append((uid, hashlib.sha256(content).hexdigest()))
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.datasets[uid] = dataset
        status = self._before_answer(number) if self._before_answer else None
        return 0x0000 if status is None else status

    @property
    def destination(self) -> dict[str, object]:
        return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port}

    def reports(self, study: str) -> list[Dataset]:
        return [
            one for one in self.datasets.values() if one.StudyInstanceUID == study and one.Modality == "SR"
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


class FakeService:
    """`fake_service.serve` as a process; the port stays the same after `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process: ForkServerProcess | None = None

    def start(self) -> "FakeService":
        self._process = run_node.processes.Process(
            target=fake_service.serve, args=(self.folder,), daemon=True
        )
        self._process.start()
        until(self._answers, seconds=40)
        return self

    def _answers(self) -> bool:
        if not (self.folder / "port").exists():
            return False
        try:
            return httpx.get(self.url).status_code == 404
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{(self.folder / 'port').read_text()}"

    def behave(self, **behaviour: object) -> None:
        temporary = self.folder / "behaviour.new"
        temporary.write_text(json.dumps(behaviour))
        temporary.replace(self.folder / "behaviour.json")

    def asked(self) -> list[str]:
        """The Study Instance UID of each question so far."""
        asked = self.folder / "asked"
        return asked.read_text().splitlines() if asked.exists() else []

    def answers(self) -> list[dict[str, Any]]:
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def __enter__(self) -> "FakeService":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


def _plain(settings: ListenerSettings) -> str:
    return json.dumps(
        settings.model_dump(mode="json", exclude={"database_url", "service_token"})
        | {
            key: secret.get_secret_value()
            for key in ("database_url", "service_token")
            if (secret := getattr(settings, key)) is not None
        }
    )
