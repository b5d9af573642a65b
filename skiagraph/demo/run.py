"""The demonstration from start to end: everything up, studies sent, answers shown, everything stopped."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pydicom.config
from rich.console import Console

from dicom_listener.errors import UnknownStudyError
from dicom_listener.ledger.overview import StudyHistory
from dicom_listener.studies import list_studies, show_study
from skiagraph import inputs
from skiagraph.demo import pacs as receiving
from skiagraph.demo.answers import Answer, collect, table
from skiagraph.demo.product import running_product
from skiagraph.demo.send import send
from skiagraph.demo.studies import DemoStudy, built_in, of_files
from skiagraph.errors import UsageError
from skiagraph.settings.listener import ListenerSettings

_UNDER_WAY: Final = frozenset({"receiving", "ready", "scored"})
_ANSWER_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.25
_PLAIN_COLUMNS: Final = 150  # of the table where there is no terminal


def run(files: Sequence[Path], folder: Path) -> int:
    """Demonstrate with `files`, or with phantoms and an ankle; what comes back lies below `folder`.

    Returns 0 when every study was answered.
    """
    pydicom.config.settings.reading_validation_mode = (
        pydicom.config.IGNORE
    )  # what a file says is not ours to judge
    columns = None if sys.stdout.isatty() else _PLAIN_COLUMNS
    console = Console(highlight=False, markup=False, soft_wrap=True, width=columns)
    begin = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - begin:5.1f} s  {text}")

    received = _emptied(folder / "received")
    log = folder / "skiagraph.log"
    log.write_bytes(b"")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skiagraph-demo-")))
        studies = _studies(files, say)
        pacs = stack.enter_context(receiving.start_pacs(work))
        say(f"PACS: {pacs.name}, {receiving.AE_TITLE} on port {pacs.port}")
        say("starting `skiagraph up` …")
        destination = {"name": "pacs", "ae_title": receiving.AE_TITLE, "host": "127.0.0.1", "port": pacs.port}
        product = stack.enter_context(
            running_product(
                work / "product",
                listener={"quiet_period_seconds": 1.0, "reserve_bytes": 0, "destinations": [destination]},
                log=log,
            )
        )
        listener = product.settings.listener
        say(
            f"ready: {listener.ae_title} on port {listener.port}, API on port {product.settings.service.port}"
        )
        for study in studies:
            if not study.problem:
                study.problem = send(study, host="127.0.0.1", port=listener.port, called=listener.ae_title)
            say(f"{study.name}: {study.problem or f'sent, {len(study.instances)} instance(s)'}")
        answers: list[Answer] = []
        for study, history in wait_for_answers(studies, listener):
            answers.append(Answer(study=study, history=history))
            say(f"{study.name}: {history.summary.state if history else study.problem or 'no answer'}")
        answers.sort(key=lambda answer: studies.index(answer.study))
        answers = collect(answers, pacs.fetch(received), received)
        say("stopping …")
    say(f"stopped; what the PACS received lies in {received}, the log in {log}")
    console.print(table(answers))
    for answer in answers:
        for path in answer.files:
            console.print(f"  {path}")
    return 0 if all(answer.complete for answer in answers) else 1


def _studies(files: Sequence[Path], say: Callable[[str], None]) -> list[DemoStudy]:
    if not files:
        say("drawing phantoms: synthetic, they say nothing about detection quality")
        return built_in()
    found = inputs.find(files)
    for problem in found.problems:
        say(problem)
    if not found.files:
        raise UsageError("there is nothing to send: name DICOM, PNG or JPEG files or folders that hold some")
    missing = [DemoStudy(name=problem.split()[0], problem=problem) for problem in found.problems]
    return [*of_files(found.files), *missing]


def wait_for_answers(
    studies: Sequence[DemoStudy], listener: ListenerSettings
) -> Iterator[tuple[DemoStudy, StudyHistory | None]]:
    """Each study with its history as soon as nothing more will happen to it, or two minutes are over."""
    waiting = list(studies)
    deadline = time.monotonic() + _ANSWER_SECONDS + len(studies)
    while waiting:
        states = {one.study_instance_uid: one.state for one in list_studies(listener, limit=len(studies) + 1)}
        late = time.monotonic() > deadline
        for study in [one for one in waiting if late or states.get(one.study_instance_uid) not in _UNDER_WAY]:
            waiting.remove(study)
            yield study, _history(study, listener)
        time.sleep(_POLL_SECONDS)


def _history(study: DemoStudy, listener: ListenerSettings) -> StudyHistory | None:
    """What the ledger knows; None when the study never came in."""
    if not study.study_instance_uid:
        return None
    try:
        return show_study(listener, study.study_instance_uid)
    except UnknownStudyError:
        return None


def _emptied(folder: Path) -> Path:
    """The folder without what an earlier demonstration left there, and nothing else removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.dcm", "*.txt", "*.png"):
        for path in folder.glob(pattern):
            path.unlink()
    return folder
