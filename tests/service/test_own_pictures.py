"""What the service made comes back to it: said to be no radiograph, on both of its paths."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pydicom

from service.client import Client
from service.contract import ObjectKind, Status, StudyRequest
from tests.service.conftest import Running


def test_a_heatmap_sent_with_its_radiograph_is_not_scored(
    service: Running, http: httpx.Client, shared_data: Path
) -> None:
    path = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    hand, header = path.read_bytes(), pydicom.dcmread(path, stop_before_pixels=True)
    request = StudyRequest(
        study_instance_uid=header.StudyInstanceUID, result_time=datetime(2026, 1, 2, tzinfo=UTC)
    )
    with Client(service.url) as client:
        heatmap = client.score_study(request, [hand])[1][1]
        result = client.score_study(request, [heatmap, hand])[0]
    said = {each.sop_instance_uid == header.SOPInstanceUID: each for each in result.results}
    assert (said[False].status, said[False].reason_code) == (Status.NOT_ANALYSABLE, "not_a_radiograph")
    assert said[True].status is Status.SCORED
    assert [made.kind for made in result.objects] == [ObjectKind.STRUCTURED_REPORT, ObjectKind.HEATMAP]
    answer = http.post("/v1/score", content=heatmap)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_a_radiograph")
