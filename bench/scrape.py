"""What a scrape of each half costs, idle and while studies come in: `python -m bench.scrape`.

The limit is on a scrape under load, seen by a client on the same machine, waiting included.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx
from pydicom.uid import generate_uid

from skiagraph.demo import pacs as receiving
from skiagraph.demo.product import running_product
from skiagraph.demo.send import send
from skiagraph.demo.studies import DemoStudy
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings.listener import ListenerSettings

LIMIT_SECONDS: Final = 0.05
PAUSE_SECONDS: Final = 0.1
PAUSE_BETWEEN_STUDIES_SECONDS: Final = 0.5


def main() -> int:
    """Print the percentiles; 1 when the median under load is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each phase (30)")
    parser.add_argument("--senders", type=int, default=2, help="studies that come in at once (2)")
    arguments = parser.parse_args()
    slow = False
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skiagraph-bench-")))
        pacs = stack.enter_context(receiving.store_scp(work))
        listener = {
            "quiet_period_seconds": 0.5,
            "reserve_bytes": 0,
            "destinations": [
                {"name": "pacs", "ae_title": receiving.AE_TITLE, "host": "127.0.0.1", "port": pacs.port}
            ],
        }
        product = stack.enter_context(
            running_product(work / "product", listener=listener, log=work / "skiagraph.log")
        )
        settings = product.settings
        ports = {"listener": settings.listener.console_port, "service": settings.service.port}
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for phase, senders in (("idle", 0), ("under load", arguments.senders)):
            load = Load(settings.listener, senders)
            try:
                taken = _scrape(ports, arguments.seconds)
            finally:
                load.stop()
            for name, seconds in taken.items():
                cuts = statistics.quantiles(seconds, n=100)
                print(
                    f"{name:9} {phase:11} {len(seconds):4} scrapes"
                    f"  p50 {cuts[49] * 1000:6.1f} ms  p99 {cuts[98] * 1000:6.1f} ms"
                    + (f"  ({load.sent} studies sent)" if senders else "")
                )
                slow |= bool(senders) and cuts[49] > LIMIT_SECONDS
    return int(slow)


class Load:
    """So many senders, each with one study after the other, until `stop`."""

    def __init__(self, listener: ListenerSettings, senders: int) -> None:
        self.sent = 0
        self._listener = listener
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        phantom = draw(PhantomKind.PLAIN, seed=1)
        while not self._stopping.is_set():
            uid = generate_uid()
            study = DemoStudy(
                name="load", study_instance_uid=uid, instances=[as_dicom(phantom, study_instance_uid=uid)]
            )
            problem = send(study, host="127.0.0.1", port=self._listener.port, called=self._listener.ae_title)
            if problem:
                raise RuntimeError(problem)
            self.sent += 1
            self._stopping.wait(PAUSE_BETWEEN_STUDIES_SECONDS)


def _scrape(ports: dict[str, int], seconds: float) -> dict[str, list[float]]:
    """Seconds of each scrape, the halves taking turns; connections last, as Prometheus' do."""
    taken: dict[str, list[float]] = {name: [] for name in ports}
    end = time.monotonic() + seconds
    with httpx.Client(timeout=10) as http:
        while time.monotonic() < end:
            for name, port in ports.items():
                begin = time.perf_counter()
                http.get(f"http://127.0.0.1:{port}/metrics").raise_for_status()
                taken[name].append(time.perf_counter() - begin)
            time.sleep(PAUSE_SECONDS)
    return taken


if __name__ == "__main__":
    raise SystemExit(main())
