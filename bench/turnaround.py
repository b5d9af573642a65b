"""Time from the end of the quiet period to the last object accepted by the PACS, by stage: `make bench`."""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import pydicom
from pydicom.dataset import Dataset

from dicom_listener.ledger.overview import StudyHistory
from skiagraph.demo import pacs as receiving
from skiagraph.demo.product import Product, running_product
from skiagraph.demo.run import wait_for_answers
from skiagraph.demo.send import send
from skiagraph.demo.studies import DemoStudy
from skiagraph.errors import FailedError
from skiagraph.phantom import PhantomKind, as_dicom, draw

REPOSITORY: Final = Path(__file__).resolve().parent.parent
TARGET_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 0.5
TOTAL: Final = "end of quiet period to last object accepted"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12, help="timed runs after one that warms up (12)")
    arguments = parser.parse_args()
    what, instance = radiograph()
    print(f"{what}; {arguments.runs} runs on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skiagraph-bench-")))
        pacs = stack.enter_context(receiving.start_pacs(work))
        destination = {"name": "pacs", "ae_title": receiving.AE_TITLE, "host": "127.0.0.1", "port": pacs.port}
        listener = {"quiet_period_seconds": QUIET_SECONDS, "reserve_bytes": 0, "destinations": [destination]}
        log = work / "skiagraph.log"
        product = stack.enter_context(running_product(work / "product", listener=listener, log=log))
        print(f"PACS: {pacs.name}")
        once(product, instance)
        runs = []
        for number in range(arguments.runs):
            runs.append(stages(once(product, instance)))
            print(f"  run {number + 1:2}: {runs[-1][TOTAL]:.3f} s")
    report(runs)


def radiograph() -> tuple[str, Dataset]:
    """The Kodak hand of the shared data; where that is absent, a phantom of its size."""
    data = Path(os.environ.get("SKIAGRAPH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    hand = data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    if hand.is_file():
        return "the Kodak hand, 2500×2048, JPEG 2000 lossless", pydicom.dcmread(hand)
    return "a phantom, 2500×2048, uncompressed", as_dicom(
        draw(PhantomKind.PLAIN, seed=1, width=2048, height=2500)
    )


def once(product: Product, instance: Dataset) -> StudyHistory:
    """Send the radiograph as a study of its own and wait for the end of its story."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(instance, keyword, f"2.25.{uuid4().int}")
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    study = DemoStudy(name="bench", study_instance_uid=instance.StudyInstanceUID, instances=[instance])
    listener = product.settings.listener
    problem = send(study, host="127.0.0.1", port=listener.port, called=listener.ae_title)
    if problem:
        raise FailedError(f"the radiograph could not be sent: {problem}")
    ((_, history),) = wait_for_answers([study], listener)
    if history is None or history.summary.state != "delivered" or len(history.revisions[-1].objects) < 2:
        raise FailedError(
            f"no report and heatmap came back: {history.summary if history else 'unknown study'}"
        )
    return history


def stages(history: StudyHistory) -> dict[str, float]:
    """Seconds by stage, from the ledger's own events and the service's own clock."""
    at = {event.kind: event.at for event in history.events if event.kind != "object_accepted"}
    accepted = [event.at for event in history.events if event.kind == "object_accepted"]
    quiet_end = at["instance_received"] + timedelta(seconds=QUIET_SECONDS)
    result = history.revisions[-1].result or {}
    return {
        "waking up": (at["revision_cut"] - quiet_end).total_seconds(),
        "service, whole answer": (at["revision_scored"] - at["revision_cut"]).total_seconds(),
        **dict(_service_stages(result.get("stage_seconds", {}))),
        "first object accepted": (accepted[0] - at["revision_scored"]).total_seconds(),
        "further objects accepted": (accepted[-1] - accepted[0]).total_seconds(),
        TOTAL: (accepted[-1] - quiet_end).total_seconds(),
    }


def _service_stages(seconds: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name, value in seconds.items():
        yield f"  of it: {name}", value


def report(runs: list[dict[str, float]]) -> None:
    print(f"\n{'stage':46} {'p50':>7} {'p90':>7}  seconds")
    for stage in runs[0]:
        values = [run[stage] for run in runs]
        p90 = statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        print(f"{stage:46} {statistics.median(values):7.3f} {p90:7.3f}")
    p50 = statistics.median(run[TOTAL] for run in runs)
    print(
        f"\np50 {p50:.2f} s: target of {TARGET_SECONDS:.0f} s {'met' if p50 <= TARGET_SECONDS else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
