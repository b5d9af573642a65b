"""How fast instances are received, beside DCMTK's storescp and Orthanc: `python -m bench.intake [--quick]`.

The sender is DCMTK's storescu for all three. Ours fsyncs file, directory and ledger before it answers;
storescp (+B: bytes as they come, as we keep them) never calls fsync, and Orthanc runs with its defaults (its
index is synced, its files are not). The receivers take turns, and the ratios are of one turn's times. Then
2 GB arrive over four associations, and the memory of the node is watched.
"""

import argparse
import json
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
from statistics import median

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
    """metrics: the address of a scrape, where there is one."""

    name: str
    port: int
    pids: Callable[[], list[int]]
    metrics: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """rows: the side of a square 16-bit image."""

    name: str
    rows: int
    count: int
    associations: int

    @property
    def megabytes(self) -> float:
        return self.count * self.rows**2 * 2 / _MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Measured:
    """pss_bytes: of the receiver, ten times a second."""

    seconds: float
    refused: int
    pss_bytes: list[int]


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
    over, seen = threading.Event(), [sum(map(_pss, receiver.pids()))]

    def watch() -> None:
        while not over.wait(0.1):
            seen.append(sum(map(_pss, receiver.pids())))

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
    return Measured(seconds=seconds, refused=refused, pss_bytes=seen)


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
        time.sleep(0.02)
        if not process.is_alive():
            sys.exit("the node did not start")
    found = json.loads(ports.read_text())
    try:
        yield Receiver(
            name="skiagraph",
            port=found["dicom"],
            pids=lambda: [process.pid or 0],
            metrics=f"http://127.0.0.1:{found['console']}/metrics",
        )
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


def run(cases: list[Case], work: Path, *, turns: int, large: Case) -> None:
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {turns} turns")
    with ExitStack() as stack:
        receivers = [stack.enter_context(ours(work / "ours"))]
        if Path(_STORESCP).exists():
            receivers.append(stack.enter_context(storescp(work / "storescp")))
        if Path(_ORTHANC).exists():
            pacs = stack.enter_context(orthanc(_ORTHANC, work))
            receivers.append(Receiver(name="Orthanc", port=pacs.port, pids=list))
        print(_line("case", "receiver", "seconds", "MB/s", "inst/s", "refused", "PSS MB", "÷ ours"))
        for case in cases:
            measured: list[list[Measured]] = [[] for _ in receivers]
            for _ in range(turns):
                for receiver, into in zip(receivers, measured, strict=True):
                    into.append(_sent(receiver, case, work / "sent"))
            ours_seconds = [one.seconds for one in measured[0]]
            for receiver, seen in zip(receivers, measured, strict=True):
                seconds = median(one.seconds for one in seen)
                ratio = median(one.seconds / mine for one, mine in zip(seen, ours_seconds, strict=True))
                print(
                    _line(
                        case.name,
                        receiver.name,
                        f"{seconds:.2f}",
                        f"{case.megabytes / seconds:.1f}",
                        f"{case.count / seconds:.1f}",
                        sum(one.refused for one in seen),
                        f"{max(max(one.pss_bytes) for one in seen) / _MEBIBYTE:.0f}",
                        f"{ratio:.2f}",
                    ),
                    flush=True,
                )
        _watch_memory(receivers[0], large, work / "sent")


def _sent(receiver: Receiver, case: Case, folder: Path) -> Measured:
    """Files of their own each time: nobody is sent what it has seen."""
    paths = make(folder, case.rows, case.count)
    os.sync()  # nobody pays for what another has left in the page cache
    try:
        return measure(receiver, paths, case.associations)
    finally:
        shutil.rmtree(folder)


def _watch_memory(receiver: Receiver, case: Case, folder: Path) -> None:
    seen = _sent(receiver, case, folder)
    quarter = max(1, len(seen.pss_bytes) // 4)
    first, last = max(seen.pss_bytes[:quarter]), max(seen.pss_bytes[-quarter:])
    print(
        f"{case.megabytes / 1024:.1f} GB in {seen.seconds:.1f} s, {seen.refused} senders refused: PSS at most"
        f" {max(seen.pss_bytes) / _MEBIBYTE:.0f} MB, {first / _MEBIBYTE:.0f} MB in the first quarter and"
        f" {last / _MEBIBYTE:.0f} MB in the last"
    )


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
    parser.add_argument("--quick", action="store_true", help="a tenth of the bytes, one turn")
    quick = parser.parse_args().quick
    share = 10 if quick else 1
    cases = [
        Case(
            name=f"{label} × {associations}",
            rows=rows,
            count=max(16, count // share),
            associations=associations,
        )
        for label, rows, count in (("10 MB", 2290, 50), ("0.5 MB", 512, 400))
        for associations in (1, 4, 16)
    ]
    if not Path(_STORESCU).exists():
        sys.exit(f"{_STORESCU} is missing: apt-get install dcmtk")
    with tempfile.TemporaryDirectory(prefix="skiagraph-intake-") as folder:
        large = Case(name="2 GB", rows=2290, count=205 // share, associations=4)
        run(cases, Path(folder), turns=1 if quick else 3, large=large)


if __name__ == "__main__":
    main()
