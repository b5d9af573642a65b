"""Pictures of every kind through real HTTP: the right answer, or a problem that says why; never a 500."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from runners.decode import decode
from runners.decoded import Decoded, DecodeLimits
from service.contract import Problem, RadiographResult, Region
from tests.runners.radiographs import dicom_file, drawn

HUNDRED_MEGAPIXELS = 10_000
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def grey(shared_data: Path) -> Image.Image:
    """A real hand, 8 bits, small enough to be scored often."""
    path = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    decoded = decode(path.read_bytes(), limits=DecodeLimits(), long_side_px=1000)
    assert isinstance(decoded, Decoded)
    return Image.fromarray((decoded.radiograph.pixels >> 8).astype(np.uint8))


@pytest.fixture(scope="module")
def reference(http: httpx.Client, grey: Image.Image) -> RadiographResult:
    return RadiographResult.model_validate_json(http.post("/v1/score", content=saved(grey, "PNG")).content)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def sixteen_bits(grey: Image.Image) -> bytes:
    return saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")


def turned(grey: Image.Image, orientation: int = 6) -> bytes:
    """Stored on its side, with the EXIF orientation that says how to put it upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(grey.rotate(90, expand=True), "JPEG", quality=98, exif=exif)


def animated(grey: Image.Image) -> bytes:
    other = Image.fromarray(255 - np.asarray(grey))
    return saved(grey, "PNG", save_all=True, append_images=[other], duration=100)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", content)
    return file.getvalue()


PDF = b"%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"
SAME: dict[str, Callable[[Image.Image], bytes]] = {
    "png of 16 bits": sixteen_bits,
    "png with a palette": lambda grey: saved(grey.convert("P"), "PNG"),
    "png in colours": lambda grey: saved(grey.convert("RGB"), "PNG"),
    "png with transparency": lambda grey: saved(grey.convert("RGBA"), "PNG"),
    "jpeg in colours": lambda grey: saved(grey.convert("RGB"), "JPEG", quality=98),
    "jpeg in cmyk": lambda grey: saved(grey.convert("CMYK"), "JPEG", quality=98),
    "jpeg, progressive": lambda grey: saved(grey, "JPEG", quality=98, progressive=True),
    "jpeg, turned by exif": turned,
    "animated png: its first picture": animated,
    "png with a zip behind it": lambda grey: saved(grey, "PNG") + zipped(b"x"),
    "jpeg with a pdf behind it": lambda grey: saved(grey, "JPEG", quality=98) + PDF,
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_the_same_radiograph_in_another_picture_has_the_same_answer(
    http: httpx.Client, grey: Image.Image, reference: RadiographResult, make: Callable[[Image.Image], bytes]
) -> None:
    answer = http.post("/v1/score", content=make(grey))
    assert answer.status_code == 200, answer.text
    result = RadiographResult.model_validate_json(answer.content)
    assert result.score is not None
    assert reference.score is not None
    # A JPEG is not its original, and a palette has 256 colours only.
    assert abs(result.score - reference.score) < 0.05
    assert result.abnormal == reference.abnormal
    assert overlap(result.regions, reference.regions) > 0.5


def overlap(some: tuple[Region, ...], others: tuple[Region, ...]) -> float:
    """Intersection over union of what two sets of regions cover, in one frame; 1 where both are empty."""
    frame = np.zeros((2, 1100, 1100), bool)
    for layer, regions in zip(frame, (some, others), strict=True):
        for region in regions:
            layer[
                int(region.y) : int(region.y + region.height), int(region.x) : int(region.x + region.width)
            ] = True
    union = float((frame[0] | frame[1]).sum())
    return float((frame[0] & frame[1]).sum()) / union if union else 1.0


def test_a_turned_jpeg_is_drawn_and_measured_upright(http: httpx.Client, grey: Image.Image) -> None:
    overlay = Image.open(io.BytesIO(http.post("/v1/heatmap?map=raw", content=turned(grey)).content))
    assert overlay.size == grey.size


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(side: int = HUNDRED_MEGAPIXELS) -> bytes:
    rows = zlib.compress(bytes(1_000_000), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return PNG + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_bomb() -> bytes:
    small = bytearray(saved(Image.fromarray(drawn(bits=8).astype(np.uint8)), "JPEG"))
    frame = small.index(b"\xff\xc0")
    small[frame + 5 : frame + 9] = struct.pack(">HH", HUNDRED_MEGAPIXELS, HUNDRED_MEGAPIXELS)
    return bytes(small)


def text_bomb() -> bytes:
    """A picture whose comment unfolds to 200 MB."""
    good = saved(Image.fromarray(drawn(bits=8).astype(np.uint8)), "PNG")
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    return good[:33] + comment + good[33:]


def in_preamble(words: bytes) -> bytes:
    file = dicom_file(drawn())
    return words.ljust(128, b"\0") + file[128:]


def small_png() -> bytes:
    return saved(Image.fromarray(drawn(bits=8).astype(np.uint8)), "PNG")


GOOD_PNG = small_png()
REFUSED: dict[str, tuple[bytes, set[str]]] = {
    "no bytes": (b"", {"empty"}),
    "one byte": (b"\x89", {"not_an_image"}),
    "png signature alone": (PNG, {"undecodable"}),
    "png of 100 megapixels": (png_bomb(), {"too_large"}),
    "png of 4 gigapixels a side": (png_bomb(0x7FFFFFFF), {"too_large"}),
    "jpeg of 100 megapixels": (jpeg_bomb(), {"too_large"}),
    "dicom of 100 megapixels": (dicom_file(drawn(), Rows=10_000, Columns=10_000), {"too_large"}),
    "png of no pixels": (png_bomb(0), {"undecodable"}),
    "png with a comment of 200 MB": (text_bomb(), {"undecodable", "not_a_hand", "not_a_radiograph"}),
    "deflated dicom of 200 MB": (
        dicom_file(np.zeros((10_000, 10_000), np.uint16), syntax=DeflatedExplicitVRLittleEndian),
        {"too_large"},
    ),
    "truncated png": (GOOD_PNG[: len(GOOD_PNG) // 2], {"truncated", "undecodable"}),
    "truncated dicom": (dicom_file(drawn())[:-1000], {"truncated"}),
    "png of one pixel": (saved(Image.new("L", (1, 1)), "PNG"), {"blank"}),
    "white png": (saved(Image.new("L", (300, 300), 255), "PNG"), {"blank"}),
    "pdf with a jpeg in it": (
        PDF + saved(Image.fromarray(drawn(bits=8).astype(np.uint8)), "JPEG"),
        {"not_an_image"},
    ),
    "zip with a png in it": (zipped(GOOD_PNG), {"not_an_image"}),
    "png that says DICM where DICOM does": (
        GOOD_PNG[:128] + b"DICM" + GOOD_PNG[132:],
        {"truncated", "undecodable", "unsupported_sop_class"},
    ),
    "gif": (saved(Image.new("L", (64, 64)), "GIF"), {"not_an_image"}),
    "webp": (saved(Image.new("L", (64, 64)), "WEBP"), {"not_an_image"}),
    "bmp": (saved(Image.new("L", (64, 64)), "BMP"), {"not_an_image"}),
    "tiff": (saved(Image.new("L", (64, 64)), "TIFF"), {"not_an_image"}),
    "svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        {"not_an_image"},
    ),
    "html": (b"<!doctype html><img src=http://127.0.0.1/>", {"not_an_image"}),
    "an address": (b"http://127.0.0.1:9/hand.dcm", {"not_an_image"}),
    "json": (b'{"url": "http://127.0.0.1:9/hand.dcm"}', {"not_an_image"}),
}


@pytest.mark.parametrize(("body", "codes"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("route", ["/v1/score", "/v1/heatmap"])
def test_what_is_no_picture_of_a_radiograph_is_a_problem(
    http: httpx.Client, route: str, body: bytes, codes: set[str]
) -> None:
    answer = http.post(route, content=body)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert problem.code in codes
    assert problem.detail
    assert problem.field == "body"
    assert problem.fix
    assert RadiographResult.model_validate(answer.json()["result"]).reason_code == problem.code


@pytest.mark.parametrize(
    "words", [b"II*\0\x08\0\0\0", PNG, b"\xff\xd8\xff\xe0", b"%PDF-1.4", b"<html>"], ids=repr
)
def test_whatever_a_preamble_holds_a_dicom_file_is_read_as_one(http: httpx.Client, words: bytes) -> None:
    """PS3.10 7.1 allows a TIFF header there."""
    plain, dressed = (
        http.post("/v1/score", content=content) for content in (in_preamble(b""), in_preamble(words))
    )
    assert dressed.status_code == plain.status_code
    assert dressed.json().get("code") == plain.json().get("code")


def test_a_one_bit_picture_is_an_answer_of_either_kind(http: httpx.Client, grey: Image.Image) -> None:
    answer = http.post("/v1/score", content=saved(grey.convert("1"), "PNG"))
    assert answer.status_code in (200, 422)
    result = answer.json() if answer.is_success else answer.json()["result"]
    assert RadiographResult.model_validate(result)
