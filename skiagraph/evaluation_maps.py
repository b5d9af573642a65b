"""The example maps of docs/evaluation.md: every package on phantoms that this project draws."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.geometry import GeometrySpec, ModelInput, model_input
from models.package import ModelPackage, available
from models.radiograph import Radiograph
from skiagraph.phantom import Phantom, PhantomKind, draw

_SEEDS = {PhantomKind.PLAIN: 21, PhantomKind.FRACTURE: 12, PhantomKind.FOREIGN_BODY: 12}  # as docs/results.md
_WIDTH, _LABEL = 200, 22  # pixels of one picture, and of the line above a row
Picture = NDArray[np.uint8]


def draw_maps(path: Path) -> None:
    """One row a package, one column a phantom; the planted defect in a box."""
    phantoms = [draw(kind, seed=seed) for kind, seed in _SEEDS.items()]
    rows = []
    for folder in available():
        package = ModelPackage.open(folder)
        row = np.hstack([_shown(phantom, package) for phantom in phantoms])
        label = np.zeros((_LABEL, row.shape[1], 3), np.uint8)
        text = f"{package.manifest.name}: {', '.join(_SEEDS)}".replace("_", " ")
        cv2.putText(label, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        rows += [label, row]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])


def _shown(phantom: Phantom, package: ModelPackage) -> Picture:
    height, width = phantom.pixels.shape
    radiograph = Radiograph(
        pixels=phantom.pixels, source_width_px=width, source_height_px=height, polarity_known=True
    )
    manifest = package.manifest
    given = model_input(
        radiograph, input_px=manifest.input_px, spec=GeometrySpec.from_manifest(manifest.geometry)
    )
    if not isinstance(given, ModelInput):
        raise ValueError(f"{manifest.name} takes nothing of a phantom: {given.reason}")
    session = onnxruntime.InferenceSession(package.folder / "model.onnx", providers=["CPUExecutionProvider"])
    (anomaly_map,) = session.run(["anomaly_map"], {"radiograph": given.tensor[np.newaxis]})
    found = given.geometry.map_to_source(anomaly_map[0])
    floor, ceiling = manifest.calibration.map_floor, manifest.calibration.map_ceiling
    strength = np.clip((found - floor) / max(ceiling - floor, 1e-12), 0, 1)[..., np.newaxis]
    grey = cv2.normalize(phantom.pixels, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    colour = cv2.applyColorMap((255 * strength[..., 0]).astype(np.uint8), cv2.COLORMAP_INFERNO)
    picture = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) * (1 - 0.6 * strength), np.float32)
    shown = np.clip(picture + 0.8 * strength * colour, 0, 255).astype(np.uint8)
    for box in phantom.truth:
        corner = (round(box.x + box.width), round(box.y + box.height))
        cv2.rectangle(shown, (round(box.x), round(box.y)), corner, (80, 220, 80), 6)
    return np.asarray(cv2.resize(shown, (_WIDTH, round(height * _WIDTH / width))), np.uint8)
