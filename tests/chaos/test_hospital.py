"""Everything at once: modalities go on sending with DCMTK to a node and an Orthanc that are made to fail.

SIGKILL of the node, of the service and of the PACS, a full disk, cut and slow cables, half-open peers,
instances sent twice or late, and a clock that is set. The service is the stand-in of the listener's tests.
3 studies by default; `make chaos` asks for 200 through SKIAGRAPH_CHAOS_STUDIES.
"""

import os
import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_listener import studies
from dicom_listener.ledger.overview import StudyHistory
from dicom_listener.ledger.states import UNDELIVERED
from tests.chaos.hospital import FAKETIME, Cable, ClockedNode, Modality, OrthancPacs, half_open
from tests.dicom_listener.peers import FakeService, until

STUDIES = int(os.environ.get("SKIAGRAPH_CHAOS_STUDIES", "3"))
SEED = int(os.environ.get("SKIAGRAPH_CHAOS_SEED", "20260701"))
MODALITIES = 3
MEBIBYTE = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own where one can be mounted, else a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = 64 + STUDIES // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Trouble:
    """What goes wrong, one thing after another; each is over when its method returns."""

    def __init__(self, node: ClockedNode, service: FakeService, pacs: OrthancPacs, disk: Path) -> None:
        self.node, self.service, self.pacs, self.disk = node, service, pacs, disk
        self.seen: Counter[str] = Counter()
        self.draw = random.Random(SEED)
        self._held: list[object] = []
        self._kinds: list[Callable[[], None]] = [
            self.node_killed,
            self.pacs_killed,
            self.service_killed,
            self.half_open_peers,
            self.node_killed_while_it_starts,
        ]
        if FAKETIME is not None:
            self._kinds.append(self.clock_set)
        if os.path.ismount(disk):
            self._kinds.append(self.disk_full)

    def supervise(self) -> None:
        """Start the node again where it has given up by itself, as systemd or Kubernetes would."""
        if not self.node.running():
            self.seen["node_stopped_by_itself"] += 1
            self.node.start()

    def strike(self) -> None:
        self.supervise()
        kinds = self._kinds
        kind = (
            kinds[self.seen.total() % len(kinds)]
            if self.seen.total() < len(kinds)
            else self.draw.choice(kinds)
        )
        self.seen[kind.__name__] += 1
        kind()

    def node_killed(self) -> None:
        self.node.kill()
        self.node.start()

    def node_killed_while_it_starts(self) -> None:
        self.node.kill()
        self.node.spawn()
        time.sleep(self.draw.uniform(0.5, 3.0))
        self.node.kill()
        self.node.start()

    def pacs_killed(self) -> None:
        self.pacs.kill()
        time.sleep(self.draw.uniform(0.5, 2.0))
        self.pacs.start()

    def service_killed(self) -> None:
        self.service.stop()
        time.sleep(self.draw.uniform(0.5, 2.0))
        self.service.start()

    def half_open_peers(self) -> None:
        self._held += [half_open(self.node.settings.port, self.draw) for _ in range(8)]

    def clock_set(self) -> None:
        for offset in (self.draw.choice([-86_400, -3600, 3600, 86_400]), 0):
            self.node.set_clock(offset)
            time.sleep(1.5)

    def disk_full(self) -> None:
        filler = self.disk / "filler"
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(MEBIBYTE))
                file.flush()
        time.sleep(self.draw.uniform(0.5, 2.0))
        filler.unlink()


@pytest.mark.debian("Orthanc", "storescu")
@pytest.mark.timeout(300 + 15 * STUDIES)
def test_every_acknowledged_study_has_exactly_one_current_result_in_orthanc(
    tmp_path: Path, disk: Path, free_port: Callable[[], int]
) -> None:
    (tmp_path / "sent").mkdir()
    with FakeService(tmp_path / "service") as service, OrthancPacs(tmp_path / "pacs") as pacs:
        service.behave(delay_seconds=0.1)
        node = ClockedNode(
            disk,
            port=free_port(),
            service_url=service.url,
            destinations=[pacs.destination],
            reserve_bytes=4 * MEBIBYTE,
            network_timeout_seconds=8.0,
        )
        cable = Cable(node.settings.port, SEED)
        shares = [STUDIES // MODALITIES + (number < STUDIES % MODALITIES) for number in range(MODALITIES)]
        modalities = [
            Modality(cable.port, tmp_path / "sent", share, SEED + number)
            for number, share in enumerate(shares)
        ]
        trouble = Trouble(node, service, pacs, disk)
        try:
            node.start()
            for modality in modalities:
                modality.start()
            while any(modality.is_alive() for modality in modalities):
                trouble.strike()
                time.sleep(trouble.draw.uniform(0.5, 2.0))
            trouble.supervise()
            acknowledged = {
                study: uids for modality in modalities for study, uids in modality.acknowledged.items()
            }
            until(lambda: Settled(node, len(acknowledged)), seconds=120, every=0.5)
            histories = {study: studies.show_study(node.settings, study) for study in acknowledged}
            spool = node.settings.folder / "spool"
            kept: dict[str, Dataset] = {
                made.sop_instance_uid: dcmread(spool / made.path)
                for history in histories.values()
                for revision in history.revisions
                for made in revision.objects
                # A full disk makes finished studies leave early, and the ledger says so.
                if (spool / made.path).exists() or not _purged(history)
            }
            there = pacs.datasets()
            assert node.stop() == 0
        finally:
            for modality in modalities:
                modality.give_up = True
            cable.close()
            node.kill()
    twice, late = (sum(getattr(one, name) for one in modalities) for name in ("sent_twice", "late"))
    print(
        f"\n{sum(one.attempts for one in modalities)} runs of storescu; cables: {cable.cut} cut,"
        f" {cable.slow} slow; {twice} sends repeated, {late} late; {dict(trouble.seen)}"
    )
    _reconcile(acknowledged, histories, kept, there)


class Settled:
    """Whether nothing waits any more; prints as what does."""

    def __init__(self, node: ClockedNode, expected: int) -> None:
        found = studies.list_studies(node.settings, limit=10_000)
        self._missing = expected - len(found)
        self._waiting = [one for one in found if one.state != "delivered"]
        # The latest revision may have overtaken an earlier one that waits for another try.
        self._deliveries = [
            delivery
            for one in found
            for revision in studies.show_study(node.settings, one.study_instance_uid).revisions
            for delivery in revision.deliveries
            if delivery.state in UNDELIVERED
        ]

    def __bool__(self) -> bool:
        return not (self._missing > 0 or self._waiting or self._deliveries)

    def __repr__(self) -> str:
        return f"{self._missing} studies missing, {self._waiting} waiting, {self._deliveries} undelivered"


def _reconcile(
    acknowledged: dict[str, set[str]],
    histories: dict[str, StudyHistory],
    kept: dict[str, Dataset],
    there: dict[str, list[Dataset]],
) -> None:
    """What was acknowledged, the ledger and the PACS against one another, instance by instance."""
    assert len(acknowledged) == STUDIES
    assert set(there) == set(histories), "the PACS has results of studies that nobody was told were received"
    results = amended = objects = 0
    for study, history in histories.items():
        instances = {instance.sop_instance_uid for instance in history.instances}
        assert acknowledged[study] <= instances, f"acknowledged and lost in {study}"
        current = history.revisions[-1]
        assert current.revision.last_instance_id == max(instance.id for instance in history.instances)
        promised = [made.sop_instance_uid for revision in history.revisions for made in revision.objects]
        found = {str(dataset.SOPInstanceUID): dataset for dataset in there[study]}
        assert sorted(map(str, promised)) == sorted(found), f"the ledger and the PACS disagree about {study}"
        assert len(there[study]) == len(found), f"an object of {study} is there twice"
        there_and_here = [dataset == kept[uid] for uid, dataset in found.items() if uid in kept]
        assert all(there_and_here), f"other bytes in {study}"
        assert there_and_here or _purged(history)
        scored = [revision for revision in history.revisions if revision.objects]
        reports = [dataset for dataset in there[study] if dataset.Modality == "SR"]
        assert len(reports) == len(scored), f"{len(reports)} reports for {len(scored)} revisions of {study}"
        replaced = _replaced(reports)
        valid = {str(report.SOPInstanceUID) for report in reports} - replaced
        newest = current.objects[0].sop_instance_uid
        # What is made of late instances, when the earlier ones have left the spool, replaces nothing.
        assert newest in valid
        assert len(valid) <= 1 + _purged(history), f"{len(valid)} current reports of {study}"
        results, amended, objects = results + len(scored), amended + len(scored) - 1, objects + len(found)
    print(
        f"studies acknowledged {len(histories)}, instances {sum(map(len, acknowledged.values()))};"
        f" results {results}, of them amendments {amended}; objects in Orthanc {objects},"
        f" {len(kept)} of them still in the spool; lost 0, twice 0"
    )


def _purged(history: StudyHistory) -> int:
    """How often the study has left the spool."""
    return sum(event.kind == "purged" for event in history.events)


def _replaced(reports: list[Dataset]) -> set[str]:
    found: defaultdict[str, int] = defaultdict(int)
    for report in reports:
        for document in report.get("PredecessorDocumentsSequence", []):
            for series in document.ReferencedSeriesSequence:
                for reference in series.ReferencedSOPSequence:
                    found[str(reference.ReferencedSOPInstanceUID)] += 1
    return set(found)
