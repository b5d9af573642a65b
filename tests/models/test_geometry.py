"""The geometry: what is shown, and that the way back is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geometry import (
    Geometry,
    GeometrySpec,
    ModelInput,
    exposed_frame,
    is_blank,
    is_inverted,
    model_input,
    shrink,
)
from models.rejection import Rejection, RejectionCode
from tests.models.limbs import limb, radiograph

SIZE = 128
quick = settings(deadline=None, max_examples=30)


def shown(pixels, spec: GeometrySpec | None = None, **options) -> ModelInput:  # type: ignore[no-untyped-def]
    result = model_input(radiograph(pixels, **options), input_px=SIZE, spec=spec or GeometrySpec())
    assert isinstance(result, ModelInput)
    return result


@quick
@given(height=st.integers(60, 700), width=st.integers(60, 700), reduced=st.sampled_from([1, 2, 4]))
def test_points_come_back_exactly(height: int, width: int, reduced: int) -> None:
    geometry = shown(limb(height, width), reduced=reduced).geometry
    points = np.array([[0, 0], [width * reduced, height * reduced], [13.5, 7.25]])
    assert np.allclose(geometry.to_source(geometry.to_model(points)), points)
    first = np.array([geometry.content_x, geometry.content_y])
    source = geometry.to_source(
        np.stack([first, first + np.array([geometry.content_width, geometry.content_height])])
    )
    assert (source >= -1e-6).all()
    assert (source <= np.array([width * reduced, height * reduced]) + 1e-6).all()


@quick
@given(
    height=st.integers(200, 900),
    width=st.integers(200, 900),
    down=st.floats(0.2, 0.8),
    across=st.floats(0.2, 0.8),
    reduced=st.sampled_from([1, 2]),
)
def test_a_mark_is_found_where_it_was_drawn(
    height: int, width: int, down: float, across: float, reduced: int
) -> None:
    """Without foreground mask, a bright dot of the source peaks in the tensor, and returns to within 2 px."""
    pixels = np.full((height, width), 40, np.uint8)
    x, y = int(across * width), int(down * height)
    radius = max(4, max(height, width) // 40)
    rows, columns = np.mgrid[0:height, 0:width]
    dot = 215 * np.exp(-(((columns - x) ** 2 + (rows - y) ** 2) / radius**2))
    pixels = (pixels + dot).astype(np.uint8)
    spec = GeometrySpec(segment=False, locate=False, crop_borders=False, invert=False)
    result = shown(pixels, spec, reduced=reduced)
    back = result.geometry.map_to_source(result.tensor[0])
    assert back.shape == (height * reduced, width * reduced)
    weight = np.where(back > 0.5 * back.max(), back, 0)
    rows, columns = np.mgrid[0 : back.shape[0], 0 : back.shape[1]]
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum() + 0.5
    assert np.abs(found - reduced * np.array([x + 0.5, y + 0.5])).max() <= 2


def test_a_reduced_decode_shows_the_same_picture() -> None:
    full = limb(1000, 800, dtype=np.uint16)
    half = full.reshape(500, 2, 400, 2).mean(axis=(1, 3)).astype(np.uint16)
    one, other = shown(full), shown(half, reduced=2)
    corners = np.array([[400.0, 300.0], [500.0, 620.0]])
    assert np.abs(one.geometry.to_model(corners) - other.geometry.to_model(corners)).max() < 2
    assert np.abs(one.tensor[0] - other.tensor[0]).mean() < 0.02


def test_the_map_is_zero_outside_what_is_shown() -> None:
    geometry = Geometry(
        source_width_px=100,
        source_height_px=80,
        input_px=40,
        scale_x=1.0,
        scale_y=1.0,
        offset_x=-20.0,
        offset_y=-10.0,
        content_x=0,
        content_y=0,
        content_width=40,
        content_height=40,
    )
    back = geometry.map_to_source(np.ones((10, 10), np.float32))
    assert back[10:50, 20:60].min() == 1
    assert back.sum() == 40 * 40


def test_the_limb_fills_the_square_and_the_ground_is_zero() -> None:
    grey, mask = shown(limb(600, 500)).tensor
    assert 0.15 < mask.mean() < 0.7
    assert grey[mask == 0].max() == 0
    assert grey.max() == pytest.approx(1, abs=0.02)
    assert max(mask.any(axis=0).sum(), mask.any(axis=1).sum()) > 0.85 * SIZE


def test_each_step_can_be_switched_off() -> None:
    pixels = limb(600, 500)
    whole = shown(pixels, GeometrySpec(segment=False, locate=False, crop_borders=False))
    assert whole.geometry.content_height == SIZE
    assert whole.tensor[1, :, SIZE // 2].all()
    assert shown(pixels).geometry.content_width < whole.geometry.content_width


def test_unknown_polarity_is_guessed_and_known_polarity_is_left_alone() -> None:
    pixels = limb(600, 500)
    plain = shown(pixels, polarity_known=False).tensor
    turned = shown(255 - pixels, polarity_known=False).tensor
    assert np.abs(plain - turned).max() < 0.02
    assert not is_inverted(shrink(pixels, 320))
    left_alone = shown(255 - pixels, polarity_known=True).tensor
    assert np.abs(plain - left_alone).mean() > 0.1


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_blank_radiograph_is_rejected(level: int) -> None:
    result = model_input(radiograph(np.full((300, 200), level, np.uint8)), input_px=SIZE, spec=GeometrySpec())
    assert isinstance(result, Rejection)
    assert result.code is RejectionCode.BLANK


def test_a_faint_radiograph_is_not_blank() -> None:
    assert not is_blank(np.float32([[10, 20], [30, 40]]), full_range=255)


def test_a_film_border_is_cut_and_a_limb_at_the_edge_is_not() -> None:
    work = shrink(limb(320, 320), 320)
    assert exposed_frame(work).top == 0
    work[:12] = 255
    work[:, -9:] = 255
    frame = exposed_frame(work)
    assert 12 <= frame.top <= 14
    assert 306 <= frame.right <= 311


def test_one_pixel_and_extreme_shapes_do_not_break() -> None:
    for shape in [(1, 1), (1, 500), (500, 1), (3000, 20)]:
        pixels = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
        result = model_input(radiograph(pixels), input_px=SIZE, spec=GeometrySpec())
        if isinstance(result, ModelInput):
            assert np.isfinite(result.tensor).all()
        else:
            assert shape == (1, 1)


def test_an_unknown_step_is_named() -> None:
    assert GeometrySpec.from_manifest({"segment": False}) == GeometrySpec(segment=False)
    with pytest.raises(ValueError, match="sharpen"):
        GeometrySpec.from_manifest({"sharpen": True})
