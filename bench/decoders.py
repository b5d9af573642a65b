"""Decoders of each transfer syntax against the chosen one: `python -m bench.decoders FOLDER` (DICOM files).

Prints milliseconds for each radiograph, the best of several rounds, and whether a decoder finds the same
values; behind docs/adr/0005-decoders.md. A decoder that refuses a file is shown with its error.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from models.rejection import Rejection
from runners.decode_frame import decode_frame, reduction

_LONG_SIDE_PX: Final = 1600  # as service.decode_long_side_px
_PATIENCE_SECONDS: Final = 1.5
_CODECS: Final = {
    "JPEG 2000": imagecodecs.jpeg2k_decode,
    "JPEG-LS": imagecodecs.jpegls_decode,
    "JPEG": imagecodecs.jpeg_decode,
}

Decode = Callable[[], NDArray[Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        print(f"{path.name}: {dataset.Columns}×{dataset.Rows}, {dataset.file_meta.TransferSyntaxUID.name}")
        reference: NDArray[Any] | None = None
        for name, decode in _decoders(dataset):
            try:
                milliseconds, values = _timed(decode)
            except Exception as error:  # what a decoder raises is its answer
                print(f"  {name:34} refuses: {type(error).__name__}")
                continue
            reference = values if reference is None else reference
            same = values.shape == reference.shape and np.array_equal(values, reference)
            print(f"  {name:34}{milliseconds:8.1f} ms   {_difference(values, reference, same)}")
    return 0


def _difference(values: NDArray[Any], reference: NDArray[Any], same: bool) -> str:
    if values.shape != reference.shape:
        return f"{values.shape[1]}×{values.shape[0]}"
    return "the same values" if same else f"up to {np.abs(values.astype(int) - reference).max()} apart"


def _decoders(dataset: Dataset) -> Iterator[tuple[str, Decode]]:
    """The chosen one first, whole and reduced; then every other that is installed."""
    syntax = dataset.file_meta.TransferSyntaxUID
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1)) if syntax.is_encapsulated else None
    if frame is None:
        yield "pydicom (chosen)", lambda: pixel_array(dataset, raw=True)
        return
    yield "chosen", lambda: _chosen(frame, dataset, reduce=0)
    steps = reduction(syntax, max(dataset.Rows, dataset.Columns), _LONG_SIDE_PX)
    if steps:
        yield f"chosen, halved {steps} times", lambda: _chosen(frame, dataset, reduce=steps)
    for kind, codec in _CODECS.items():
        if syntax.name.startswith(kind + (" " if kind == "JPEG" else "")):
            yield "imagecodecs", lambda codec=codec: np.asarray(codec(frame))  # type: ignore[misc]
            break
    for plugin in get_decoder(syntax).available_plugins:
        yield (
            f"pydicom with {plugin}",
            lambda plugin=plugin: pixel_array(dataset, raw=True, decoding_plugin=plugin),  # type: ignore[misc]
        )


def _chosen(frame: bytes, dataset: Dataset, *, reduce: int) -> NDArray[Any]:
    values = decode_frame(frame, dataset, reduce=reduce)
    if isinstance(values, Rejection):
        raise ValueError(values.reason)
    return values


def _timed(decode: Decode) -> tuple[float, NDArray[Any]]:
    """Milliseconds of the best round, and the values."""
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        began = time.perf_counter()
        values = decode()
        best = min(best, time.perf_counter() - began)
    return 1000 * best, values


if __name__ == "__main__":
    sys.exit(main())
