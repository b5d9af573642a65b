"""Time to build report and heatmap of one 2500×2048 radiograph on one core: `python -m bench.report`.

Processor time of one thread, so that what else the machine does is not counted.
"""

import statistics
import sys
import time
from datetime import UTC, datetime

import cv2
import numpy as np
from pydicom.dataset import Dataset

from models.package import PACKAGES, ModelPackage
from service.contract import InstanceResult, ModelIdentity, OperatingPoint, Region, Status, StudyRequest
from service.report.build import build_study
from service.report.inputs import SourceInstance
from skiagraph.phantom import PhantomKind, draw
from skiagraph.settings.report import ReportSettings

_WIDTH, _HEIGHT = 2048, 2500
_REPEATS = 11
_LIMIT_MS = 150.0


def main() -> int:
    """Print the medians; 1 when report and heatmap together, uncompressed, take longer than they may."""
    cv2.setNumThreads(1)
    package = ModelPackage.open(PACKAGES / "synthetic-defects")
    source = _source(package)
    slow = False
    print(f"{_WIDTH}×{_HEIGHT}, {len(source.result.regions)} regions, one thread, median of {_REPEATS}")
    for name, settings in (
        ("as by default", ReportSettings()),
        ("full size", ReportSettings(heatmap_long_side_px=0)),
        ("full size, RLE", ReportSettings(heatmap_long_side_px=0, compression="rle")),
        ("full size, JPEG 2000", ReportSettings(heatmap_long_side_px=0, compression="jpeg2000_lossless")),
    ):
        milliseconds, sizes = _time(package, source, settings)
        print(f"{name:22} {milliseconds:7.1f} ms   report {sizes[0]:.2f} MB, heatmap {sizes[1]:.2f} MB")
        slow |= settings.compression == "none" and milliseconds > _LIMIT_MS
    return int(slow)


def _time(
    package: ModelPackage, source: SourceInstance, settings: ReportSettings
) -> tuple[float, list[float]]:
    request = StudyRequest(study_instance_uid="1.2.3", result_time=datetime(2026, 1, 1, tzinfo=UTC))
    seconds: list[float] = []
    sizes: list[float] = []
    for _ in range(_REPEATS + 1):
        start = time.process_time()
        built = build_study(
            request=request,
            sources=[source],
            model=source.result.model,
            manifest=package.manifest,
            settings=settings,
        )
        seconds.append(time.process_time() - start)
        sizes = [len(one.data) / 1e6 for one in built]
    return 1000 * statistics.median(seconds[1:]), sizes


def _source(package: ModelPackage) -> SourceInstance:
    """A drawn hand and an anomaly map that colours a tenth of it."""
    calibration = package.manifest.calibration
    display = (draw(PhantomKind.PLAIN, seed=1, width=_WIDTH, height=_HEIGHT).pixels >> 4).astype(np.uint8)
    anomaly_map = np.zeros((_HEIGHT, _WIDTH), np.float32)
    anomaly_map[800:1500, 700:1400] = calibration.map_ceiling
    regions = tuple(
        Region(x=700 + 90 * index, y=800 + 70 * index, width=80, height=120, score=4.0) for index in range(5)
    )
    return SourceInstance(
        dataset=_header(),
        display=display,
        source_width_px=_WIDTH,
        source_height_px=_HEIGHT,
        result=_result(package, regions),
        anomaly_map=anomaly_map,
    )


def _header() -> Dataset:
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.SOPInstanceUID = "1.2.3.4.5"
    header.StudyInstanceUID = "1.2.3"
    header.SeriesInstanceUID = "1.2.3.4"
    header.PatientName = "Bench^Mark"
    return header


def _result(package: ModelPackage, regions: tuple[Region, ...]) -> InstanceResult:
    manifest = package.manifest
    point = manifest.operating_point()
    return InstanceResult(
        sop_instance_uid="1.2.3.4.5",
        status=Status.SCORED,
        score=point.threshold + 1,
        percentile=99.0,
        novelty=1.0,
        abnormal=True,
        regions=regions,
        model=ModelIdentity(
            name=manifest.name,
            version=manifest.version,
            engine="cpu",
            precision=manifest.precision,
            parity=0.0,
            weights_sha256=package.weights_sha256,
        ),
        operating_point=OperatingPoint(
            name=point.name,
            specificity=point.specificity,
            threshold=point.threshold,
            sensitivity=point.sensitivity,
            sensitivity_low=point.sensitivity_low,
            sensitivity_high=point.sensitivity_high,
            sensitivity_statement=point.statement,
        ),
        seconds=0.1,
    )


if __name__ == "__main__":
    sys.exit(main())
