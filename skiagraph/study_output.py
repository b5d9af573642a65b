"""`--dicom-out`: the objects that a PACS would get, one report a study, as files."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset

from service.contract import ObjectKind, StudyRequest
from service.report.build import build_study
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

    A file whose header cannot be read belongs to no study and gets no report: its own result says why.
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

    def add(self, answer: FileScore) -> None:
        header = self._headers.pop(answer.path, None) or _picture_header(answer.path)
        if header is None:
            return
        study = str(header.StudyInstanceUID)
        source = (self._names[answer.path], source_of(header, answer.result, answer.scored))
        self._waiting.setdefault(study, []).append(source)
        self._missing[study] -= 1
        if self._missing[study] <= 0:
            self._write(study, self._waiting.pop(study))

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
            (self._folder / f"{name}.{_FILE_KIND[made.record.kind]}.dcm").write_bytes(made.data)


def _dicom_header(path: Path) -> Dataset | None:
    """Everything but the pixels; None for what is not DICOM or names no study."""
    try:
        header: Dataset | None = pydicom.dcmread(path, stop_before_pixels=True) if is_dicom(path) else None
    except (OSError, ValueError, AttributeError, EOFError):
        return None
    return header if header and header.get("StudyInstanceUID") and header.get("SOPInstanceUID") else None


def _picture_header(path: Path) -> Dataset | None:
    """The header that a picture would be sent with."""
    try:
        header = wrap_picture(path)
    except (NotAPictureError, OSError):
        return None
    del header.PixelData
    return header
