"""A modality in a process of its own: sends studies until each of their instances is acknowledged."""

import multiprocessing.synchronize
import random
import time
from collections import defaultdict
from multiprocessing.queues import Queue

from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from tests.dicom_listener.peers import radiograph
from tests.dicom_listener.run_node import processes


class Sender:
    """Runs until `stop`, which fills in `acknowledged`: study → its acknowledged instances."""

    def __init__(self, port: int, seed: int) -> None:
        self.acknowledged: dict[str, set[str]] = defaultdict(set)
        self.sent_twice = 0
        self._answers: Queue[tuple[str, str, bool] | None] = processes.Queue()
        self._stopping = processes.Event()
        self._process = processes.Process(
            target=_send_studies, args=(port, seed, self._answers, self._stopping), daemon=True
        )
        self._process.start()

    def stop(self) -> None:
        """Let the study under way be acknowledged to its last instance, then stop."""
        self._stopping.set()
        while (answer := self._answers.get(timeout=60)) is not None:
            study, instance, again = answer
            self.acknowledged[study].add(instance)
            self.sent_twice += again
        self._process.join(timeout=10)

    def kill(self) -> None:
        self._process.kill()


def _send_studies(
    port: int,
    seed: int,
    answers: "Queue[tuple[str, str, bool] | None]",
    stopping: multiprocessing.synchronize.Event,
) -> None:
    draw = random.Random(seed)
    while not stopping.is_set():
        study = generate_uid()
        waiting = [radiograph(study, seed=draw.randrange(1000)) for _ in range(draw.randint(1, 3))]
        while waiting:
            waiting = [one for one in waiting if not _sent(port, one, draw, answers)]
        stopping.wait(draw.uniform(0.1, 0.5))
    answers.put(None)


def _sent(
    port: int, instance: FileDataset, draw: random.Random, answers: "Queue[tuple[str, str, bool] | None]"
) -> bool:
    entity = AE(ae_title="MODALITY")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    entity.connection_timeout = 1
    entity.add_requested_context(instance.SOPClassUID, instance.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="SKIAGRAPH")
    if not association.is_established:
        time.sleep(0.1)
        return False
    try:
        # Sometimes a modality sends again what was acknowledged: nothing may come of it.
        for turn in range(1 + (draw.random() < 0.2)):
            status = association.send_c_store(instance)
            if getattr(status, "Status", None) != 0x0000:
                return turn > 0
            answers.put((instance.StudyInstanceUID, instance.SOPInstanceUID, turn > 0))
    except (RuntimeError, ValueError):  # the association was cut
        return False
    finally:
        if association.is_established:
            association.release()
    return True
