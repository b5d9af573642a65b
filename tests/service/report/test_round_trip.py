"""Other people's readers find in the report what was put in: highdicom, DCMTK's dsrdump, and our own text."""

import io
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings

from service.contract import Region, Status
from service.report import codes
from service.report.build import build_study
from service.report.text import as_text
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import (
    MANIFEST,
    MODEL,
    VALID_HEADERS,
    header,
    not_analysed,
    request,
    result,
    source,
    studies,
)
from tests.service.report.validators import dsrdump

_REGIONS = (
    Region(x=10.25, y=20.5, width=30, height=40, score=7.125),
    Region(x=100, y=110.125, width=12.5, height=9, score=3.5),
)


def _example() -> bytes:
    hand = source(header(), result("1.2.3.4.5.6", regions=_REGIONS))
    chest = source(header(SOPInstanceUID="1.2.3.4.5.7"), not_analysed("1.2.3.4.5.7"))
    objects = build_study(
        request=request(), sources=[chest, hand], model=MODEL, manifest=MANIFEST, settings=ReportSettings()
    )
    return objects[0].data


def _opened(data: bytes) -> Any:
    return hd.sr.Comprehensive3DSR.from_dataset(pydicom.dcmread(io.BytesIO(data)))


def _value(group: Any, name: Any) -> float:
    return float(group.get_measurements(name=name)[0].value)


@given(study=studies(headers=VALID_HEADERS))
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
def test_highdicom_reads_the_same_numbers(study: Any) -> None:
    asked, sources, chosen = study
    objects = build_study(request=asked, sources=sources, model=MODEL, manifest=MANIFEST, settings=chosen)
    report = _opened(objects[0].data).content
    scored = {
        one.result.sop_instance_uid: one.result for one in sources if one.result.status is Status.SCORED
    }
    groups = [
        group
        for group in report.get_image_measurement_groups()
        if group.get_measurements(name=codes.ANOMALY_SCORE)
    ]
    assert len(groups) == len(scored)
    for group in groups:
        answer = scored[group.source_images[0].referenced_sop_instance_uid]
        measured = group.get_measurements(name=codes.ANOMALY_SCORE)[0]
        assert measured.value == answer.score
        assert measured[0].ContentSequence[0].value == answer.percentile
        verdict = group.get_qualitative_evaluations(name=codes.VERDICT)[0]
        assert verdict.value == (codes.ABOVE if answer.abnormal else codes.NOT_ABOVE)
        drawn = report.get_planar_roi_measurement_groups(
            referenced_sop_instance_uid=answer.sop_instance_uid, reference_type=_IMAGE_REGION
        )
        assert [_box(one) for one in drawn] == [
            pytest.approx(_expected(one), abs=0.01) for one in answer.regions
        ]
        assert [_value(one, codes.REGION_SCORE) for one in drawn] == [one.score for one in answer.regions]


_IMAGE_REGION = pydicom.sr.codedict.codes.DCM.ImageRegion


def _box(group: Any) -> list[float]:
    points = np.asarray(group.roi.value)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def _expected(region: Region) -> list[float]:
    return [region.x, region.y, region.x + region.width, region.y + region.height]


@pytest.mark.debian("dsrdump")
def test_dsrdump_shows_score_percentile_verdict_algorithm_and_regions(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(_example())
    text = dsrdump(path)
    for shown in (
        'Anomaly score of the local finding")="4.123456789"',
        'Percentile Ranking of measurement")="97.5"',
        '"Above the operating point")',
        'Algorithm Name")="synthetic-defects"',
        "engine: onnxruntime",
        "weights sha256: abab",
        "POLYLINE,10.25/20.5",
        '"Not a hand")',
    ):
        assert shown in text


def test_the_text_is_for_people() -> None:
    text = as_text(_example())
    assert (
        "Local finding above the operating point: score 4.123, higher than 97% of 270 normal radiographs"
        in text
    )
    assert "95% interval 20% to 44%" in text
    assert "49 fractured hands - validation" in text
    assert "Region 1: 30 x 40 pixels, 10 from the left, 20 from the top, highest score 7.125" in text
    assert "Analysis not performed: it shows a chest, not a hand." in text
    assert "not verified by a physician" in text
    for jargon in ("99SKIAGRAPH", "SCOORD", "CONTAINER", "sha256", "1.2.3.4"):
        assert jargon not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_no_sentence_names_a_diagnosis() -> None:
    text = as_text(_example()).lower()
    for claim in (
        "fracture detected",
        "fracture suspected",
        "probability of fracture",
        "diagnosis:",
        "positive",
        "healthy",
    ):
        assert claim not in text
    assert "not a probability of disease" in text
