"""Phantoms: the same seed gives the same picture, and the truth boxes hold what was planted."""

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from service.contract import IMPLEMENTATION_CLASS_UID
from skiagraph.phantom import Phantom, PhantomKind, as_dicom, draw
from tests.conftest import debian_program

KINDS = list(PhantomKind)


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again, other = (draw(PhantomKind.FRACTURE, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.truth == again.truth
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_twelve_bits_and_use_most_of_them(kind: PhantomKind) -> None:
    pixels = draw(kind, seed=1).pixels
    assert pixels.shape == (1280, 1024)
    assert pixels.dtype == np.uint16
    assert pixels.max() <= 4095
    assert np.ptp(pixels) > 2500


@pytest.mark.parametrize("seed", range(6))
def test_a_foreign_body_is_what_differs_from_the_plain_hand(seed: int) -> None:
    plain, planted = draw(PhantomKind.PLAIN, seed=seed), draw(PhantomKind.FOREIGN_BODY, seed=seed)
    (box,) = planted.truth
    # The curve saturates in metal and blur reaches 1 px or so beyond it; scatter is far weaker.
    changed = np.abs(planted.pixels.astype(int) - plain.pixels.astype(int)) > 700
    rows, columns = np.nonzero(changed)
    assert rows.size > 0
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    expected = (box.x, box.y, box.x + box.width, box.y + box.height)
    assert np.abs(np.subtract(found, expected)).max() <= 2


@pytest.mark.parametrize("seed", range(6))
def test_a_fracture_box_holds_the_dark_gap_on_a_bone(seed: int) -> None:
    plain, broken = draw(PhantomKind.PLAIN, seed=seed), draw(PhantomKind.FRACTURE, seed=seed)
    (box,) = broken.truth
    inside = (slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
    darker = plain.pixels[inside].astype(int) - broken.pixels[inside].astype(int)
    assert (darker > 300).sum() >= 20, "a line of bone is gone"
    assert 8 <= min(box.width, box.height) <= max(box.width, box.height) <= 120


def test_a_plain_hand_has_no_defect_and_the_side_mirrors_it() -> None:
    right, left = (draw(PhantomKind.PLAIN, seed=3, laterality=side) for side in ("R", "L"))
    assert right.truth == left.truth == ()

    def left_minus_right(phantom: Phantom) -> int:
        """How much farther the hand reaches to the left of the film than to the right, where the thumb is."""
        columns = np.nonzero(phantom.pixels[460:540].max(axis=0) > 1200)[0]
        return int(phantom.pixels.shape[1] - columns.min() - columns.max())

    assert left_minus_right(right) > 0 > left_minus_right(left)


@pytest.mark.parametrize(("width", "height"), [(373, 454), (2048, 2500), (640, 480)])
def test_other_sizes_keep_the_defect_on_the_film(width: int, height: int) -> None:
    for kind in (PhantomKind.FRACTURE, PhantomKind.FOREIGN_BODY):
        phantom = draw(kind, seed=2, width=width, height=height)
        assert phantom.pixels.shape == (height, width)
        (box,) = phantom.truth
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= width
        assert box.y + box.height <= height


def test_a_size_that_cannot_show_a_hand_is_refused() -> None:
    with pytest.raises(ValueError, match="32×32 px is too small"):
        draw(PhantomKind.PLAIN, seed=0, width=32, height=32)


def test_the_header_says_that_it_is_synthetic(tmp_path: Path) -> None:
    phantom = draw(PhantomKind.FRACTURE, seed=4)
    as_dicom(phantom, patient_id="DEMO-1").save_as(tmp_path / "a.dcm", enforce_file_format=True)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert "SYNTHETIC" in str(read.PatientName)
    assert "SYNTHETIC" in read.StudyDescription
    assert "Not a radiograph of a person" in read.ImageComments
    assert (read.PatientID, read.QualityControlSubject, read.ImageLaterality) == ("DEMO-1", "YES", "R")
    assert read.file_meta.ImplementationClassUID != IMPLEMENTATION_CLASS_UID
    assert np.array_equal(read.pixel_array, phantom.pixels)


def test_uids_follow_from_the_phantom_and_attributes_are_set_last() -> None:
    phantom = draw(PhantomKind.PLAIN, seed=4)
    first, again, other = as_dicom(phantom), as_dicom(phantom), as_dicom(draw(PhantomKind.PLAIN, seed=5))
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.StudyInstanceUID != other.StudyInstanceUID
    second = as_dicom(phantom, study_instance_uid="1.2.3", instance_number=2, PatientName="山田^太郎")
    assert (second.StudyInstanceUID, second.PatientName) == ("1.2.3", "山田^太郎")
    assert second.SOPInstanceUID != first.SOPInstanceUID


def test_monochrome1_shows_the_same_picture() -> None:
    phantom = draw(PhantomKind.PLAIN, seed=4)
    dataset = as_dicom(phantom, photometric="MONOCHROME1")
    assert (dataset.PhotometricInterpretation, dataset.PresentationLUTShape) == ("MONOCHROME1", "INVERSE")
    assert np.array_equal(4095 - dataset.pixel_array, phantom.pixels)


@pytest.mark.debian("dciodvfy")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dciodvfy_finds_a_valid_dx_instance(photometric: str, tmp_path: Path) -> None:
    path = tmp_path / "phantom.dcm"
    as_dicom(draw(PhantomKind.PLAIN, seed=0), photometric=photometric).save_as(path, enforce_file_format=True)
    program = debian_program("dciodvfy")
    assert program is not None
    said = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False).stderr
    assert "DXImageForPresentation" in said
    assert "Error" not in said
