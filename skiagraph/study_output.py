"""`--dicom-out`: the objects that a PACS would get, one report a study, as files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pydicom
from pydantic import ValidationError
from pydicom.dataset import Dataset

from service.contract import ObjectKind, Status, StudyRequest
from service.report.build import build_study
from service.report.errors import ReportFault
from service.report.inputs import SourceInstance
from service.results import source_of
from skiagraph.inputs import is_dicom
from skiagraph.scoring import FileScore, Scorer
from skiagraph.wrap import NotAPictureError, wrap_picture

_FILE_KIND: Final = {
    ObjectKind.STRUCTURED_REPORT: "report",
    ObjectKind.HEATMAP: "heatmap",
    ObjectKind.OVERVIEW: "overview",
}


class StudyOutput:
    """Collects the answers of a study until its last file, then writes its objects.

    A file that cannot be read belongs to no study and gets no report: its own result says why.
    """

    def __init__(self, folder: Path, files: Sequence[Path], names: Sequence[str], scorer: Scorer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._scorer = scorer
        self._names = dict(zip(files, names, strict=True))
        # A picture is a study of its own; instances wait until the last one of their study.
        self._headers = {path: header for path in files if (header := _dicom_header(path)) is not None}
        self._missing = Counter(str(header.StudyInstanceUID) for header in self._headers.values())
        self._waiting: dict[str, list[tuple[str, SourceInstance]]] = {}
        self._result_time = datetime.now(UTC)

    def add(self, answer: FileScore) -> list[str]:
        """Take one answer; returns a line for each thing that cannot be written: no file stops the run."""
        header = self._headers.pop(answer.path, None)
        if header is None:
            if answer.result.status is Status.ERROR:  # a picture too large to be scored is too large to wrap
                return []
            try:
                header = _picture_header(answer.path, self._scorer.settings.service.max_pixels)
            except Exception as error:
                return [f"{answer.path}: no report: {_why(error)}"]
        problems = []
        study = str(header.StudyInstanceUID)
        waiting = self._waiting.setdefault(study, [])
        try:
            waiting.append((self._names[answer.path], source_of(header, answer.result, answer.scored)))
        except Exception as error:
            problems.append(f"{answer.path}: not in the report of its study: {_why(error)}")
        self._missing[study] -= 1
        if self._missing[study] <= 0 and (named := self._waiting.pop(study)):
            try:
                self._write(study, named)
            except Exception as error:
                problems.append(f"{answer.path}: no report of its study: {_why(error)}")
        return problems

    def _write(self, study: str, named: Sequence[tuple[str, SourceInstance]]) -> None:
        built = build_study(
            request=StudyRequest(study_instance_uid=study, result_time=self._result_time),
            sources=[source for _, source in named],
            model=self._scorer.model,
            manifest=self._scorer.analysis.package.manifest,
            settings=self._scorer.settings.report,
        )
        name_of = {source.result.sop_instance_uid: name for name, source in named}
        for made in built:
            name = name_of.get(made.record.source_sop_instance_uid or "", named[0][0])
            _object_path(self._folder, name, made.record.kind).write_bytes(made.data)


def object_paths(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Every file that may be written into the folder for radiographs of these output names."""
    return (_object_path(folder, name, kind) for name in names for kind in ObjectKind)


def _object_path(folder: Path, name: str, kind: ObjectKind) -> Path:
    return folder / f"{name}.{_FILE_KIND[kind]}.dcm"


def _dicom_header(path: Path) -> Dataset | None:
    """Everything but the pixels; None for what is not DICOM or names no study."""
    try:
        header: Dataset | None = pydicom.dcmread(path, stop_before_pixels=True) if is_dicom(path) else None
        return header if header and header.get("StudyInstanceUID") and header.get("SOPInstanceUID") else None
    except Exception:  # pydicom raises whatever the damaged bytes make it raise
        return None


def _picture_header(path: Path, max_pixels: int) -> Dataset:
    """The header that a picture would be sent with; raises NotAPictureError."""
    if is_dicom(path):
        raise NotAPictureError("the file has no Study or SOP Instance UID")
    header = wrap_picture(path, max_pixels=max_pixels)
    del header.PixelData
    return header


def _why(error: Exception) -> str:
    """One line; what the file itself says is not repeated."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    said = " ".join(str(error).split())
    known = isinstance(error, ReportFault | NotAPictureError | OSError)
    return said if known else f"unexpected {type(error).__name__}: {said}"
