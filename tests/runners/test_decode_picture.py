"""Decoding of PNG and JPEG: each kind to the right grey, each bad one to its reason."""

import csv
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from models.rejection import Rejection, RejectionCode
from runners.decode import decode
from runners.decoded import Decoded, DecodeLimits
from tests.runners.radiographs import drawn

LIMITS = DecodeLimits(max_pixels=4_000_000)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    decoded = decode(data, limits=LIMITS)
    assert isinstance(decoded, Decoded), decoded
    assert not decoded.radiograph.polarity_known
    return decoded.radiograph.pixels


GREY = drawn(bits=8).astype(np.uint8)


def test_grey_png_of_eight_and_sixteen_bits_is_exact() -> None:
    deep = drawn(bits=16)
    assert np.array_equal(pixels(saved(Image.fromarray(GREY), "PNG")), GREY)
    assert np.array_equal(pixels(saved(Image.fromarray(deep), "PNG")), deep)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_grey_in_another_mode_stays_grey(mode: str) -> None:
    picture = Image.fromarray(GREY).convert(mode)
    data = saved(picture, "JPEG", quality=95) if mode == "CMYK" else saved(picture, "PNG")
    assert np.abs(pixels(data).astype(int) - GREY).max() <= (4 if mode == "CMYK" else 1)


def test_colours_of_a_palette_are_looked_up() -> None:
    indices = Image.fromarray((GREY > 100).astype(np.uint8), "P")
    indices.putpalette([250, 250, 250, 10, 10, 10])
    assert set(np.unique(pixels(saved(indices, "PNG")))) == {10, 250}


def test_one_bit_png() -> None:
    seen = pixels(saved(Image.fromarray(GREY > 100), "PNG"))
    assert set(np.unique(seen)) == {0, 255}


def test_transparency_is_black() -> None:
    picture = Image.new("RGBA", (40, 30), (255, 255, 255, 0))
    picture.paste((200, 200, 200, 255), (10, 10, 20, 20))
    seen = pixels(saved(picture, "PNG"))
    assert seen[0, 0] == 0
    assert seen[15, 15] == 200


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_undone(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(GREY), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(data), np.asarray(upright))


def test_damaged_exif_does_no_harm() -> None:
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nnot hexadecimal")
    assert np.array_equal(pixels(saved(Image.fromarray(GREY), "PNG", pnginfo=text)), GREY)


def test_exif_orientation_is_undone_where_the_rest_is_damaged() -> None:
    orientation, words_as_resolution = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), b"\x1a\1\2\0\1\0\0\0a\0\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\2\0" + orientation + words_as_resolution + bytes(4)
    seen = pixels(saved(Image.fromarray(GREY), "JPEG", quality=95, exif=exif))
    assert np.abs(seen.astype(int) - np.rot90(GREY, -1)).max() <= 4


def test_name_and_declared_kind_do_not_matter_content_does() -> None:
    assert np.array_equal(pixels(saved(Image.fromarray(GREY), "PNG") + b"trailing"), GREY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_picture_is_found_not_half_decoded(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 200), np.uint8)
    data = saved(Image.fromarray(noise), kind)
    for share in (0.3, 0.6, 0.95):
        rejection = decode(data[: int(share * len(data))], limits=LIMITS)
        assert isinstance(rejection, Rejection)
        assert rejection.code is RejectionCode.TRUNCATED


def test_hundred_megapixel_png_is_refused_by_its_header() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    rejection = decode(data, limits=LIMITS)
    assert isinstance(rejection, Rejection)
    assert rejection.code is RejectionCode.TOO_LARGE


def test_damaged_pictures_are_never_an_exception() -> None:
    dice = np.random.default_rng(7)
    for kind in ("PNG", "JPEG"):
        good = saved(Image.fromarray(GREY), kind)
        for _ in range(100):
            bad = bytearray(good)
            for place in dice.integers(0, len(bad), 5):
                bad[place] = dice.integers(0, 256)
            assert isinstance(decode(bytes(bad), limits=LIMITS), Decoded | Rejection)


def test_every_truncated_radiograph_of_the_data_is_found(shared_data: Path) -> None:
    folder = shared_data / "fracatlas"
    with (folder / "labels.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file) if row["split"] == "corrupt"]
    assert names
    for name in names:
        rejection = decode((folder / "images" / name).read_bytes(), limits=LIMITS)
        assert isinstance(rejection, Rejection), name
        assert rejection.code is RejectionCode.TRUNCATED
