"""Drawn hand radiographs with a planted, known defect: for demonstrations and tests, not to claim quality.

Everything is made by the `phantom` modules: no picture of a person is used, no model trains on them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from skiagraph.phantom_anatomy import make_hand
from skiagraph.phantom_defects import Box, box_of, choose_fracture, foreign_body, fracture_box
from skiagraph.phantom_film import expose, place_film, stamp_marker
from skiagraph.phantom_tissue import add_long_bone, add_short_bone, soft_tissue, trabeculae
from skiagraph.wrap import DxLabels, dx_instance, seeded_uid

_SOFT, _CORTEX, _MEDULLA = 0.021, 0.185, 0.026  # attenuation per mm
_METAL = 2.6  # attenuation of a foreign body


class PhantomKind(StrEnum):
    PLAIN = "plain"
    FRACTURE = "fracture"
    FOREIGN_BODY = "foreign_body"


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A drawn radiograph: pixels (h, w) uint16 of 12 bits, bright bone; truth: the planted defects."""

    pixels: NDArray[np.uint16]
    truth: tuple[Box, ...]
    kind: PhantomKind
    seed: int
    laterality: Literal["L", "R"]
    pixel_spacing_mm: float


def draw(
    kind: PhantomKind,
    *,
    seed: int,
    width: int = 1024,
    height: int = 1280,
    laterality: Literal["L", "R"] = "R",
) -> Phantom:
    """Draw one hand in posteroanterior view, fingers up; the same arguments give the same pixels.

    The same seed and another `kind` give the same hand on the same film, but for the defect.
    """
    if min(width, height) < 64:
        raise ValueError(
            f"a phantom of {width}×{height} px is too small to show a hand: ask for 64 px or more"
        )
    rng = np.random.default_rng(seed)
    anatomy_seed, film_seed, texture_seed, defect_seed = rng.integers(0, 2**31, 4)
    defect = np.random.default_rng(defect_seed)
    broken = choose_fracture(defect) if kind is PhantomKind.FRACTURE else None
    hand = make_hand(np.random.default_rng(anatomy_seed), broken)
    film = place_film(np.random.default_rng(film_seed), width, height, laterality)
    texture = np.random.default_rng(texture_seed)

    soft = soft_tissue(hand, film, texture)
    cortex, medulla = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for long_bone in hand.long_bones:
        add_long_bone(long_bone, film, cortex, medulla)
    for short_bone in hand.short:
        add_short_bone(short_bone, film, cortex, medulla)
    texture_of_bone = trabeculae(texture, film)
    attenuation = _SOFT * soft + _CORTEX * cortex + _MEDULLA * medulla * texture_of_bone

    truth: tuple[Box, ...] = ()
    if broken is not None:
        bone = hand.rays[broken[0]][broken[1]]
        truth = (fracture_box(bone, film),)
    if kind is PhantomKind.FOREIGN_BODY:
        metal = foreign_body(defect, film, soft, cortex + medulla)
        attenuation += _METAL * metal
        truth = (box_of(metal > 0.05),)

    pixels = expose(attenuation, film, texture)
    stamp_marker(pixels, film, laterality)
    return Phantom(
        pixels=pixels,
        truth=truth,
        kind=kind,
        seed=seed,
        laterality=laterality,
        pixel_spacing_mm=1 / film.px_per_mm,
    )


def as_dicom(
    phantom: Phantom,
    *,
    patient_id: str = "PHANTOM",
    patient_name: str = "PHANTOM^SYNTHETIC",
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    instance_number: int = 1,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    **attributes: Any,
) -> Dataset:
    """A DX For Presentation instance that says in its header that it is drawn.

    UIDs not given follow from kind, seed, size and side: the same phantom has the same UIDs. `attributes` are
    DICOM keywords set last, so that a test can say anything.
    """
    height, width = phantom.pixels.shape
    key = f"phantom/{phantom.kind}/{phantom.seed}/{width}x{height}/{phantom.laterality}/{photometric}"
    dataset = dx_instance(
        phantom.pixels,
        bits_stored=12,
        photometric=photometric,
        labels=DxLabels(
            patient_id=patient_id,
            patient_name=patient_name,
            study_description="SYNTHETIC PHANTOM, no patient",
            series_description=f"Drawn hand, {phantom.kind.replace('_', ' ')}",
            image_comments="Synthetic phantom drawn by software. Not a radiograph of a person.",
            derivation="Drawn by Skiagraph, seed " + str(phantom.seed),
            laterality=phantom.laterality,
            body_part="HAND",
            view_position="PA",
        ),
        study_instance_uid=study_instance_uid or seeded_uid(key + "/study"),
        series_instance_uid=series_instance_uid or seeded_uid(f"{key}/series/{study_instance_uid}"),
        sop_instance_uid=seeded_uid(f"{key}/instance/{study_instance_uid}/{instance_number}"),
        instance_number=instance_number,
        pixel_spacing_mm=phantom.pixel_spacing_mm,
    )
    dataset.QualityControlSubject = "YES"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset
