"""A Structured Report of ours as text for people: sentences, no codes."""

import io
import textwrap
from collections.abc import Iterator
from typing import Final

import pydicom
from pydicom.dataset import Dataset

from service.report import codes

_COLUMNS: Final = 100
_TRACKING: Final = "112039"
_FINDING_SITE: Final = "363698007"
_LATERALITY: Final = "272741003"
_ALGORITHM_NAME: Final = "111001"
_ALGORITHM_VERSION: Final = "111003"
_MEASUREMENTS: Final = "126010"
_IMAGE_REGION: Final = "111030"


def as_text(report: bytes | Dataset) -> str:
    """The report as lines of text; `report` is a DICOM file or its data set."""
    dataset = pydicom.dcmread(io.BytesIO(report)) if isinstance(report, bytes) else report
    return "\n".join(_wrapped(line) for line in _lines(dataset)) + "\n"


def _lines(dataset: Dataset) -> Iterator[str]:
    evaluations = next(_named(dataset, codes.QUALITATIVE_EVALUATIONS.value), Dataset())
    yield "ANOMALY REPORT"
    for comment in _named(evaluations, codes.COMMENT.value):
        yield comment.TextValue
    yield ""
    yield f"Patient      {_or_dash(dataset, 'PatientName')}, id {_or_dash(dataset, 'PatientID')}"
    yield f"Study        {_or_dash(dataset, 'StudyDescription')}, {_date(dataset.get('StudyDate', ''))}"
    made = f"{_date(dataset.ContentDate)} {_time(dataset.ContentTime)} ({dataset.TimezoneOffsetFromUTC})"
    yield f"Report made  {made}, not verified by a physician"
    if predecessor := dataset.get("PredecessorDocumentsSequence"):
        count = sum(
            len(series.ReferencedSOPSequence)
            for one in predecessor
            for series in one.ReferencedSeriesSequence
        )
        yield f"Amends       {count} earlier report{'s' if count > 1 else ''} of this study"
    groups = [item for container in _named(dataset, _MEASUREMENTS) for item in container.ContentSequence]
    yield from _model(groups)
    for summary in _named(evaluations, codes.SUMMARY.value):
        yield ""
        yield f"Summary      {summary.TextValue}"
    for group in groups:
        yield from _region(group) if any(_named(group, _IMAGE_REGION)) else _radiograph(group)


def _model(groups: list[Dataset]) -> Iterator[str]:
    if not groups:
        return
    name, version = (_text(groups[0], value) for value in (_ALGORITHM_NAME, _ALGORITHM_VERSION))
    yield f"Model        {name} {version}"


def _radiograph(group: Dataset) -> Iterator[str]:
    yield ""
    yield f"{_text(group, _TRACKING)}{_site(group)}"
    for comment in _named(group, codes.COMMENT.value):
        yield f"  {comment.TextValue}"


def _region(group: Dataset) -> Iterator[str]:
    region = next(_named(group, _IMAGE_REGION))
    columns, rows = region.GraphicData[0::2], region.GraphicData[1::2]
    left, top = min(columns), min(rows)
    size = f"{max(columns) - left:.0f} x {max(rows) - top:.0f} pixels"
    score = next((_number(item) for item in _named(group, codes.REGION_SCORE.value)), "")
    rank = next((_number(item) for item in _named(group, codes.REGION_RANK.value)), "")
    where = f"{left:.0f} from the left, {top:.0f} from the top"
    yield f"  Region {rank}: {size}, {where}, highest score {score}"


def _wrapped(line: str) -> str:
    """At most 100 columns; what follows a heading stays below its beginning."""
    indent = 13 if line[:1].isalpha() and "  " in line else len(line) - len(line.lstrip())
    return textwrap.fill(line, _COLUMNS, subsequent_indent=" " * indent, break_long_words=False)


def _named(parent: Dataset, code_value: str) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence", ()):
        if item.ConceptNameCodeSequence[0].CodeValue == code_value:
            yield item


def _text(parent: Dataset, code_value: str) -> str:
    return next((str(item.TextValue) for item in _named(parent, code_value)), "")


def _site(group: Dataset) -> str:
    for site in _named(group, _FINDING_SITE):
        sides = [item.ConceptCodeSequence[0].CodeMeaning.lower() for item in _named(site, _LATERALITY)]
        return f": {' '.join([*sides, site.ConceptCodeSequence[0].CodeMeaning.lower()])}"
    return ""


def _number(item: Dataset) -> str:
    return f"{float(item.MeasuredValueSequence[0].NumericValue):.4g}"


def _or_dash(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "").strip() or "-"


def _date(value: str) -> str:
    text = str(value or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else text or "-"


def _time(value: str) -> str:
    return f"{value[:2]}:{value[2:4]}:{value[4:6]}"
