"""The committed gate on real instances and drawings: hands in, everything else out with a reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from models.gate import decide, thumbnail
from models.package import Gate
from models.radiograph import Radiograph
from models.rejection import Rejection, RejectionCode
from models.train.evaluation_gate import gate_section
from models.train.gate_draw import BODY_PARTS, NOT_RADIOGRAPHS
from runners.decode import decode
from runners.decoded import Decoded, DecodeLimits
from skiagraph.phantom import PhantomKind, draw

FOLDER = Path(__file__).resolve().parents[2] / "models" / "gates" / "hand"
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Ask = Callable[[Radiograph], Rejection | None]


def radiograph(pixels: Pixels) -> Radiograph:
    height, width = pixels.shape
    return Radiograph(pixels=pixels, source_width_px=width, source_height_px=height, polarity_known=False)


def sample(path: Path) -> Radiograph:
    decoded = decode(path.read_bytes(), limits=DecodeLimits(), long_side_px=800)
    assert isinstance(decoded, Decoded)
    return decoded.radiograph


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(FOLDER / "gate.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def ask(session: onnxruntime.InferenceSession) -> Ask:
    gate = Gate.model_validate_json((FOLDER / "gate.json").read_text(encoding="utf-8"))

    def answer(one: Radiograph) -> Rejection | None:
        seen = thumbnail(one, gate.thumbnail_px)[np.newaxis]
        return decide(session.run(["probabilities"], {"thumbnail": seen})[0][0], gate)

    return answer


def test_the_golden_outputs_are_reproduced(session: onnxruntime.InferenceSession) -> None:
    golden = np.load(FOLDER / "gate_golden.npz")
    found = session.run(["probabilities"], {"thumbnail": golden["thumbnail"]})[0]
    np.testing.assert_allclose(found, golden["probabilities"], atol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("inverted", [False, True])
def test_the_real_hand_is_let_in(ask: Ask, shared_data: Path, quarter: int, inverted: bool) -> None:
    pixels = sample(shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm").pixels
    turned = np.ascontiguousarray(np.rot90(pixels, quarter))
    shown = np.asarray(turned.max() - turned if inverted else turned, dtype=pixels.dtype)
    assert ask(radiograph(shown)) is None


@pytest.mark.parametrize(
    "name",
    [
        "chest_canon_dx_mono1_j2kr.dcm",
        "dental_cr_mono1_modalitylut_jpll.dcm",
        "rg3_ankle_fuji_mono1_j2kr.dcm",
        "rg3_ankle_fuji_mono1_jlsl.dcm",
        "rg3_ankle_fuji_mono1_rle.dcm",
        "thorax_fuji_dx_small.dcm",
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_real_radiographs_of_other_parts_are_refused(
    ask: Ask, shared_data: Path, name: str, inverted: bool
) -> None:
    pixels = sample(shared_data / "dicom" / name).pixels
    shown = np.asarray(pixels.max() - pixels if inverted else pixels, dtype=pixels.dtype)
    refused = ask(radiograph(shown))
    assert refused is not None
    assert refused.code in (RejectionCode.NOT_A_HAND, RejectionCode.FOREARM, RejectionCode.NOT_A_RADIOGRAPH)


def test_drawn_negatives_are_refused(ask: Ask) -> None:
    rng = np.random.default_rng(987)
    passed = []
    for make in (*NOT_RADIOGRAPHS, *BODY_PARTS):
        for _ in range(8):
            picture = np.clip(make(rng, 280, 220), 0, 1)
            if ask(radiograph((picture * 65535).astype(np.uint16))) is None:
                passed.append(make.__name__)
    assert len(passed) <= 2, passed


@pytest.mark.parametrize("kind", list(PhantomKind))
def test_phantoms_are_let_in_although_no_gate_was_trained_on_them(ask: Ask, kind: PhantomKind) -> None:
    refused = [
        seed
        for seed in range(4)
        if ask(radiograph(draw(kind, seed=seed, laterality="L" if seed % 2 else "R").pixels)) is not None
    ]
    assert refused == []


def test_validation_radiographs_of_hands_are_let_in_and_other_bones_are_not(shared_data: Path) -> None:
    rows = [line.split("|")[1:4] for line in gate_section(shared_data / "fracatlas").splitlines()]
    share = {row[0].strip(): float(row[2].split("%")[0]) for row in rows if len(row) == 3 and "%" in row[2]}
    assert share["hands"] >= 98
    assert share["legs, hips and shoulders"] <= 8
    assert share["noise, blank films, scenes, text, drawn"] <= 1


def test_data_without_labels_has_no_gate_section(tmp_path: Path) -> None:
    assert gate_section(tmp_path) == ""
