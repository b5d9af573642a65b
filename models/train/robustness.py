"""Score and verdict under changes that should not matter."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.geometry import GeometrySpec, model_input
from models.package import ModelPackage
from models.radiograph import Radiograph
from models.rejection import Rejection
from models.train.data import ByteArray
from models.train.errors import DataError
from models.train.evaluate import open_graph
from models.train.sources import read_source


def robustness(package: ModelPackage, *, data: Path) -> dict[str, dict[str, float]]:
    """Rank correlation of the score and share of verdicts flipped, per change, on validation hand views."""
    spec = GeometrySpec.from_manifest(package.manifest.geometry)
    session = open_graph(package)
    threshold = package.manifest.operating_point().threshold
    pictures = [
        np.asarray(cv2.imread(str(s.path), cv2.IMREAD_GRAYSCALE), np.uint8)
        for s in read_source(data)
        if s.split == "val" and s.is_hand
    ]

    def scores(change: Callable[[ByteArray], ByteArray]) -> NDArray[np.float32]:
        found = []
        for picture in pictures:
            tensor = _shown(change(picture), package.manifest.input_px, spec)
            found.append(session.run(["score"], {"radiograph": tensor[None]})[0][0])
        return np.array(found, np.float32)

    plain = scores(lambda picture: picture)
    table = {}
    for name, change in _CHANGES.items():
        changed = scores(change)
        table[name] = {
            "rank_correlation": rank_correlation(plain, changed),
            "verdicts_flipped": float(((plain > threshold) != (changed > threshold)).mean()),
        }
    return table


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's; scores of different radiographs are taken as untied."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def _shown(picture: ByteArray, input_px: int, spec: GeometrySpec) -> NDArray[np.float32]:
    radiograph = Radiograph(
        pixels=picture,
        source_width_px=picture.shape[1],
        source_height_px=picture.shape[0],
        polarity_known=False,
    )
    shown = model_input(radiograph, input_px=input_px, spec=spec)
    if isinstance(shown, Rejection):
        raise DataError(f"a validation radiograph cannot be used: {shown.reason}")
    return shown.tensor


def _jpeg(picture: ByteArray) -> ByteArray:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def _moved(picture: ByteArray, *, shift: float = 0.0, degrees: float = 0.0) -> ByteArray:
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    matrix = matrix + np.array([[0, 0, shift], [0, 0, shift]])
    moved = cv2.warpAffine(
        picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)


def _levels(picture: ByteArray, *, factor: float, around: float = 0.0) -> ByteArray:
    """Brighter or darker; around mid-grey: more or less contrast."""
    return np.asarray(np.clip(np.rint((picture - around) * factor + around), 0, 255), np.uint8)


_CHANGES: Mapping[str, Callable[[ByteArray], ByteArray]] = {
    "JPEG quality 90": _jpeg,
    "2 % brighter": lambda picture: _levels(picture, factor=1.02),
    "2 % darker": lambda picture: _levels(picture, factor=0.98),
    "2 % more contrast": lambda picture: _levels(picture, factor=1.02, around=127.5),
    "2 % less contrast": lambda picture: _levels(picture, factor=0.98, around=127.5),
    "shifted by 5 px": lambda picture: _moved(picture, shift=5),
    "turned by 3°": lambda picture: _moved(picture, degrees=3),
    "inverted": lambda picture: np.asarray(255 - picture, np.uint8),
}
