"""Pictures as DX instances: grey values, depth, orientation and identity survive."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skiagraph.wrap import NotAPictureError, wrap_picture


def test_eight_and_sixteen_bits_keep_their_values(tmp_path: Path) -> None:
    grey = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    Image.fromarray((grey % 256).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(grey * 20).save(tmp_path / "b.png")
    small, deep = wrap_picture(tmp_path / "a.png"), wrap_picture(tmp_path / "b.png")
    assert (small.BitsStored, deep.BitsStored) == (8, 16)
    assert np.array_equal(small.pixel_array, grey % 256)
    assert np.array_equal(deep.pixel_array, grey * 20)


def test_colour_becomes_luminance_and_exif_orientation_is_applied(tmp_path: Path) -> None:
    colour = np.zeros((20, 40, 3), np.uint8)
    colour[:10] = (0, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90° clockwise
    Image.fromarray(colour).save(tmp_path / "a.jpg", exif=exif, quality=95)
    dataset = wrap_picture(tmp_path / "a.jpg")
    assert (dataset.Rows, dataset.Columns) == (40, 20)
    pixels = dataset.pixel_array
    assert pixels[:, 15].mean() == pytest.approx(150, abs=4)
    assert pixels[:, 4].mean() == pytest.approx(0, abs=4)


def test_damaged_exif_leaves_a_picture_as_it_is(tmp_path: Path) -> None:
    Image.new("L", (40, 20)).save(tmp_path / "a.png", exif=b"Exif\0\0QQ*\0" + bytes(8))
    dataset = wrap_picture(tmp_path / "a.png")
    assert (dataset.Rows, dataset.Columns) == (20, 40)


def test_a_picture_beyond_the_limit_is_not_decoded(tmp_path: Path) -> None:
    Image.new("L", (40, 20)).save(tmp_path / "a.png")
    with pytest.raises(NotAPictureError, match=r"40 × 20 pixels"):
        wrap_picture(tmp_path / "a.png", max_pixels=799)


def test_the_same_picture_is_the_same_study_and_another_is_not(tmp_path: Path) -> None:
    for name, grey in (("a", 10), ("b", 10), ("c", 11)):
        Image.new("L", (30, 30), grey).save(tmp_path / f"{name}.png")
    one, same, other = (wrap_picture(tmp_path / f"{name}.png") for name in "abc")
    assert one.SOPInstanceUID == same.SOPInstanceUID
    assert one.StudyInstanceUID != other.StudyInstanceUID


# Pillow raises ValueError and struct.error for chunks that are too short.
SHORT_GAMA = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0\x3a\x7e\x9b\x55\0\0\0\2gAMA\0\1"


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n truncated", SHORT_GAMA])
def test_what_is_no_picture_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(NotAPictureError, match=r"x\.png is not a PNG or JPEG"):
        wrap_picture(tmp_path / "x.png")
