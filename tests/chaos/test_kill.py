"""kill -9 of the node's process group at random moments: nothing acknowledged is lost or reported twice.

Now and then the service is killed with it, or the PACS goes away for a while.

8 kills by default; `make chaos` asks for more through SKIAGRAPH_CHAOS_KILLS.
"""

import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_listener import studies
from dicom_listener.ledger.overview import StudyHistory
from tests.chaos.sender import Sender
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, until

KILLS = int(os.environ.get("SKIAGRAPH_CHAOS_KILLS", "8"))
SEED = int(os.environ.get("SKIAGRAPH_CHAOS_SEED", "20260701"))


MOMENTS = (
    "while it starts",
    "when an object arrives at the PACS",
    "at random",
    "with the service",
    "at random",
    "while the PACS is away",
)


class Trap:
    """Kills the node at the moment something happens elsewhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._action: Callable[[], None] | None = None

    def set(self, action: Callable[[], None] | None) -> None:
        with self._lock:
            self._action = action

    def spring(self, _number: int) -> int | None:
        with self._lock:
            action, self._action = self._action, None
        if action is not None:
            action()
        return None


def stage_of(history: StudyHistory) -> str:
    if history.summary.state == "scored":
        partly = any(one.accepted for revision in history.revisions for one in revision.deliveries)
        return "delivering, partly accepted" if partly else "delivering"
    return {"ready": "scoring"}.get(history.summary.state, history.summary.state)


@pytest.mark.timeout(120 + 15 * KILLS)
def test_every_acknowledged_study_has_exactly_one_current_result(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    draw = random.Random(SEED)
    trap, stages, moments = Trap(), Counter[str](), Counter[str]()
    with FakeService(tmp_path / "service") as service, Pacs(before_answer=trap.spring) as pacs:
        service.behave(delay_seconds=0.15)
        node = NodeProcess(
            tmp_path, port=free_port(), service_url=service.url, destinations=[pacs.destination]
        )
        sender = Sender(node.settings.port, SEED)
        try:
            for number in range(KILLS):
                moment = MOMENTS[number % len(MOMENTS)]
                moments[moment] += 1
                if moment == "while it starts":
                    node.spawn()
                    time.sleep(draw.uniform(0.1, 1.5))
                else:
                    node.start()
                    if moment == "when an object arrives at the PACS":
                        trap.set(node.kill)
                        until(lambda: not node.running(), seconds=30)
                        trap.set(None)
                    elif moment == "while the PACS is away":
                        pacs.stop()
                        time.sleep(draw.uniform(0.5, 1.5))
                    else:
                        time.sleep(draw.uniform(0.0, 1.5))
                node.kill()
                if moment == "with the service":
                    service.stop()
                    service.start()
                if moment == "while the PACS is away":
                    pacs.start()
                for summary in studies.list_studies(node.settings, limit=10):
                    stages[stage_of(studies.show_study(node.settings, summary.study_instance_uid))] += 1
            node.start()
            sender.stop()
            until(lambda: _settled(node, len(sender.acknowledged)), seconds=90, every=0.3)
            histories = {study: studies.show_study(node.settings, study) for study in sender.acknowledged}
            assert node.stop() == 0
        finally:
            sender.kill()
            node.kill()
    print(f"\n{KILLS} kills: {dict(moments)}\nstudies at the moment of a kill: {dict(stages)}")
    _reconcile(histories, sender, pacs)


def _settled(node: NodeProcess, expected: int) -> bool:
    found = studies.list_studies(node.settings, limit=10_000)
    return len(found) >= expected and all(one.state == "delivered" for one in found)


def _reconcile(histories: dict[str, StudyHistory], sender: Sender, pacs: Pacs) -> None:
    """The ledger against the sender on one side and the PACS on the other, instance by instance."""
    digests: dict[str, set[str]] = defaultdict(set)
    for uid, digest in pacs.received:
        digests[uid].add(digest)
    revisions = amended = 0
    for study, history in histories.items():
        kept = {instance.sop_instance_uid for instance in history.instances}
        assert sender.acknowledged[study] <= kept, f"acknowledged and lost in {study}"
        current = history.revisions[-1]
        assert current.revision.last_instance_id == max(instance.id for instance in history.instances)
        promised = {made.sop_instance_uid for revision in history.revisions for made in revision.objects}
        there = {uid for uid, dataset in pacs.datasets.items() if dataset.StudyInstanceUID == study}
        assert there == promised, f"the PACS and the ledger disagree about {study}"
        reports = pacs.reports(study)
        scored = [revision for revision in history.revisions if revision.objects]
        assert len(reports) == len(scored)
        replaced = {
            reference.ReferencedSOPInstanceUID
            for report in reports
            for document in report.get("PredecessorDocumentsSequence", [])
            for series in document.ReferencedSeriesSequence
            for reference in series.ReferencedSOPSequence
        }
        valid = [report.SOPInstanceUID for report in reports if report.SOPInstanceUID not in replaced]
        assert valid == [current.objects[0].sop_instance_uid], f"{len(valid)} current reports of {study}"
        revisions += len(scored)
        amended += len(scored) - 1
    assert all(len(found) == 1 for found in digests.values()), "an object was sent again with other bytes"
    again = len(pacs.received) - len(digests)
    acknowledged = sum(map(len, sender.acknowledged.values()))
    print(
        f"studies acknowledged {len(histories)}, instances {acknowledged} ({sender.sent_twice} sent twice);"
        f" results {revisions}, of them amendments {amended}; objects in the PACS {len(digests)},"
        f" sent again with the same bytes {again}; lost 0, twice 0"
    )
    assert again > 0, "no kill hit a delivery: the test saw too little"
