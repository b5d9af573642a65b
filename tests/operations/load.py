"""200 studies, a PACS outage in the middle, and a real Prometheus: `python -m tests.operations.load`.

The short version is tests/operations/test_monitoring.py. Durations of the rules are divided by FACTOR.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import httpx
from pydicom.uid import generate_uid

from skiagraph.demo.product import running_product
from skiagraph.phantom import PhantomKind, as_dicom, draw
from tests.certificates import make_certificates
from tests.dicom_listener.peers import Pacs, send, until
from tests.operations import rules
from tests.operations.prometheus import Prometheus, running_prometheus

FACTOR: Final = 20
OUTAGE: Final = frozenset({"SkiagraphPeerDown", "SkiagraphOutboxStalled"})
PATIENCE_SECONDS: Final = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two studies (1)")
    arguments = parser.parse_args()
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="skiagraph-monitoring-") as folder, Pacs() as pacs:
        work = Path(folder)
        make_certificates(work)
        listener = {
            "quiet_period_seconds": 1.0,
            "reserve_bytes": 0,
            "destinations": [pacs.destination],
            "peers": [{"ae_title": "DX1"}],
            "rules": [{"name": "phantoms", "when": {"PatientID": "PHANTOM"}, "gate": False}],
            "retry": {"first_seconds": 1.0, "longest_seconds": 10.0},
            "peer_check_seconds": 2.0,
            "tls": {"port": 0, "certificate": f"{work}/server.pem", "key": f"{work}/server.key"},
        }
        (work / "alerts.yaml").write_text(
            rules.hurried(rules.ALERTS.read_text(), factor=FACTOR, outbox_factor=FACTOR)
        )
        with running_product(work / "product", listener=listener, log=work / "product.log") as product:
            ports = product.settings.listener.console_port, product.settings.service.port
            targets = dict(zip(("skiagraph-listener", "skiagraph-service"), ports, strict=True))
            with running_prometheus(
                work / "prometheus", rules=work / "alerts.yaml", targets=targets
            ) as prometheus:
                until(lambda: prometheus.value("sum(up)") == 2, seconds=60)
                httpx.get(f"http://127.0.0.1:{ports[1]}/no/such/path")  # a panel counts what goes wrong
                say(f"scraped; the rules' durations are divided by {FACTOR}")
                sender = Sender(product.settings.listener.port, arguments.studies, arguments.pause)
                until(lambda: sender.sent >= arguments.studies // 4, seconds=PATIENCE_SECONDS)
                pacs.stop()
                say(f"{sender.sent} studies sent; the PACS is away")
                until(lambda: prometheus.firing() >= OUTAGE, seconds=PATIENCE_SECONDS, every=1)
                say(f"{sender.sent} studies sent; firing: {sorted(prometheus.firing())}")
                pacs.start()
                until(lambda: not prometheus.firing() & OUTAGE, seconds=PATIENCE_SECONDS, every=1)
                say(f"{sender.sent} studies sent; resolved; still firing: {sorted(prometheus.firing())}")
                sender.join()
                _every_study_was_answered(prometheus, pacs, arguments.studies)
                say(f"{arguments.studies} studies answered")
                _every_panel_shows_something(prometheus)
                say(f"{len(rules.panel_queries())} queries of the dashboards return data")
                for job in targets:
                    worst = prometheus.value(
                        f'quantile_over_time(0.99, scrape_duration_seconds{{job="{job}"}}[30m])'
                    )
                    say(f"{job}: 99 of 100 scrapes took less than {worst or 0:.3f} s")


class Sender(threading.Thread):
    """One hand after the other, each a study of its own."""

    def __init__(self, port: int, studies: int, pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._port, self._studies, self._pause_seconds = port, studies, pause_seconds
        self.start()

    def run(self) -> None:
        phantom = draw(PhantomKind.PLAIN, seed=1, height=1024, width=768)
        while self.sent < self._studies:
            instance = as_dicom(phantom, study_instance_uid=generate_uid())
            assert send(self._port, [instance], calling="DX1") == [0]
            self.sent += 1
            time.sleep(self._pause_seconds)


def _every_study_was_answered(prometheus: Prometheus, pacs: Pacs, studies: int) -> None:
    until(
        lambda: prometheus.value("skiagraph_turnaround_seconds_count") == studies,
        seconds=PATIENCE_SECONDS,
        every=1,
    )
    assert prometheus.value("skiagraph_dead_letter_studies") == 0
    assert len({str(one.StudyInstanceUID) for one in list(pacs.datasets.values())}) == studies


def _every_panel_shows_something(prometheus: Prometheus) -> None:
    empty = [
        title
        for title, expression in rules.panel_queries()
        if not prometheus.shows_something(expression, interval="30m")
    ]
    assert not empty, f"these panels show nothing: {empty}"


if __name__ == "__main__":
    main()
