"""How often the input gate lets in what it should and keeps out what it should not, with intervals."""

from collections.abc import Iterable
from math import sqrt
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.gate import decide, picture_thumbnail, work_copy
from models.package import Gate
from models.train.errors import DataError
from models.train.gate_data import Kind, labelled_files
from models.train.gate_draw import BODY_PARTS, NOT_RADIOGRAPHS

FloatArray = NDArray[np.float32]
Rate = dict[str, float]

_DRAWN = 100  # of each kind
_DRAWN_SEED = 20_261_122  # not a training epoch's


def evaluate_gate(folder: Path, *, data: Path) -> dict[str, Any]:
    """Rates with 95 % intervals (Wilson) of the gate in `folder`, on the validation split and fresh drawings.

    `accepted`: share let in, by what was shown, turned by 0°, 90°, 180°, 270° in both polarities;
    `reasons`: how often each class was the likeliest.
    """
    gate = Gate.model_validate_json((folder / "gate.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(folder / "gate.onnx"), providers=["CPUExecutionProvider"])

    def probabilities(thumbnails: Iterable[FloatArray]) -> FloatArray:
        return np.concatenate(
            [session.run(["probabilities"], {"thumbnail": one[np.newaxis]})[0] for one in thumbnails]
        )

    shown: dict[str, list[FloatArray]] = {}
    for row in labelled_files(data, "val"):
        pixels = cv2.imread(str(row.path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise DataError(f"{row.path} cannot be read: restore it, or leave it out of the table")
        picture = work_copy(np.asarray(pixels, dtype=np.uint8))
        name = row.kind.name.lower() if row.region == "hand" else row.region
        names = [name]
        if row.kind is Kind.HAND:
            names += ["hand fractured" if row.abnormal else "hand normal", row.view]
        for inverted in (False, True):
            upright = 255 - picture if inverted else picture
            for quarter in range(4):
                turned = np.ascontiguousarray(np.rot90(upright, quarter))
                seen = picture_thumbnail(turned, gate.thumbnail_px)
                suffix = " as it is" if quarter == 0 and not inverted else ""
                for one in names:
                    shown.setdefault(one, []).append(seen)
                    if suffix:
                        shown.setdefault(one + suffix, []).append(seen)
    rng = np.random.default_rng(_DRAWN_SEED)
    for draw in (*NOT_RADIOGRAPHS, *BODY_PARTS):
        pictures = [np.clip(draw(rng, *_size(rng)), 0, 1).astype(np.float32) for _ in range(_DRAWN)]
        shown.setdefault(f"drawn {draw.__name__}", []).extend(
            picture_thumbnail(p, gate.thumbnail_px) for p in pictures
        )
    accepted: dict[str, Rate] = {}
    reasons: dict[str, dict[str, int]] = {}
    names_of = [kind.name for kind in gate.classes]
    for name, thumbnails in shown.items():
        found = probabilities(thumbnails)
        passed = sum(decide(one, gate) is None for one in found)
        accepted[name] = rate(passed, len(found))
        votes = np.bincount(found.argmax(axis=1), minlength=len(names_of))
        reasons[name] = {names_of[index]: int(count) for index, count in enumerate(votes) if count}
    return {"threshold": gate.threshold, "accepted": accepted, "reasons": reasons}


def rate(hits: int, of: int) -> Rate:
    """A share with its 95 % Wilson interval."""
    z, share = 1.96, hits / of
    middle, spread = share + z * z / (2 * of), z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return {"rate": share, "low": (middle - spread) / scale, "high": (middle + spread) / scale, "of": of}


def _size(rng: np.random.Generator) -> tuple[int, int]:
    return (288, int(rng.integers(180, 289))) if rng.random() < 0.5 else (int(rng.integers(180, 289)), 288)
