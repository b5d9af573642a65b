"""Decoding of DICOM: every transfer syntax, every step from stored value to brightness, every refusal."""

import io
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
)

from models.rejection import Rejection, RejectionCode
from runners.decode import decode
from runners.decode_dicom import OUR_DEVICE_UID
from runners.decoded import Decoded, DecodeLimits
from service.contract import DEVICE_UID
from tests.runners.radiographs import LOSSLESS, NATIVE, dicom_file, drawn, encoded

LIMITS = DecodeLimits(max_pixels=4_000_000)
FULL = 65535


def pixels(data: bytes, *, long_side_px: int | None = None) -> np.ndarray:
    decoded = decode(data, limits=LIMITS, long_side_px=long_side_px)
    assert isinstance(decoded, Decoded), decoded
    return decoded.radiograph.pixels


def refusal(data: bytes) -> RejectionCode:
    rejection = decode(data, limits=LIMITS)
    assert isinstance(rejection, Rejection), rejection
    return rejection.code


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS])
def test_every_lossless_transfer_syntax_gives_the_same_brightness(syntax: str) -> None:
    stored = drawn()
    expected = np.rint((stored / 1.0 - stored.min()) / (stored.max() - stored.min()) * FULL)
    assert np.array_equal(pixels(dicom_file(stored, syntax=syntax)), expected)


def test_twelve_bit_jpeg_extended_keeps_twelve_bits() -> None:
    stored = drawn(bits=12)
    header = {"WindowCenter": 2048, "WindowWidth": 4096}
    exact = pixels(dicom_file(stored, **header)).astype(int)
    lossy = pixels(dicom_file(stored, syntax=JPEGExtended12Bit, **header)).astype(int)
    assert np.abs(exact - lossy).max() < 0.01 * FULL


def test_jpeg_baseline_of_eight_bits() -> None:
    stored = drawn(bits=8).astype(np.uint8)
    header = {"WindowCenter": 128, "WindowWidth": 256}
    exact = pixels(dicom_file(stored, **header)).astype(int)
    lossy = pixels(dicom_file(stored, syntax=JPEGBaseline8Bit, **header)).astype(int)
    assert np.abs(exact - lossy).max() < 0.02 * FULL


def test_jpeg_2000_is_decoded_at_half_size_where_that_is_enough() -> None:
    stored = drawn(400, 300)
    header = {"WindowCenter": 2048, "WindowWidth": 4096}
    file = dicom_file(stored, syntax=JPEG2000Lossless, **header)
    decoded = decode(file, limits=LIMITS, long_side_px=250)
    assert isinstance(decoded, Decoded)
    radiograph = decoded.radiograph
    assert radiograph.pixels.shape == (200, 150)
    assert (radiograph.source_width_px, radiograph.source_height_px) == (300, 400)
    averaged = pixels(file).reshape(200, 2, 150, 2).mean(axis=(1, 3))
    assert np.abs(radiograph.pixels - averaged).max() < 0.01 * FULL
    assert pixels(file, long_side_px=400).shape == (400, 300)


@pytest.mark.parametrize("bits", [5, 8, 12])
def test_jpeg_2000_of_any_depth_in_sixteen_bits(bits: int) -> None:
    stored = drawn(bits=bits).astype(np.uint8 if bits <= 8 else np.uint16)
    stream = imagecodecs.jpeg2k_encode(
        stored, level=0, reversible=True, codecformat="j2k", bitspersample=bits
    )
    header = {"BitsStored": bits, "HighBit": bits - 1}
    words = stored.astype(np.uint16)
    file = dicom_file(words, syntax=JPEG2000Lossless, PixelData=_item(stream), **header)
    assert np.array_equal(pixels(file), pixels(dicom_file(words, **header)))


@pytest.mark.parametrize(("levels", "shape"), [(0, (400, 300)), (1, (200, 150)), (5, (100, 75))])
def test_jpeg_2000_is_halved_no_oftener_than_it_can_be(levels: int, shape: tuple[int, int]) -> None:
    stored = drawn(400, 300)
    stream = imagecodecs.jpeg2k_encode(
        stored, level=0, reversible=True, codecformat="j2k", resolutions=levels + 1
    )
    file = dicom_file(stored, syntax=JPEG2000Lossless, PixelData=_item(stream))
    assert pixels(file, long_side_px=100).shape == shape


def test_window_clips_and_spreads() -> None:
    stored = np.array([[0, 1000, 1500, 2000, 4095]], np.uint16)
    seen = pixels(dicom_file(stored, WindowCenter=1500, WindowWidth=1000))
    # PS3.3 C.11.2.1.2.1: black at c - .5 - (w - 1) / 2, white at c - .5 + (w - 1) / 2.
    low, span = 1500 - 0.5 - 999 / 2, 999
    assert seen[0].tolist() == [0, 0, round((1500 - low) / span * FULL), FULL, FULL]


def test_first_of_several_windows_is_taken() -> None:
    stored = drawn()
    one = pixels(dicom_file(stored, WindowCenter=1500, WindowWidth=1000))
    several = pixels(dicom_file(stored, WindowCenter=[1500, 10], WindowWidth=[1000, 20]))
    assert np.array_equal(one, several)


@pytest.mark.parametrize(("center", "width"), [(100_000, 10), (2048, 0), (2048, -5), (-5000, 100)], ids=str)
def test_a_window_that_shows_nothing_is_left_out(center: int, width: int) -> None:
    stored = drawn()
    assert np.array_equal(
        pixels(dicom_file(stored, WindowCenter=center, WindowWidth=width)), pixels(dicom_file(stored))
    )


@pytest.mark.parametrize(
    "header",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
    ids=["monochrome1", "inverse", "both, which is one inversion"],
)
def test_polarity_is_turned_once(header: dict[str, str]) -> None:
    stored = drawn()
    assert np.array_equal(pixels(dicom_file(stored, **header)), FULL - pixels(dicom_file(stored)))


def test_rescale_comes_before_the_window() -> None:
    stored = np.array([[0, 500, 1000]], np.uint16)
    rescaled = pixels(
        dicom_file(stored, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=2001)
    )
    assert np.allclose(rescaled[0], [0, FULL / 2, FULL], atol=FULL / 1500)


def test_modality_lut_is_applied() -> None:
    stored = np.array([[0, 1, 2, 3]], np.uint16)
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = np.array([0, 30000, 10000, 60000], "<u2").tobytes()
    seen = pixels(dicom_file(stored, ModalityLUTSequence=[table]))
    assert np.allclose(seen[0], [0, FULL / 2, FULL / 6, FULL], atol=1)


def test_voi_lut_is_applied() -> None:
    stored = np.array([[0, 1, 2, 3]], np.uint16)
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.LUTData = np.array([0, 255, 51, 102], "<u2").tobytes()
    seen = pixels(dicom_file(stored, VOILUTSequence=[table]))
    assert seen[0].tolist() == [0, FULL, round(FULL * 51 / 255), round(FULL * 102 / 255)]


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("packed", [False, True], ids=["an entry to a word", "two entries to a word"])
def test_voi_lut_of_twelve_to_eight_bits(syntax: str, packed: bool) -> None:
    stored = drawn()
    entries = (np.arange(4096) >> 4).astype(np.uint8 if packed else np.uint16)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.LUTData = entries.view("<u2").astype(f"{order}u2").tobytes()
    seen = pixels(dicom_file(stored, syntax=syntax, VOILUTSequence=[table]))
    assert np.allclose(seen, (stored >> 4) / 255 * FULL, atol=1)


@pytest.mark.parametrize(
    "descriptor", [[4, 0, 0], [4, 0, 7], [4, 0, 17], [5, 0, 8], [0, 0, 16], [4, 0]], ids=str
)
@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_that_cannot_be_used_is_left_out(sequence: str, descriptor: list[int]) -> None:
    stored = drawn()
    table = Dataset()
    table.LUTDescriptor = descriptor
    table.LUTData = np.array([0, 255, 51, 102], "<u2").tobytes()
    assert np.array_equal(pixels(dicom_file(stored, **{sequence: [table]})), pixels(dicom_file(stored)))


def _without_data() -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.add_new("LUTData", "US", None)
    return table


@pytest.mark.parametrize(
    "header",
    [
        {"RescaleSlope": None, "RescaleIntercept": -1000},
        {"RescaleSlope": 2, "RescaleIntercept": None},
        {"RescaleSlope": 0, "RescaleIntercept": 0},
        {"ModalityLUTSequence": []},
        {"VOILUTSequence": [Dataset()]},
        {"VOILUTSequence": [_without_data()]},
        {"HighBit": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless])
def test_what_says_nothing_is_left_out(syntax: str, header: dict[str, object]) -> None:
    stored = drawn()
    file = dicom_file(stored, syntax=syntax, RescaleSlope=3, RescaleIntercept=7)
    assert np.array_equal(pixels(_changed(file, **header)), pixels(dicom_file(stored)))


@pytest.mark.parametrize("keyword", ["RescaleSlope", "WindowCenter", "PixelSpacing"])
def test_words_in_place_of_numbers_are_left_out(keyword: str) -> None:
    stored = drawn()
    usual = {"RescaleIntercept": 7, "WindowWidth": 100, keyword: "12345678"}
    file = dicom_file(stored, **usual).replace(b"12345678", b"unknown ")
    assert np.array_equal(pixels(file), pixels(dicom_file(stored)))


@pytest.mark.parametrize("value", [None, "empty"])
@pytest.mark.parametrize("keyword", ["PixelRepresentation", "SamplesPerPixel"])
@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS])
def test_one_unsigned_sample_is_what_a_header_means_that_does_not_say(
    syntax: str, keyword: str, value: str | None
) -> None:
    stored = drawn()
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.LUTData = np.arange(4096, dtype=">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    header = {"VOILUTSequence": [table], "PixelPaddingValue": 4095}
    file = dicom_file(stored, syntax=syntax, **header)
    silent = _changed(file, **{keyword: ... if value is None else None})
    assert np.array_equal(pixels(silent), pixels(file))


def test_of_two_padding_values_the_first_is_taken() -> None:
    stored = drawn()
    one = pixels(dicom_file(stored, PixelPaddingValue=int(stored.max())))
    assert np.array_equal(pixels(dicom_file(stored, PixelPaddingValue=[int(stored.max()), 0])), one)


def _changed(file: bytes, **header: object) -> bytes:
    """The file with other attributes: None empties one, `...` takes it out."""
    dataset = dcmread(io.BytesIO(file))
    for keyword, value in header.items():
        if value is ...:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if {"RescaleSlope", "RescaleIntercept"}.isdisjoint(header) and "RescaleSlope" in dataset:
        del dataset.RescaleSlope, dataset.RescaleIntercept
    changed = io.BytesIO()
    dataset.save_as(changed)
    return changed.getvalue()


def test_padding_is_black_and_does_not_stretch_the_contrast() -> None:
    stored = drawn()
    padded = stored.copy()
    padded[:, :10] = 4095
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        seen = pixels(dicom_file(padded, PixelPaddingValue=4095, PhotometricInterpretation=photometric))
        assert not seen[:, :10].any()
        assert seen[:, 10:].max() == FULL


def test_overlay_bits_above_the_stored_ones_are_ignored() -> None:
    stored = drawn()
    with_overlay = stored | (np.uint16(1) << 14)
    assert np.array_equal(pixels(dicom_file(with_overlay)), pixels(dicom_file(stored)))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
def test_signed_values(syntax: str) -> None:
    stored = drawn().astype(np.int16) - 2048
    assert np.array_equal(pixels(dicom_file(stored, syntax=syntax)), pixels(dicom_file(drawn())))


def test_colour_capture_becomes_grey() -> None:
    grey = drawn(bits=8).astype(np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    header = {"PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    assert np.abs(pixels(dicom_file(colour, **header)).astype(int) - grey).max() <= 1


def test_header_facts_travel_along() -> None:
    decoded = decode(
        dicom_file(drawn(), BodyPartExamined="HAND", ViewPosition="PA", PixelSpacing=[0.1, 0.2]),
        limits=LIMITS,
    )
    assert isinstance(decoded, Decoded)
    assert decoded.header is not None
    assert (decoded.header.body_part_examined, decoded.header.view_position) == ("HAND", "PA")
    assert decoded.header.pixel_spacing_mm == (0.1, 0.2)
    assert decoded.radiograph.polarity_known


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"SOPClassUID": CTImageStorage}, RejectionCode.UNSUPPORTED_SOP_CLASS),
        ({"SOPClassUID": DigitalXRayImageStorageForProcessing}, RejectionCode.FOR_PROCESSING),
        ({"PresentationIntentType": "FOR PROCESSING"}, RejectionCode.FOR_PROCESSING),
        ({"NumberOfFrames": 2}, RejectionCode.MULTI_FRAME),
        ({"PixelData": None}, RejectionCode.NO_PIXELS),
        ({"PixelData": b""}, RejectionCode.NO_PIXELS),
        ({"Rows": None}, RejectionCode.INVALID_HEADER),
        ({"Rows": 0}, RejectionCode.INVALID_HEADER),
        ({"BitsStored": 20}, RejectionCode.INVALID_HEADER),
        ({"BitsAllocated": 32}, RejectionCode.INVALID_HEADER),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, RejectionCode.INVALID_HEADER),
        ({"Rows": 60_000, "Columns": 60_000}, RejectionCode.TOO_LARGE),
        ({"Rows": 97}, RejectionCode.TRUNCATED),
    ],
    ids=str,
)
def test_refused_by_its_header(header: dict[str, object], code: RejectionCode) -> None:
    assert refusal(dicom_file(drawn(), **header)) is code


@pytest.mark.parametrize("name", ["heatmap", "another device"])
def test_what_we_made_is_no_radiograph(name: str) -> None:
    equipment = Dataset()
    equipment.DeviceUID = OUR_DEVICE_UID if name == "heatmap" else "2.25.1"
    file = dicom_file(
        drawn(),
        SOPClassUID=SecondaryCaptureImageStorage,
        ContributingEquipmentSequence=[Dataset(), equipment],
    )
    if name == "heatmap":
        assert refusal(file) is RejectionCode.NOT_A_RADIOGRAPH
    else:
        assert pixels(file).any()


def test_our_device_is_the_one_that_the_objects_name() -> None:
    assert OUR_DEVICE_UID == DEVICE_UID


def test_blank_radiograph_is_refused() -> None:
    assert refusal(dicom_file(np.full((64, 64), 700, np.uint16))) is RejectionCode.BLANK


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 200, b"not an image at all", b"GIF89a" + b"\0" * 200], ids=repr
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert refusal(data) in (RejectionCode.EMPTY, RejectionCode.NOT_AN_IMAGE)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGBaseline8Bit])
def test_code_stream_larger_than_it_may_be_is_not_decoded(syntax: str) -> None:
    stored = np.zeros((3000, 3000), np.uint8)
    file = dicom_file(stored, syntax=syntax)
    small = dicom_file(np.zeros((10, 10), np.uint8), syntax=syntax)
    # The header says ten by ten, the code stream is the bomb.
    stream, innocent = encoded(stored, syntax), encoded(np.zeros((10, 10), np.uint8), syntax)
    bomb = dicom_file(np.zeros((10, 10), np.uint8), syntax=syntax, PixelData=_item(stream))
    assert refusal(file) is RejectionCode.TOO_LARGE
    assert refusal(bomb) is RejectionCode.TOO_LARGE
    assert refusal(small) is RejectionCode.BLANK
    assert len(innocent) < len(stream)


def _item(stream: bytes) -> bytes:
    from pydicom.encaps import encapsulate

    return encapsulate([stream])


def test_deflate_bomb_is_not_inflated() -> None:
    file = dicom_file(drawn(), syntax=DeflatedExplicitVRLittleEndian)
    length = int.from_bytes(file[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = file[: 144 + length] + packer.compress(b"\0" * 200_000_000) + packer.flush()
    started = time.perf_counter()
    assert refusal(bomb) is RejectionCode.TOO_LARGE
    assert time.perf_counter() - started < 2


FILES = {
    syntax: dicom_file(drawn(24, 20), syntax=syntax) for syntax in (*NATIVE, *LOSSLESS, JPEGExtended12Bit)
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_file_cut_anywhere_is_a_reason_never_half_a_radiograph(syntax: str, data: st.DataObject) -> None:
    file = FILES[syntax]
    cut = data.draw(st.integers(0, len(file) - 1))
    decoded = decode(file[:cut], limits=LIMITS)
    if isinstance(decoded, Decoded):  # only what follows the pixels was lost: a delimiter or padding
        assert np.array_equal(decoded.radiograph.pixels, pixels(file))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_damaged_bytes_are_never_an_exception(syntax: str, data: st.DataObject) -> None:
    file = bytearray(FILES[syntax])
    places = st.integers(0, len(file) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        file[place] = data.draw(st.integers(0, 255))
    assert isinstance(decode(bytes(file), limits=LIMITS), Decoded | Rejection)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_real_radiograph_cut_short_is_truncated(shared_data: Path, share: float) -> None:
    for name in ("hand_kodak_cr500_j2k_lossless", "rg3_ankle_fuji_mono1_rle", "thorax_fuji_dx_small"):
        file = (shared_data / "dicom" / f"{name}.dcm").read_bytes()
        assert refusal(file[: int(share * len(file))]) is RejectionCode.TRUNCATED


def test_bytes_appended_to_the_pixels_do_no_harm() -> None:
    stored = drawn()
    assert np.array_equal(
        pixels(dicom_file(stored, PixelData=stored.tobytes() + b"\0" * 64)), pixels(dicom_file(stored))
    )


def test_real_radiograph_is_the_same_in_each_encoding(shared_data: Path) -> None:
    names = ("rle", "jlsl", "j2kr")
    files = [(shared_data / "dicom" / f"rg3_ankle_fuji_mono1_{name}.dcm").read_bytes() for name in names]
    first, second, third = (pixels(file) for file in files)
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_real_modality_lut_and_lossless_jpeg(shared_data: Path) -> None:
    seen = pixels((shared_data / "dicom" / "dental_cr_mono1_modalitylut_jpll.dcm").read_bytes())
    assert seen.shape == (1576, 1976)
    assert seen[:20].mean() < 0.2 * FULL  # unexposed border of a MONOCHROME1 film: dark once inverted
