"""A receiving PACS: Orthanc where it is installed, else a small store SCP. What it has becomes files."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from skiagraph.demo.ports import free_ports
from skiagraph.errors import FailedError
from skiagraph.processes import stop

AE_TITLE: Final = "DEMOPACS"
_DEBIAN_PATH: Final = "/usr/bin:/usr/sbin:/usr/local/bin"
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0
_VERIFICATION: Final = "1.2.840.10008.1.1"


class Pacs(Protocol):
    """Where results are sent. name: for people."""

    name: str
    port: int

    def fetch(self, folder: Path) -> list[Path]:
        """Write what was received below `folder`, as `<SOP Instance UID>.dcm`; returns all the paths."""
        ...


@contextmanager
def start_pacs(work: Path) -> Iterator[Pacs]:
    """The best PACS this machine has, with its data below `work`; it is stopped at the end."""
    program = shutil.which("Orthanc", path=_DEBIAN_PATH)
    with orthanc(program, work) if program else store_scp(work) as pacs:
        yield pacs


class Orthanc:
    name = "Orthanc"

    def __init__(self, *, port: int, http_port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{http_port}"
        self._http = httpx.Client(base_url=self.url, timeout=30)

    def instances(self) -> list[str]:
        """Orthanc's own identifiers of all instances."""
        found: list[str] = self._http.get("/instances").raise_for_status().json()
        return found

    def fetch(self, folder: Path) -> list[Path]:
        paths: list[Path] = []
        for identifier in self.instances():
            tags: dict[str, Any] = (
                self._http.get(f"/instances/{identifier}/simplified-tags").raise_for_status().json()
            )
            path = folder / f"{tags['SOPInstanceUID']}.dcm"
            if not path.exists():
                path.write_bytes(self._http.get(f"/instances/{identifier}/file").raise_for_status().content)
            paths.append(path)
        return paths

    def running(self) -> bool:
        try:
            return self._http.get("/system").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()


@contextmanager
def orthanc(program: str, work: Path, *, port: int | None = None, **options: object) -> Iterator[Orthanc]:
    """A private Orthanc on ports of its own, with an empty (or its former) store below `work`.

    options: further keys of its configuration.
    """
    folder = work / "orthanc"
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = free_ports(2)
    pacs = Orthanc(port=port or dicom_port, http_port=http_port)
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": AE_TITLE,
                "DicomAet": AE_TITLE,
                "DicomPort": pacs.port,
                "HttpPort": http_port,
                "StorageDirectory": str(folder / "store"),
                "IndexDirectory": str(folder / "store"),
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAlwaysAllowStore": True,
                "DicomAlwaysAllowEcho": True,
                "DicomCheckCalledAet": False,
                **options,
            }
        )
    )
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(configuration)], stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not pacs.running():
            if process.poll() is not None or time.monotonic() > deadline:
                raise FailedError(f"Orthanc did not start; {log.name} says why")
            time.sleep(0.05)
        yield pacs
    finally:
        pacs.close()
        stop(process, deadline_seconds=_STOP_SECONDS)


class StoreScp:
    name = "a small store SCP (Orthanc is not installed)"

    def __init__(self, *, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder

    def fetch(self, folder: Path) -> list[Path]:
        stored = sorted(self._folder.glob("*.dcm"))
        return [Path(shutil.copy2(path, folder / path.name)) for path in stored]


@contextmanager
def store_scp(work: Path) -> Iterator[StoreScp]:
    """Takes every Storage SOP class and Verification, and keeps each instance as a file below `work`."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    folder = work / "store"
    folder.mkdir(parents=True, exist_ok=True)

    def store(event: Any) -> int:
        path = folder / Path(f"{event.request.AffectedSOPInstanceUID}.dcm").name
        part = path.with_suffix(".part")
        part.write_bytes(event.encoded_dataset())
        part.replace(path)
        return 0x0000

    entity = AE(ae_title=AE_TITLE)
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(_VERIFICATION)
    handlers: list[Any] = [(evt.EVT_C_STORE, store)]
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield StoreScp(port=int(server.server_address[1]), folder=folder)
    finally:
        server.shutdown()
