"""Hundreds of generated studies against dciodvfy, dcentvfy and DCMTK.

`SKIAGRAPH_REPORT_STUDIES=500 pytest -s tests/service/report/test_validators.py` makes more and counts them.
"""

import io
import os
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.contract import ObjectKind, StudyRequest
from service.report.build import build_study
from service.report.envelope import COPIED
from service.report.inputs import BuiltObject, SourceInstance
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import INVALID_HEADERS, MANIFEST, MODEL, VALID_HEADERS, studies
from tests.service.report.validators import dcentvfy_errors, dciodvfy_errors, dsrdump

STUDIES = int(os.environ.get("SKIAGRAPH_REPORT_STUDIES", "30"))
_often = settings(
    max_examples=STUDIES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would run the validators thousands of times
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
_Study = tuple[StudyRequest, list[SourceInstance], ReportSettings]
pytestmark = [pytest.mark.debian("dciodvfy", "dcentvfy", "dsrdump"), pytest.mark.timeout(3600)]


def built(study: _Study) -> list[BuiltObject]:
    request, sources, chosen = study
    return build_study(request=request, sources=sources, model=MODEL, manifest=MANIFEST, settings=chosen)


def written(objects: list[BuiltObject], folder: Path) -> list[Path]:
    paths = []
    for index, one in enumerate(objects):
        path = folder / f"{index}-{one.record.kind}.dcm"
        path.write_bytes(one.data)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def counted() -> Counter[str]:
    return Counter()


@given(study=studies(headers=VALID_HEADERS))
@_often
def test_valid_studies_give_objects_without_a_single_error(study: _Study, counted: Counter[str]) -> None:
    objects = built(study)
    with TemporaryDirectory() as folder:
        paths = written(objects, Path(folder))
        errors = [line for path in paths for _, line in dciodvfy_errors(path)]
        across = dcentvfy_errors(paths)
        text = dsrdump(paths[0])
    counted.update({"studies": 1, "objects": len(objects), "errors": len(errors) + len(across)})
    assert errors == []
    assert across == []
    assert text.startswith("Comprehensive 3D SR Document")


@given(study=studies(headers=INVALID_HEADERS))
@_often
def test_errors_only_repeat_invalid_attributes_of_the_source(study: _Study, counted: Counter[str]) -> None:
    objects = built(study)
    with TemporaryDirectory() as folder:
        paths = written(objects, Path(folder))
        errors = [error for path in paths for error in dciodvfy_errors(path)]
        dsrdump(paths[0])
    ours = [line for keyword, line in errors if keyword not in COPIED]
    counted.update({"invalid studies": 1, "errors that repeat the source": len(errors) - len(ours)})
    assert ours == []


@given(study=studies(headers=INVALID_HEADERS))
@settings(_often, max_examples=max(12, STUDIES // 4))
def test_evidence_is_what_was_sent(study: _Study) -> None:
    request, sources, _ = study
    objects = built(study)
    report = objects[0]
    assert report.record.kind is ObjectKind.STRUCTURED_REPORT
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(io.BytesIO(report.data))
        listed = {
            (
                one.StudyInstanceUID,
                series.SeriesInstanceUID,
                item.ReferencedSOPClassUID,
                item.ReferencedSOPInstanceUID,
            )
            for one in dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
            for series in one.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        sent = {
            (
                one.dataset.get("StudyInstanceUID", request.study_instance_uid),
                one.dataset.SeriesInstanceUID,
                one.dataset.SOPClassUID,
                one.dataset.SOPInstanceUID,
            )
            for one in sources
            if "SeriesInstanceUID" in one.dataset and "SOPClassUID" in one.dataset
        }
    made = {
        (ref.study_instance_uid, ref.series_instance_uid, ref.sop_class_uid, ref.sop_instance_uid)
        for ref in (one.record.reference for one in objects[1:])
    }
    assert listed == sent | made


@given(study=studies(headers=INVALID_HEADERS), shuffled=st.randoms())
@settings(_often, max_examples=max(8, STUDIES // 8))
def test_the_same_question_gives_the_same_bytes_in_any_order_of_arrival(
    study: _Study, shuffled: Random
) -> None:
    request, sources, chosen = study
    again = list(sources)
    shuffled.shuffle(again)
    assert [one.data for one in built(study)] == [one.data for one in built((request, again, chosen))]


@pytest.fixture(scope="module", autouse=True)
def _say(counted: Counter[str]) -> object:
    yield
    print("\n" + ", ".join(f"{count} {name}" for name, count in counted.items()))
