"""How fast instances are received, beside DCMTK's storescp and Orthanc: `python -m bench.intake [--quick]`.

The sender is DCMTK's storescu for all three. Ours fsyncs file, directory and ledger before it answers;
storescp (+B: bytes as they come) does not, and Orthanc runs with its defaults. On a busy machine compare
within one run only.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from dicom_listener import node
from skiagraph.demo.pacs import orthanc
from skiagraph.demo.ports import free_ports
from skiagraph.settings.listener import ListenerSettings

_STORESCU, _STORESCP, _ORTHANC = "/usr/bin/storescu", "/usr/bin/storescp", "/usr/sbin/Orthanc"
_PDU = "131072"
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Receiver:
    name: str
    port: int
    pids: Callable[[], list[int]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """rows: the side of a square 16-bit image."""

    name: str
    rows: int
    count: int
    associations: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    seconds: float
    refused: int
    most_pss_bytes: int


def make(folder: Path, rows: int, count: int) -> list[Path]:
    """DX instances of one study, with noise for pixels."""
    folder.mkdir(parents=True)
    study, series, paths = generate_uid(), generate_uid(), []
    pixels = np.random.default_rng(0).integers(0, 4096, (rows, rows), dtype=np.uint16).tobytes()
    for number in range(count):
        meta = FileMetaDataset()
        data = FileDataset(
            "", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True
        )
        data.SOPClassUID = meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = study, series, "DX"
        data.PatientID = data.PatientName = "BENCH"
        data.Rows = data.Columns = rows
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelData = pixels
        paths.append(folder / f"{number}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def measure(receiver: Receiver, paths: list[Path], associations: int) -> Measured:
    """Send all files over so many associations at once."""
    shares = [paths[number::associations] for number in range(associations)]
    over, most = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.1):
            most[0] = max(most[0], sum(_pss(pid) for pid in receiver.pids()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    senders = [
        subprocess.Popen(
            [
                _STORESCU,
                "--max-send-pdu",
                _PDU,
                "-pdu",
                _PDU,
                "-aec",
                "SKIAGRAPH",
                "127.0.0.1",
                str(receiver.port),
            ]
            + [str(path) for path in share],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for share in shares
        if share
    ]
    refused = sum(sender.wait() != 0 for sender in senders)
    seconds = time.monotonic() - started
    over.set()
    watcher.join()
    return Measured(seconds=seconds, refused=refused, most_pss_bytes=most[0])


@contextmanager
def ours(folder: Path) -> Iterator[Receiver]:
    settings = ListenerSettings(
        folder=folder / "var",
        port=0,
        console_port=0,
        reserve_bytes=0,
        quiet_period_seconds=3600,
        max_wait_seconds=7200,
        max_associations=64,
    )
    process = multiprocessing.get_context("spawn").Process(target=node.run, args=(settings,))
    process.start()
    ports = settings.folder / node.PORTS_FILE
    while not ports.exists():
        time.sleep(0.1)
        if not process.is_alive():
            sys.exit("the node did not start")
    port = int(re.findall(r'"dicom": (\d+)', ports.read_text())[0])
    try:
        yield Receiver(name="skiagraph", port=port, pids=lambda: [process.pid or 0])
    finally:
        process.terminate()
        process.join()


@contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    folder.mkdir()
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [_STORESCP, "--fork", "+B", "-pdu", _PDU, "-od", str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(0.5)
    try:
        yield Receiver(name="storescp +B", port=port, pids=lambda: [process.pid])
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def run(cases: list[Case], work: Path) -> None:
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; PSS of the receiving process")
    print(_line("case", "receiver", "seconds", "MB/s", "inst/s", "refused", "PSS MB", "÷ ours"))
    with ExitStack() as stack:
        receivers = [stack.enter_context(ours(work / "ours"))]
        if Path(_STORESCP).exists():
            receivers.append(stack.enter_context(storescp(work / "storescp")))
        if Path(_ORTHANC).exists():
            pacs = stack.enter_context(orthanc(_ORTHANC, work))
            receivers.append(Receiver(name="Orthanc", port=pacs.port, pids=list))
        for number, case in enumerate(cases):
            first = 0.0
            for receiver in receivers:
                # Files of their own for each: nobody is sent what it has seen.
                paths = make(work / f"{number}-{receiver.name[:4]}", case.rows, case.count)
                megabytes = sum(path.stat().st_size for path in paths) / _MEBIBYTE
                seen = measure(receiver, paths, case.associations)
                first = first or seen.seconds
                print(
                    _line(
                        case.name,
                        receiver.name,
                        f"{seen.seconds:.2f}",
                        f"{megabytes / seen.seconds:.1f}",
                        f"{case.count / seen.seconds:.1f}",
                        seen.refused,
                        f"{seen.most_pss_bytes / _MEBIBYTE:.0f}",
                        f"{seen.seconds / first:.2f}",
                    ),
                    flush=True,
                )
                shutil.rmtree(paths[0].parent)


def _line(case: str, receiver: str, *figures: object) -> str:
    return f"{case:14} {receiver:14}" + "".join(f"{figure!s:>9}" for figure in figures)


def _pss(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) * 1024 if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the bytes")
    share = 10 if parser.parse_args().quick else 1
    cases = [
        Case(
            name=f"{label} × {associations}",
            rows=rows,
            count=max(16, count // share),
            associations=associations,
        )
        for label, rows, count in (("10 MB", 2290, 100), ("0.5 MB", 512, 800))
        for associations in (1, 4, 16)
    ]
    for program in (_STORESCU,):
        if not Path(program).exists():
            sys.exit(f"{program} is missing: apt-get install dcmtk")
    with tempfile.TemporaryDirectory(prefix="skiagraph-intake-") as folder:
        run(cases, Path(folder))


if __name__ == "__main__":
    main()
