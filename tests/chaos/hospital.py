"""What surrounds a node, all of it real and able to fail: a PACS, a clock, a cable, modalities with DCMTK."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import httpx
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from skiagraph.demo.ports import free_ports
from tests.dicom_listener.peers import NodeProcess, _plain, radiograph, until

ORTHANC, STORESCU = "/usr/sbin/Orthanc", "/usr/bin/storescu"
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)

# libfaketime makes the clock_nanosleep of time.sleep fail where the monotonic clock is left alone.
_RUN = """
import select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
from pathlib import Path
from tests.dicom_listener.run_node import main
main(sys.argv[1], Path(sys.argv[2]))
"""


class OrthancPacs:
    """Orthanc with a store that outlives its process; its files are synced, as a PACS that lasts does."""

    def __init__(self, folder: Path) -> None:
        self.port, http_port = free_ports(2)
        self._url = f"http://127.0.0.1:{http_port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        folder.mkdir()
        configuration = {
            "DicomAet": "PACS",
            "DicomPort": self.port,
            "HttpPort": http_port,
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "SyncStorageArea": True,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False,
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))

    def start(self) -> "OrthancPacs":
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([ORTHANC, self._folder / "orthanc.json"], stdout=log, stderr=log)
        until(self._answers, seconds=40)
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self._url}/system").is_success
        return False

    def datasets(self) -> dict[str, list[Dataset]]:
        """Everything it holds, by study."""
        found: dict[str, list[Dataset]] = defaultdict(list)
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for identifier in http.get("/instances").raise_for_status().json():
                content = http.get(f"/instances/{identifier}/file").raise_for_status().content
                dataset = dcmread(BytesIO(content))
                found[str(dataset.StudyInstanceUID)].append(dataset)
        return found

    @property
    def destination(self) -> dict[str, object]:
        return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port}

    def __enter__(self) -> "OrthancPacs":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.kill()


class ClockedNode(NodeProcess):
    """A node whose wall clock can be set while it runs, where libfaketime is installed."""

    _program: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        environment = dict(os.environ)
        if FAKETIME is not None:
            self.set_clock(0)
            environment |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self._program = subprocess.Popen(
            [sys.executable, "-c", _RUN, _plain(self.settings), self._log], env=environment
        )

    def start(self) -> "ClockedNode":
        (self.settings.folder / "ports.json").unlink(missing_ok=True)
        self.spawn()
        until(self._ports_or_failure, seconds=120)
        return self

    @property
    def _clock(self) -> Path:
        return self._log.with_name("clock")

    def set_clock(self, offset_seconds: int) -> None:
        new = self._clock.with_suffix(".new")
        new.write_text(f"{offset_seconds:+d}")
        new.replace(self._clock)

    def running(self) -> bool:
        return self._program is not None and self._program.poll() is None

    def kill(self) -> None:
        if self._program is not None and self.running():
            with suppress(ProcessLookupError):
                os.killpg(self._program.pid, signal.SIGKILL)
            self._program.kill()
            self._program.wait()

    def stop(self) -> int | None:
        assert self._program is not None
        self._program.terminate()
        return self._program.wait(timeout=30)


class Cable:
    """A TCP relay to the node that is sometimes slow and sometimes cut in the middle of an instance."""

    def __init__(self, to_port: int, seed: int) -> None:
        self._to_port, self._draw = to_port, random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.cut = self.slow = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            kind = self._draw.random()
            cut_after = self._draw.randrange(200, 40_000) if kind < 0.15 else None
            pause = 0.02 if 0.15 <= kind < 0.25 else 0.0
            self.slow += pause > 0
            try:
                far = socket.create_connection(("127.0.0.1", self._to_port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            threading.Thread(target=self._relay, args=(near, far, cut_after, pause), daemon=True).start()
            threading.Thread(target=self._relay, args=(far, near, None, 0.0), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, cut_after: int | None, pause: float) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(2048 if pause else 16384):
                passed += len(data)
                if cut_after is not None and passed > cut_after:
                    self.cut += 1
                    break
                time.sleep(pause)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Modality(threading.Thread):
    """Sends studies with storescu, and sends again whatever was not acknowledged."""

    def __init__(self, port: int, folder: Path, studies: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._port, self._folder, self._studies = port, folder, studies
        self._draw = random.Random(seed)
        self.acknowledged: dict[str, set[str]] = defaultdict(set)
        self.attempts = self.sent_twice = self.late = 0
        self.give_up = False

    def run(self) -> None:
        for _ in range(self._studies):
            study = generate_uid()
            instances = [radiograph(study, seed=self._draw.randrange(1000), rows=128) for _ in range(3)]
            instances = instances[: self._draw.randint(1, 3)]
            paths = []
            for instance in instances:
                paths.append(self._folder / f"{instance.SOPInstanceUID}.dcm")
                instance.save_as(paths[-1], enforce_file_format=True)
            if len(paths) > 1 and self._draw.random() < 0.2:
                self._send(study, paths[:-1])
                time.sleep(self._draw.uniform(0.5, 3.0))
                self.late += 1
                paths = paths[-1:]
            self._send(study, paths)
            if self._draw.random() < 0.15:
                self._send(study, paths)
                self.sent_twice += 1
            time.sleep(self._draw.uniform(0.0, 0.4))

    def _send(self, study: str, paths: list[Path]) -> None:
        waiting = {path.stem for path in paths}
        while waiting and not self.give_up:
            self.attempts += 1
            command = [STORESCU, "-v", "-to", "5", "-ta", "5", "-td", "15", "-aec", "SKIAGRAPH"]
            files = [str(self._folder / f"{uid}.dcm") for uid in sorted(waiting)]
            sent = subprocess.run(
                [*command, "127.0.0.1", str(self._port), *files], capture_output=True, text=True, check=False
            )
            current = ""
            for line in (sent.stdout + sent.stderr).splitlines():
                if "Sending file: " in line:
                    current = Path(line.split("Sending file: ")[1].strip()).stem
                elif "Received Store Response (Success)" in line:
                    waiting.discard(current)
                    self.acknowledged[study].add(current)
            if waiting:
                time.sleep(0.5)


def half_open(port: int, draw: random.Random) -> socket.socket | None:
    """A peer that connects, begins to speak or does not, and is never heard of again."""
    try:
        peer = socket.create_connection(("127.0.0.1", port), timeout=1)
        peer.sendall(draw.choice([b"", b"\x01\x00\x00\x00\x01", b"\x01\x00\x00\x00\x02\x00\x00\x01"]))
    except OSError:
        return None
    return peer
