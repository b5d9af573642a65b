"""Make the pictures and the example of docs/results.md with the product: `python -m docs.make_results`.

Every picture shows a phantom that this project draws; no radiograph of a person is used.
"""

import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from runners.analysis import Analysis
from service.contract import InstanceResult, ObjectKind, StudyRequest
from service.report.build import build_study
from service.report.inputs import BuiltObject, SourceInstance
from service.report.text import as_text
from service.results import identity_of, result_of, source_of
from skiagraph.phantom import Phantom, PhantomKind, as_dicom, draw
from skiagraph.settings import Settings
from skiagraph.settings.report import ReportSettings
from skiagraph.wrap import DxLabels, dx_instance, seeded_uid

_DOCS: Final = Path(__file__).parent
_PAGE: Final = _DOCS / "results.md"
_BEGIN, _END = "<!-- made by docs/make_results.py: begin -->", "<!-- end -->"
# Picked to show one of each answer; see skiagraph/demo/studies.py.
_SEEDS: Final = {PhantomKind.PLAIN: 21, PhantomKind.FRACTURE: 12, PhantomKind.FOREIGN_BODY: 12}
_SIZE: Final = (1024, 1280)
_STUDY: Final = seeded_uid("docs/results")
_SHOWN_HEIGHT_PX: Final = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    name: str
    title: str
    file: bytes
    truth: Phantom | None


def main() -> None:
    settings = Settings(report=ReportSettings(overview=True))
    analysis = Analysis(settings)
    try:
        cases = [*_phantoms(), _step_wedge()]
        sources = [_analysed(case, analysis) for case in cases]
        objects = build_study(
            request=StudyRequest(
                study_instance_uid=_STUDY, result_time=datetime(2026, 11, 22, 12, tzinfo=UTC)
            ),
            sources=sources,
            model=identity_of(analysis.engine),
            manifest=analysis.package.manifest,
            settings=settings.report,
        )
    finally:
        analysis.close()
    by_source = {one.record.source_sop_instance_uid: one for one in objects}
    for case, source in zip(cases, sources, strict=True):
        if (heatmap := by_source.get(source.result.sop_instance_uid)) is not None:
            _save(heatmap, case.name)
    _save(next(one for one in objects if one.record.kind is ObjectKind.OVERVIEW), "overview")
    _write_page(_table(cases, [source.result for source in sources]), as_text(objects[0].data))


def _phantoms() -> list[_Case]:
    """The same hand three times, twice with a defect."""
    titles = {
        PhantomKind.PLAIN: "plain hand",
        PhantomKind.FRACTURE: "planted fracture",
        PhantomKind.FOREIGN_BODY: "planted foreign body",
    }
    cases = []
    for number, (kind, title) in enumerate(titles.items(), start=1):
        phantom = draw(kind, seed=_SEEDS[kind], width=_SIZE[0], height=_SIZE[1])
        dataset = as_dicom(phantom, study_instance_uid=_STUDY, instance_number=number)
        cases.append(_Case(name=kind.value, title=title, file=_bytes(dataset), truth=phantom))
    return cases


def _step_wedge() -> _Case:
    """What a quality check leaves in a PACS: an image that is no hand."""
    steps = np.repeat(np.linspace(200, 3900, 12).astype(np.uint16), 80)
    wedge = np.zeros((1280, 1024), np.uint16)
    wedge[160:1120, 380:640] = steps[:, np.newaxis]
    dataset = dx_instance(
        wedge,
        bits_stored=12,
        photometric="MONOCHROME2",
        labels=DxLabels(
            patient_id="PHANTOM",
            patient_name="PHANTOM^SYNTHETIC",
            study_description="SYNTHETIC PHANTOM, no patient",
            series_description="Drawn step wedge",
            image_comments="Synthetic, drawn by software.",
            derivation="Drawn by Skiagraph",
        ),
        study_instance_uid=_STUDY,
        series_instance_uid=seeded_uid("docs/results/wedge/series"),
        sop_instance_uid=seeded_uid("docs/results/wedge"),
        instance_number=4,
        pixel_spacing_mm=0.2,
    )
    return _Case(name="step_wedge", title="step wedge", file=_bytes(dataset), truth=None)


def _bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _analysed(case: _Case, analysis: Analysis) -> SourceInstance:
    """As the service does it, in one process; the gate is asked, as for any patient."""
    outcome = analysis.analyse(case.file)
    dataset = pydicom.dcmread(io.BytesIO(case.file), stop_before_pixels=True)
    answer = result_of(outcome, model=identity_of(analysis.engine), seconds=0.0)
    return source_of(dataset, answer, outcome)


def _save(made: BuiltObject, name: str) -> None:
    if made.picture is None:
        raise ValueError(f"{name} has no picture")
    picture = Image.fromarray(_shown(made.picture))
    picture.save(_DOCS / "images" / f"{name}.jpg", quality=88)


def _shown(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = min(_SHOWN_HEIGHT_PX, picture.shape[0])
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), np.uint8)


def _table(cases: list[_Case], results: list[InstanceResult]) -> str:
    heads = ("film", "what it really is", "score", "percentile", "verdict", "marks on the defect")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for case, result in zip(cases, results, strict=True):
        if result.score is None:
            lines.append(f"| `{case.name}` | {case.title} | – | – | not analysed: {result.reason} | – |")
            continue
        verdict = "above the operating point" if result.abnormal else "not above"
        numbers = f"{result.score:.2f} | {math.floor(result.percentile or 0)}"
        lines.append(f"| `{case.name}` | {case.title} | {numbers} | {verdict} | {_hits(case, result)} |")
    return "\n".join(lines)


def _hits(case: _Case, result: InstanceResult) -> str:
    """Which ranks touch the planted defect."""
    if case.truth is None or not case.truth.truth:
        return f"no defect; {len(result.regions)} marks"
    ranks = [
        rank
        for rank, region in enumerate(result.regions, start=1)
        for box in case.truth.truth
        if region.x < box.x + box.width
        and box.x < region.x + region.width
        and region.y < box.y + box.height
        and box.y < region.y + region.height
    ]
    return f"{', '.join(map(str, ranks)) or 'none'} of {len(result.regions)}"


def _write_page(table: str, report: str) -> None:
    """Put table and report between their two marks in the page."""
    page = _PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN)
    after = rest.split(_END, 1)[1]
    made = f"{_BEGIN}\n{table}\n\nThe report of this study as text:\n\n```text\n{report}```\n{_END}"
    _PAGE.write_text(before + made + after, encoding="utf-8")


if __name__ == "__main__":
    main()
