"""From the graph's numbers to what is said of a radiograph: percentile, verdict, regions."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.geometry import Geometry
from models.package import Calibration, Manifest, OperatingPoint
from models.radiograph import Region

_MOST_REGIONS = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the model says of one radiograph; percentiles are 0..100 among held-out normals.

    abnormal: `score` is above the operating point; `novelty` (unusual positioning or technique) never
    changes it.
    """

    score: float
    percentile: float
    novelty: float
    novelty_percentile: float
    abnormal: bool
    regions: tuple[Region, ...]


def interpret(
    *,
    score: float,
    novelty: float,
    anomaly_map: NDArray[np.floating],
    geometry: Geometry,
    manifest: Manifest,
    operating_point: OperatingPoint,
) -> Finding:
    """Read one row of the graph's outputs with the calibration of its package."""
    calibration = manifest.calibration
    return Finding(
        score=score,
        percentile=percentile(score, calibration.score_quantiles),
        novelty=novelty,
        novelty_percentile=percentile(novelty, calibration.novelty_quantiles),
        abnormal=score > operating_point.threshold,
        regions=find_regions(anomaly_map, geometry, calibration),
    )


def percentile(value: float, quantiles: tuple[float, ...]) -> float:
    """0..100: where a value lies among normals; quantiles: one per percent, rising."""
    return float(np.interp(value, quantiles, np.linspace(0, 100, len(quantiles))))


def find_regions(
    anomaly_map: NDArray[np.floating], geometry: Geometry, calibration: Calibration
) -> tuple[Region, ...]:
    """At most five rectangles in source pixels around what exceeds the region threshold, highest peak first.

    The map (h, w) is zero outside the mask, so that no region lies there.
    """
    above = (anomaly_map > calibration.region_threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    cell_x = geometry.input_px / anomaly_map.shape[1]
    cell_y = geometry.input_px / anomaly_map.shape[0]
    regions = []
    for label in range(1, count):
        x, y, width, height = (int(value) for value in stats[label][:4])
        corners = np.array([(x * cell_x, y * cell_y), ((x + width) * cell_x, (y + height) * cell_y)])
        limits = (geometry.source_width_px, geometry.source_height_px)
        (left, top), (right, bottom) = np.clip(geometry.to_source(corners), 0, limits)
        if right <= left or bottom <= top:
            continue
        regions.append(
            Region(
                x=float(left),
                y=float(top),
                width=float(right - left),
                height=float(bottom - top),
                score=float(anomaly_map[labels == label].max()),
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.score)[:_MOST_REGIONS])
